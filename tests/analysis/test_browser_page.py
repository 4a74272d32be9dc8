"""The page's tables, drawer and samples in a real browser."""

import re
from pathlib import Path

import pytest
from browser import MARKS, column, place_of, show_all
from full_study import EVIL

pytestmark = MARKS


def test_a_click_on_a_heading_sorts_and_says_so(page):
    heading = page.locator(".sheet[data-name=verdicts] thead button", has_text="mean")
    place = place_of(page, "verdicts", "mean")
    heading.click()
    up = [float(text) for text in column(page, "verdicts", place)]
    assert up == sorted(up)
    assert heading.locator("..").get_attribute("aria-sort") == "ascending"
    heading.press("Enter")
    assert [float(text) for text in column(page, "verdicts", place)] == sorted(up, reverse=True)


def test_unknown_figures_sort_last_either_way(page):
    heading = page.locator(".sheet[data-name=verdicts] thead button", has_text="p adj")
    for _ in range(2):
        heading.click()
        assert column(page, "verdicts", place_of(page, "verdicts", "p adj"))[-1] == "–"


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
    assert lines[0].startswith("| arm | verdict | delta |")
    assert lines[2].startswith("| good | better (beyond practical size) | -0.0")
    assert "family error 0.05" in lines[-1]


def test_a_click_copies_effects_table_and_caption_as_a_picture(page):
    page.evaluate(
        "Object.defineProperty(navigator, 'clipboard',"
        " {value: {write: async ([item]) => { window.copied = await item.getType('image/png'); }}})"
    )
    page.locator("#picture").click()
    page.wait_for_function("() => window.copied")
    drawn = "createImageBitmap(window.copied).then((picture) => picture.width)"
    assert page.evaluate(drawn) == 2 * 1080
    text = page.evaluate("pictureSvg().then((svg) => svg.textContent)")
    for words in ("against baseline", "better (beyond practical size)", "1,000,000 parameters", "tokens",
                  "Line: the simultaneous 95% interval", "family error 0.05"):  # fmt: skip
        assert words in text
    assert page.locator(".stage").count() == 0


def test_where_copying_is_not_allowed_the_picture_is_saved(page):
    page.evaluate("Object.defineProperty(navigator, 'clipboard', {value: undefined})")
    with page.expect_download() as saved:
        page.locator("#picture").click()
    assert saved.value.suggested_filename == "browsed.png"
    assert saved.value.path().read_bytes().startswith(b"\x89PNG")


def test_on_a_phone_arm_verdict_difference_and_interval_are_on_screen(page):
    page.set_viewport_size({"width": 390, "height": 844})
    sheet = page.locator(".sheet[data-name=verdicts]")
    for heading in ("arm", "verdict", "delta", "95% CI"):
        place = place_of(page, "verdicts", heading)
        box = sheet.locator(f"tbody tr:first-child > :nth-child({place})").bounding_box()
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= 390 - 20


def test_a_phone_s_first_screen_has_the_first_arms_verdicts_and_intervals(page):
    page.set_viewport_size({"width": 390, "height": 844})
    page.reload()
    arms = page.locator(".glance li")
    assert arms.first.inner_text().split("\n")[0] == "good"
    assert re.search(r"-0\.0\d+ \[-0\.\d+, -0\.\d+\]", arms.first.inner_text())
    assert arms.count() == 5
    assert "✗ worse (beyond practical size)" in arms.last.inner_text()
    for arm in arms.all():
        box = arm.bounding_box()
        assert box["y"] + box["height"] <= 844
        assert box["x"] + box["width"] <= 390
    assert page.locator("#effects h2").bounding_box()["y"] < 1000
    assert not page.locator(".tiles").is_visible()
    page.locator("#setting > summary").click()
    assert page.locator(".tiles").is_visible()


def test_a_wide_screen_has_the_setting_open_and_the_effects_below_it(page):
    assert not page.locator(".glance").is_visible()
    assert page.locator(".tiles").is_visible()
    assert page.locator("#effects h2").bounding_box()["y"] < 900
    page.set_viewport_size({"width": 390, "height": 844})
    page.locator(".glance").wait_for()
    page.set_viewport_size({"width": 1280, "height": 900})
    page.locator(".tiles").wait_for()


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


def test_every_control_has_a_name(page):
    unnamed = page.evaluate(
        """() => [...document.querySelectorAll('button, select, input')].filter((e) =>
        !(e.textContent.trim() || e.ariaLabel || (e.labels && e.labels[0] && e.labels[0].textContent.trim())))
        .map((e) => e.outerHTML)"""
    )
    assert unnamed == []


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_axe_finds_no_violation_of_the_accessibility_guidelines(chromium, report, theme):
    package = pytest.importorskip("axe_playwright_python", reason="axe is not installed")
    context = chromium.new_context(color_scheme=theme, bypass_csp=True)
    page = context.new_page()
    page.goto(report)
    show_all(page)
    page.add_script_tag(path=Path(package.__file__).parent / "axe.min.js")
    found = page.evaluate("() => axe.run(document)")["violations"]
    page.locator("[data-opens]").first.click()
    found += page.evaluate("() => axe.run(document)")["violations"]
    context.close()
    assert [(v["id"], [node["target"] for node in v["nodes"]]) for v in found] == []


def test_tokens_are_coloured_by_the_difference_of_two_arms_and_stay_text(page):
    spans = page.locator("#token-shown span")
    assert spans.all_inner_texts()[1] == EVIL
    assert page.evaluate("window.injected") is None
    assert page.locator("#token-arm").input_value() == "good"
    assert [span.get_attribute("class") for span in spans.all()] == ["", "", "", "lower by2"]
    plain, lower = (
        spans.nth(i).evaluate("s => getComputedStyle(s).backgroundColor") for i in (2, 3)
    )
    assert plain != lower
    page.locator("#token-arm").select_option("bad")
    assert spans.last.get_attribute("class") == "higher by2"
    assert spans.last.get_attribute("title") == '" three": 3.400 against 2.500, +0.900 nats'
    said = page.locator("#token-said").inner_text()
    assert "bad 1.600 (mean of 2 runs), baseline 1.375 (mean of 2 runs), difference +0.225" in said
    assert page.locator("#token-largest tbody th").first.inner_text() == '" three"'
