"""The README's results are those of `make study`."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from analysis import compare
from harness.model import build, count_parameters
from tests.analysis.studies import study
from tests.configs import load
from tests.conftest import REPOSITORY

README = (REPOSITORY / "README.md").read_text()
(RESULTS,) = re.findall(r"<!-- results:.*?<!-- /results -->", README, re.DOTALL)
ROWS = [line for line in RESULTS.splitlines() if line.startswith("|")]
FIGURE = REPOSITORY / re.search(r"!\[.*?\]\((.*?)\)", RESULTS)[1]
MADE_WITH = (3, 11, 7)
"""The Python whose prose the table's models were trained on."""


def cells(row: str) -> list[str]:
    return [cell.strip() for cell in row.strip("|").split("|")]


def numbers(row: str) -> list[float]:
    return [float(number) for number in re.findall(r"[-+]?\d+\.\d+", row)]


def test_the_results_are_of_the_demo_s_arms_and_seeds_in_the_table_s_columns() -> None:
    plan = yaml.safe_load((REPOSITORY / "conf" / "study" / "demo.yaml").read_text())["study"]
    header, _, *rows = map(cells, ROWS)
    assert sorted(row[0] for row in rows) == sorted(plan["arms"])
    assert {row[1] for row in rows} == {str(plan["seeds"])}
    frame = study({"a": -0.02}, n=4).assign(tokens=100, published_delta=-0.1)
    printed = compare(frame, rope=plan["practical_size"]).to_markdown()
    now = cells(next(line for line in printed.splitlines() if line.startswith("|")))
    assert [name for name in header if name != "tokens"] == now
    assert [row[2] for row in rows] == sorted(row[2] for row in rows)


def test_make_study_trains_and_judges_the_demo() -> None:
    makefile = (REPOSITORY / "Makefile").read_text()
    target = re.search(r"^study:.*?\n\n", makefile, re.DOTALL | re.MULTILINE)[0]
    commands = re.findall(r"-m (.*)", target)
    assert commands == ["harness +study=demo", "analysis runs/demo", "analysis report runs/demo"]


def test_make_test_runs_all_tests_but_the_proofs() -> None:
    makefile = (REPOSITORY / "Makefile").read_text()
    for target, chosen in (("test", "not proof"), ("proof", "proof")):
        recipe = re.search(rf"^{target}: .*\n\t(.*)$", makefile, re.MULTILINE)[1]
        assert recipe.endswith(f"-m {chosen}" if chosen == "proof" else f"-m '{chosen}'")
        assert " tests/" not in recipe


def test_the_demo_is_as_large_as_the_page_says() -> None:
    config = load(["scale=demo"])
    n_params = count_parameters(build(config.model))
    assert f"a byte-level GPT of {n_params / 1e6:.1f}M parameters" in README
    assert f"{n_params / 1e6:.1f}M-parameter model after {config.train.tokens:,} bytes" in README


def test_the_published_study_has_the_arms_and_seeds_of_the_page() -> None:
    file = REPOSITORY / "conf" / "study" / "published.yaml"
    plan = yaml.safe_load(file.read_text())["study"]
    assert f"# {len(plan['arms'])} arms, {plan['baseline_seeds']} baseline seeds" in README
    assert plan["seeds"] == 1


@pytest.mark.proof
@pytest.mark.skipif(sys.version_info[:3] != MADE_WITH, reason="another Python has another prose")
def test_the_results_and_their_figure_are_what_the_study_gives_now(tmp_path: Path) -> None:
    outputs = [
        subprocess.run(
            [sys.executable, "-m", *words.split()],
            cwd=tmp_path, capture_output=True, text=True, check=True,
        ).stdout
        for words in ("harness +study=demo", "analysis runs/demo", "analysis report runs/demo --figures")
    ]  # fmt: skip
    rows = [line for line in outputs[1].splitlines() if line.startswith("|")]
    assert [(cells(row)[0], cells(row)[-1]) for row in rows] == [
        (cells(row)[0], cells(row)[-1]) for row in ROWS
    ]
    for now, shown in zip(rows, ROWS, strict=True):
        losses = [numbers(" ".join(cells(row)[2:5])) for row in (now, shown)]
        assert losses[0] == pytest.approx(losses[1], abs=0.002)
    drawn = (tmp_path / "runs" / "demo" / "figures" / "noise_band.svg").read_text()
    words = [re.findall(r"<text[^>]*>([^<]*)<", svg) for svg in (drawn, FIGURE.read_text())]
    assert words[0] == words[1]
