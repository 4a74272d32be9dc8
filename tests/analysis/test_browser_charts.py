"""The page's charts in a real browser."""

import os
import re
from pathlib import Path

import pandas as pd
import pytest
from browser import MARKS, errors, show, show_all
from full_study import EVIL

from analysis.comparison.rules import Rules
from analysis.report.evidence import gather
from analysis.report.page import render
from analysis.runs.frame import Runs

pytestmark = MARKS
CUT_OFF = """[...document.querySelectorAll('.plot svg')].flatMap((svg) => {
  const edge = svg.getBoundingClientRect();
  return [...svg.querySelectorAll('.role-axis-title text')].filter((text) => {
    const box = text.getBoundingClientRect();
    return box.left < edge.left - 1 || box.right > edge.right + 1;
  }).map((text) => text.textContent);
})"""
SCREENSHOTS = os.environ.get("REPORT_SCREENSHOTS")
"""Folder to keep the screenshots in; otherwise they go to pytest's temporary folder."""


def test_every_chart_is_drawn_without_errors_or_outside_requests(page):
    assert show_all(page) == 8
    for plot in page.locator("figure.chart .plot").all():
        assert plot.get_attribute("aria-label")


def test_the_curves_have_one_legend_and_their_unit(page):
    figure = show(page, "curves")
    assert figure.locator(".mark-group.role-legend").count() == 1
    assert "validation loss, nats per token" in figure.locator("svg").inner_html()


def test_arms_leave_and_join_the_curves_and_axes_turn_logarithmic(page):
    figure = show(page, "curves")
    lines = "[aria-roledescription='line mark'], .mark-line path"
    before = figure.locator(lines).count()
    page.locator("#curve-arms label", has_text="bad").click()
    page.wait_for_function(
        "n => document.querySelectorAll('#curves .mark-line path').length < n", arg=before
    )
    figure.locator("label", has_text="log both").click()
    page.wait_for_selector("figure[data-chart=curves][data-drawn='log both']")
    assert 0 < figure.locator(lines).count() < before


def test_an_arm_far_away_is_named_at_the_edge_of_the_band(page):
    figure = show(page, "noise_band")
    assert re.search(r"→ 3\.9", figure.locator("svg").inner_html())


@pytest.mark.parametrize(("name", "width"), [("desktop", 1280), ("phone", 390)])
def test_nothing_is_wider_than_the_screen(page, name, width, tmp_path):
    page.set_viewport_size({"width": width, "height": 844})
    show_all(page)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.evaluate(CUT_OFF) == []
    page.evaluate("scrollTo(0, 0)")
    folder = Path(SCREENSHOTS) if SCREENSHOTS else tmp_path
    page.screenshot(path=folder / f"report-{name}.png", full_page=True)
    assert (folder / f"report-{name}.png").stat().st_size > 50_000


def test_printing_draws_every_chart_in_light_colours(page):
    page.locator("#theme").click()
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    page.wait_for_function(
        "() => document.querySelectorAll('figure.chart:not([data-drawn])').length === 0"
    )
    assert page.evaluate("document.documentElement.dataset.theme") == "light"
    assert len(page.pdf(format="A4")) > 50_000


def page_of(names: list[str], folder: Path) -> str:
    """Write the report of arms of these names; return its address."""
    rows = [
        {"arm": arm, "init_seed": seed, "test_loss": 3 + 0.1 * i + 0.01 * seed + 0.001 * (seed * i)}
        for i, arm in enumerate(["baseline", *names])
        for seed in range(3)
    ]
    evidence = gather(Runs(pd.DataFrame(rows), home=folder), Rules())
    (folder / "report.html").write_text(render(evidence))
    return (folder / "report.html").as_uri()


def test_arms_whose_names_begin_alike_are_told_apart_on_a_phone(chromium, tmp_path):
    names = [f"baseline[optim.betas=0.9_0.9{digit}]" for digit in "5678"]
    page = chromium.new_page(viewport={"width": 390, "height": 844})
    page.goto(page_of(names, tmp_path))
    figure = show(page, "effects")
    labels = figure.locator("svg .role-axis-label text").all_text_contents()
    shown = [text for text in labels if text.startswith("base")]
    assert len(shown) == len(set(shown)) == len(names)
    widths = [len(text) for text in shown]
    assert max(widths) < min(map(len, names))
    page.close()


def test_no_name_of_an_arm_breaks_a_chart_or_runs(chromium, tmp_path):
    names = [EVIL, "$better", "__proto__", "constructor", "toString", "#0", "a|b`c'd\"e\\"]
    page = chromium.new_page()
    heard = errors(page)
    page.goto(page_of(names, tmp_path))
    labels = show(page, "effects").locator("svg").text_content()
    assert all(name in labels for name in names[1:])
    assert page.evaluate("() => window.injected") is None
    assert heard == []
    page.close()
