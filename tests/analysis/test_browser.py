"""The report in a real browser: Debian's chromium, driven by playwright."""

import os
import re
import shutil
from pathlib import Path

import pandas as pd
import pytest
from full_study import EVIL, full_study

from analysis.comparison.rules import Rules
from analysis.report import write_report
from analysis.report.evidence import gather
from analysis.report.page import render
from analysis.runs.frame import Runs

BROWSER = (
    shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
)
playwright = pytest.importorskip(
    "playwright.sync_api", reason="playwright is not installed: pip install playwright"
)
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(BROWSER is None, reason="no browser found: apt-get install chromium"),
    pytest.mark.xdist_group("browser"),
]
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
LONG = "good+a_long_name_that_a_phone_has_no_room_for+same"
ARMS = {"baseline": 0.0, "good": -0.08, "same": 0.0, "bad": 0.9, "good+same": -0.05, LONG: -0.02}
CUT_OFF = """[...document.querySelectorAll('.plot svg')].flatMap((svg) => {
  const edge = svg.getBoundingClientRect();
  return [...svg.querySelectorAll('.role-axis-title text')].filter((text) => {
    const box = text.getBoundingClientRect();
    return box.left < edge.left - 1 || box.right > edge.right + 1;
  }).map((text) => text.textContent);
})"""
SCREENSHOTS = os.environ.get("REPORT_SCREENSHOTS")
"""Folder to keep the screenshots in; otherwise they go to pytest's temporary folder."""


@pytest.fixture(scope="module")
def chromium():
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=BROWSER, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def report(tmp_path_factory) -> str:
    folder = full_study(tmp_path_factory.mktemp("runs") / "browsed", ARMS, 4, completion=EVIL)
    return write_report(folder).report.as_uri()


@pytest.fixture
def page(chromium, report):
    """Return the open report; afterwards nothing may have been reported or requested."""
    context = chromium.new_context(viewport={"width": 1280, "height": 900}, color_scheme="light")
    page = context.new_page()
    heard, asked = [], []
    page.on("console", lambda m: heard.append(m.text) if m.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: heard.append(str(error)))
    page.on(
        "request",
        lambda r: (
            asked.append(r.url) if not r.url.startswith(("file:", "data:", "blob:")) else None
        ),
    )
    page.goto(report)
    yield page
    context.close()
    assert heard == []
    assert asked == []


def column(page, sheet: str, at: int) -> list[str]:
    cells = page.locator(f".sheet[data-name={sheet}] tbody tr:visible > :nth-child({at})")
    return [text.strip() for text in cells.all_inner_texts()]


def show(page, name: str):
    page.locator(f"#{name}").scroll_into_view_if_needed()
    page.wait_for_selector(f"figure[data-chart={name}] svg")
    return page.locator(f"figure[data-chart={name}]")


def test_every_chart_is_drawn_without_errors_or_outside_requests(page):
    figures = page.locator("figure.chart")
    assert figures.count() == 6
    for i in range(6):
        figures.nth(i).scroll_into_view_if_needed()
        figures.nth(i).locator("svg").wait_for()
        assert figures.nth(i).locator(".plot").get_attribute("aria-label")


def test_a_click_on_a_heading_sorts_and_says_so(page):
    heading = page.locator(".sheet[data-name=verdicts] thead button", has_text="mean")
    heading.click()
    up = [float(text) for text in column(page, "verdicts", 4)]
    assert up == sorted(up)
    assert heading.locator("..").get_attribute("aria-sort") == "ascending"
    heading.press("Enter")
    assert [float(text) for text in column(page, "verdicts", 4)] == sorted(up, reverse=True)


def test_unknown_figures_sort_last_either_way(page):
    heading = page.locator(".sheet[data-name=verdicts] thead button", has_text="p adj")
    for _ in range(2):
        heading.click()
        assert column(page, "verdicts", 7)[-1] == "–"


def test_the_filter_leaves_the_rows_that_match(page):
    page.locator(".sheet[data-name=ledger] input[type=search]").fill("good 3")
    rows = column(page, "ledger", 1)
    assert rows
    assert all("good" in row for row in rows)
    page.locator(".sheet[data-name=ledger] input[type=search]").fill("nothing like this")
    assert column(page, "ledger", 1) == []


def test_copied_markdown_is_the_table_as_shown(page):
    page.evaluate(
        "Object.defineProperty(navigator, 'clipboard',"
        " {value: {writeText: async (text) => { window.copied = text; }}})"
    )
    sheet = page.locator(".sheet[data-name=verdicts]")
    sheet.get_by_role("button", name="Copy markdown").click()
    page.wait_for_function("() => window.copied")
    lines = page.evaluate("window.copied").splitlines()
    assert lines[0].startswith("| arm | verdict | n |")
    assert re.match(r"\| good \| better \| 4 \|", lines[2])
    assert "Dunnett" in lines[-1]


def test_the_theme_follows_the_system_and_the_button(chromium, report, page):
    dark = chromium.new_context(color_scheme="dark")
    other = dark.new_page()
    other.goto(report)
    assert other.evaluate("document.documentElement.dataset.theme") == "dark"
    dark.close()
    background = "getComputedStyle(document.body).backgroundColor"
    light = page.evaluate(background)
    page.locator("#theme").press("Enter")
    assert page.evaluate(background) != light
    page.reload()
    assert page.evaluate("document.documentElement.dataset.theme") == "dark"


def test_the_keyboard_alone_opens_a_cell_and_comes_back_to_where_it_was(page):
    page.locator(".sheet[data-name=verdicts] .copy").last.focus()
    focused = "document.activeElement"
    for _ in range(40):
        page.keyboard.press("Tab")
        if page.evaluate(f"{focused}.dataset.opens || ''"):
            break
    opened = page.evaluate(f"{focused}.dataset.opens")
    page.keyboard.press("Enter")
    assert page.locator("#drawer").is_visible()
    assert page.evaluate(f"document.getElementById('drawer').contains({focused})")
    page.keyboard.press("Escape")
    assert page.evaluate(f"{focused}.dataset.opens") == opened


def test_the_curves_have_one_legend_and_their_unit(page):
    figure = show(page, "curves")
    assert figure.locator(".mark-group.role-legend").count() == 1
    assert "validation loss, nats per token" in figure.locator("svg").inner_html()


def test_samples_show_two_arms_at_two_steps(page):
    left, right = page.locator(".sample").nth(0), page.locator(".sample").nth(1)
    left.locator(".sample-arm").select_option("same")
    left.locator(".sample-step").fill("0")
    right.locator(".sample-arm").select_option("bad")
    assert "step 10 ·" in left.locator("article h3").inner_text()
    assert "step 100 ·" in right.locator("article h3").inner_text()
    page.locator("#sample-all").check()
    assert left.locator("article").count() == 3


def test_markup_in_completions_and_logs_stays_text(page):
    assert EVIL in page.locator(".sample p").first.inner_text()
    page.locator("[data-opens]").first.click()
    assert EVIL in page.locator("#drawer pre").inner_text()
    page.wait_for_timeout(200)
    assert page.evaluate("window.injected") is None


def test_the_drawer_shows_a_cell_and_closes_with_escape(page):
    page.locator(".sheet[data-name=verdicts] [data-opens]", has_text="bad").press("Enter")
    drawer = page.locator("#drawer")
    assert "bad · seed 0" in drawer.inner_text()
    assert "optim.bad" in drawer.inner_text()
    page.locator("#drawer-cell").select_option(index=2)
    assert "bad · seed 2" in drawer.inner_text()
    page.keyboard.press("Escape")
    assert not drawer.is_visible()


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


def test_an_arm_far_away_is_named_at_the_edge_of_the_band(page):
    figure = show(page, "noise_band")
    assert re.search(r"→ 3\.9", figure.locator("svg").inner_html())


@pytest.mark.parametrize(("name", "width"), [("desktop", 1280), ("phone", 390)])
def test_nothing_is_wider_than_the_screen(page, name, width, tmp_path):
    page.set_viewport_size({"width": width, "height": 844})
    for figure in page.locator("figure.chart").all():
        figure.scroll_into_view_if_needed()
        figure.locator("svg").wait_for()
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.evaluate(CUT_OFF) == []
    page.evaluate("scrollTo(0, 0)")
    folder = Path(SCREENSHOTS) if SCREENSHOTS else tmp_path
    page.screenshot(path=folder / f"report-{name}.png", full_page=True)
    assert (folder / f"report-{name}.png").stat().st_size > 50_000


def test_every_control_has_a_name(page):
    unnamed = page.evaluate(
        """() => [...document.querySelectorAll('button, select, input')].filter((e) =>
        !(e.textContent.trim() || e.ariaLabel || (e.labels && e.labels[0] && e.labels[0].textContent.trim())))
        .map((e) => e.outerHTML)"""
    )
    assert unnamed == []


def test_printing_draws_every_chart_in_light_colours(page):
    page.locator("#theme").click()
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    page.wait_for_function(
        "() => document.querySelectorAll('figure.chart:not([data-drawn])').length === 0"
    )
    assert page.evaluate("document.documentElement.dataset.theme") == "light"
    assert len(page.pdf(format="A4")) > 50_000


def test_the_live_report_reloads_and_keeps_what_the_reader_set(chromium, tmp_path):
    import threading

    from analysis.comparison.rules import Rules
    from analysis.report.watch import Live, server

    arms = {"baseline": 0.0, "good": -0.08, "bad": 0.9, "same": 0.0, "worse": 1.0, "last": 1.1}
    folder = full_study(tmp_path / "live", arms, 3, n_points=6, running=1)
    made = server(Live([str(folder)], Rules()), 0)
    thread = threading.Thread(target=made.serve_forever, daemon=True)
    thread.start()
    page = chromium.new_page()
    heard = []
    page.on("pageerror", lambda error: heard.append(str(error)))
    page.goto(f"http://127.0.0.1:{made.server_address[1]}/")
    live = "document.getElementById('live').textContent"
    page.wait_for_function(f"() => {live}.includes('1 running')")
    verdicts = page.locator(".sheet[data-name=verdicts]")
    for _ in range(2):
        verdicts.get_by_role("button", name="mean").click()
    verdicts.locator("input[type=search]").fill("a")
    page.locator("#curve-metric").select_option("train_loss")
    page.locator("#curve-arms").get_by_text("same").click()
    page.locator(".sample[data-side=left] .sample-seed").select_option("1")
    full_study(folder, arms, 3, n_points=6)
    page.wait_for_function(f"() => {live}.includes('18 complete')")
    tiles = page.locator(".tiles").inner_text()
    assert "18 / 18" in tiles
    assert re.search(r"one run\s+1M\s+parameters, 60,000 tokens", tiles)
    assert verdicts.locator("th[aria-sort=descending]").inner_text() == "mean"
    assert verdicts.locator("input[type=search]").input_value() == "a"
    assert "bad" in column(page, "verdicts", 1)
    assert "worse" not in column(page, "verdicts", 1)
    assert page.locator("#curve-metric").input_value() == "train_loss"
    assert not page.locator("#curve-arms input[value=same]").is_checked()
    assert page.locator(".sample[data-side=left] .sample-seed").input_value() == "1"
    assert heard == []
    page.close()
    made.shutdown()
    made.server_close()
    thread.join()


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_axe_finds_no_violation_of_the_accessibility_guidelines(chromium, report, theme):
    package = pytest.importorskip("axe_playwright_python", reason="axe is not installed")
    context = chromium.new_context(color_scheme=theme, bypass_csp=True)
    page = context.new_page()
    page.goto(report)
    for figure in page.locator("figure.chart").all():
        figure.scroll_into_view_if_needed()
        figure.locator("svg").wait_for()
    page.add_script_tag(path=Path(package.__file__).parent / "axe.min.js")
    found = page.evaluate("() => axe.run(document)")["violations"]
    page.locator("[data-opens]").first.click()
    found += page.evaluate("() => axe.run(document)")["violations"]
    context.close()
    assert [(v["id"], [node["target"] for node in v["nodes"]]) for v in found] == []


def test_no_name_of_an_arm_breaks_a_chart_or_runs(chromium, tmp_path):
    names = [EVIL, "$better", "__proto__", "constructor", "toString", "#0", "a|b`c'd\"e\\"]
    rows = [
        {"arm": arm, "init_seed": seed, "test_loss": 3 + 0.1 * i + 0.01 * seed + 0.001 * (seed * i)}
        for i, arm in enumerate(["baseline", *names])
        for seed in range(3)
    ]
    evidence = gather(Runs(pd.DataFrame(rows), home=tmp_path), Rules())
    (tmp_path / "report.html").write_text(render(evidence))
    page = chromium.new_page()
    heard = []
    page.on("console", lambda m: heard.append(m.text) if m.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: heard.append(str(error)))
    page.goto((tmp_path / "report.html").as_uri())
    labels = show(page, "effects").locator("svg").text_content()
    assert all(name in labels for name in names[1:])
    assert page.evaluate("() => window.injected") is None
    assert heard == []
    page.close()
