"""The live page in a real browser."""

import re
import threading

import pytest
from browser import MARKS, column, errors
from full_study import full_study

from analysis.comparison.rules import Rules
from analysis.report.watch import Live, server

pytestmark = MARKS
ARMS = {"baseline": 0.0, "good": -0.08, "bad": 0.9, "same": 0.0, "worse": 1.0, "last": 1.1}


@pytest.fixture
def watched(tmp_path):
    """Return a study with a running cell, and the address of its live report."""
    folder = full_study(tmp_path / "live", ARMS, 3, n_points=6, running=1)
    made = server(Live([str(folder)], Rules()), 0)
    thread = threading.Thread(target=made.serve_forever, daemon=True)
    thread.start()
    yield folder, f"http://127.0.0.1:{made.server_address[1]}/"
    made.shutdown()
    made.server_close()
    thread.join()


def wait_for(page, words: str) -> None:
    page.wait_for_function(
        "words => document.getElementById('live').textContent.includes(words)", arg=words
    )


def test_the_live_report_reloads_and_keeps_what_the_reader_set(chromium, watched):
    folder, address = watched
    page = chromium.new_page()
    heard = errors(page)
    page.goto(address)
    wait_for(page, "1 running")
    verdicts = page.locator(".sheet[data-name=verdicts]")
    for _ in range(2):
        verdicts.get_by_role("button", name="mean").click()
    verdicts.locator("input[type=search]").fill("ba")
    page.locator("#curve-metric").select_option("train_loss")
    page.locator("#curve-arms").get_by_text("same").click()
    page.locator(".sample[data-side=left] .sample-seed").select_option("1")
    full_study(folder, ARMS, 3, n_points=6)
    wait_for(page, "18 complete")
    tiles = page.locator(".tiles").inner_text()
    assert "18 / 18" in tiles
    assert re.search(r"one run\s+1M\s+parameters, 60,000 tokens", tiles)
    assert verdicts.locator("th[aria-sort=descending]").inner_text() == "mean"
    assert verdicts.locator("input[type=search]").input_value() == "ba"
    assert "bad" in column(page, "verdicts", 1)
    assert "worse" not in column(page, "verdicts", 1)
    assert page.locator("#curve-metric").input_value() == "train_loss"
    assert not page.locator("#curve-arms input[value=same]").is_checked()
    assert page.locator(".sample[data-side=left] .sample-seed").input_value() == "1"
    assert heard == []
    page.close()
