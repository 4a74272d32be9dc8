import json
import sys
from pathlib import Path

import pytest

from tests.conftest import made_once

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(scope="session")
def r_numbers():
    return json.loads((Path(__file__).parent / "fixtures" / "r_numbers.json").read_text())


@pytest.fixture(scope="session")
def reported(tmp_path_factory):
    """Return a complete study's folder, with markup wherever text is free."""
    from full_study import ARMS, EVIL, full_study

    def make(folder: Path) -> None:
        full_study(folder / "reported", ARMS, 3, completion=EVIL)

    return made_once(tmp_path_factory, "runs_of_reported", make) / "reported"


@pytest.fixture(scope="session")
def evidence(reported):
    from full_study import evidence_of

    return evidence_of(reported)


@pytest.fixture(scope="session")
def html(evidence):
    from analysis.report.page import render

    return render(evidence)


@pytest.fixture(scope="module")
def chromium():
    from browser import BROWSER, FLAGS

    playwright = pytest.importorskip(
        "playwright.sync_api", reason="playwright is not installed: pip install playwright"
    )
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=BROWSER, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def report(tmp_path_factory) -> str:
    from browser import ARMS
    from full_study import EVIL, full_study, write_texts

    from analysis.report import write_report

    def make(runs: Path) -> None:
        folder = full_study(runs / "browsed", ARMS, 4, completion=EVIL)
        texts = ["One\n", EVIL, " two", " three"]
        write_texts(folder, texts, {"baseline": 0.0, "good": -0.5, "bad": 0.9})
        write_report(folder)

    runs = made_once(tmp_path_factory, "runs_of_browsed", make)
    return (runs / "browsed" / "report.html").as_uri()


@pytest.fixture
def page(chromium, report):
    """Return the open report; afterwards nothing may have been reported or requested."""
    from browser import errors

    context = chromium.new_context(viewport={"width": 1280, "height": 900}, color_scheme="light")
    page = context.new_page()
    heard, asked = errors(page), []
    own = ("file:", "data:", "blob:")
    page.on("request", lambda r: None if r.url.startswith(own) else asked.append(r.url))
    page.goto(report)
    yield page
    context.close()
    assert heard == []
    assert asked == []


@pytest.fixture
def traced(tmp_path):
    """Return a study as the harness leaves it: config, test losses, records, plan, results."""
    from studies import write_traced

    return write_traced(tmp_path / "runs" / "synthetic")
