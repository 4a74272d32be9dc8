"""The page as one file: safe, self-contained, true to the rules, readable without colour."""

import base64
import hashlib
import json
import os
import re
from html import unescape

import pytest
from full_study import EVIL, evidence_of, full_study
from studies import study

from analysis.comparison.rules import Rules
from analysis.comparison.verdict import JUDGED
from analysis.report import theme
from analysis.report.evidence import gather
from analysis.report.page import embed, glance, javascript, render
from analysis.report.sections import sections
from analysis.runs.frame import Runs
from analysis.runs.tables import read_runs


def test_the_page_names_nothing_outside_itself(html):
    page = html.split("<script", 1)[0]
    assert not re.search(r"(src|href)\s*=\s*[\"']?(https?:)?//", page)
    policy = unescape(html)
    assert "default-src 'none'" in policy
    assert "connect-src 'none'" in policy


def test_only_the_scripts_that_the_policy_names_can_run(html):
    scripts = re.findall(r"<script>\n?(.*?)</script>", html, re.DOTALL)
    policy = re.search(r'http-equiv="Content-Security-Policy" content="(.*?)"', html)[1]
    found = [base64.b64encode(hashlib.sha256(s.encode()).digest()).decode() for s in scripts]
    assert len(found) == 6
    assert all(digest in policy.replace("&#43;", "+") for digest in found)


def test_the_policy_allows_nothing_but_the_page_s_own(html):
    policy = unescape(re.search(r'http-equiv="Content-Security-Policy" content="(.*?)"', html)[1])
    directives = dict(part.split(maxsplit=1) for part in policy.split(";"))
    scripts = directives.pop("script-src").split()
    assert all(re.fullmatch(r"'sha256-[\w+/]{43}='", script) for script in scripts)
    assert directives == {
        "default-src": "'none'", "style-src": "'unsafe-inline'", "img-src": "data: blob:",
        "connect-src": "'none'", "base-uri": "'none'", "form-action": "'none'",
    }  # fmt: skip


def test_the_charts_script_is_kept_where_there_is_a_home(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)  # as in some containers
    bundles = iter(["first", "second"])
    monkeypatch.setattr("vl_convert.javascript_bundle", lambda *_: next(bundles))
    assert javascript.__wrapped__() == "first"
    assert list(tmp_path.iterdir()) == []
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert [javascript.__wrapped__() for _ in range(2)] == ["second"] * 2


def test_markup_in_the_name_of_an_arm_is_text(tmp_path):
    name = "<b>bold</b> & <img src=x>"
    page = render(gather(Runs(study({name: -0.05}, n=4), home=tmp_path), Rules()))
    assert "&lt;b&gt;bold&lt;/b&gt; &amp; &lt;img" in page
    assert not re.search(r"<b>bold|<img src=x", page)


def test_markup_in_a_completion_never_reaches_the_page_as_markup(html):
    assert EVIL not in html
    assert "window.injected = 1" in html, "the text itself is there"
    assert "<script>window.injected" not in html
    library = html.rindex("<script>")
    assert "<img" not in html[:library], "beside the plotting library's own"


def test_embedded_data_come_back_unchanged():
    value = {"a": EVIL, "b": "\u2028<!--", "c": float("nan")}
    text = embed(value)
    assert "<" not in text
    assert json.loads(text) == {"a": EVIL, "b": "\u2028<!--", "c": None}


def test_a_study_that_has_only_begun_has_a_page(tmp_path):
    folder = full_study(tmp_path / "begun", {"baseline": 0.0, "arm": 0.0}, 1, running=2)
    evidence = evidence_of(folder)
    assert evidence.comparison is None
    html = render(evidence, live=True)
    assert "No comparison yet" in html
    assert "connect-src 'self'" in unescape(html)


def test_runs_from_a_spreadsheet_have_a_report_without_cells(tmp_path):
    evidence = gather(Runs(study({"good": -0.05}, n=4), home=tmp_path), Rules())
    html = render(evidence)
    assert 'id="samples"' not in html
    assert 'data-name="runs"' in html
    assert "better" in html


def test_a_phone_s_list_is_short_and_says_how_many_arms_there_are(tmp_path):
    arms = {f"arm{i}": -0.01 * i for i in range(10)}
    many = gather(Runs(study(arms, n=4), home=tmp_path), Rules(references=(("GPT-2", 3.0),)))
    shown = glance(many.comparison, sections(many))
    assert [arm for arm, *_ in shown.arms] == [f"arm{i}" for i in range(9, 1, -1)]
    assert '<a href="#verdicts">All 10 arms</a>' in render(many)
    single = gather(Runs(study({"a": -0.05}, n=1), home=tmp_path), Rules())
    shown = glance(single.comparison, sections(single))
    assert "CI" not in shown.heading
    assert "[" not in shown.arms[0][2]
    assert "All 1 arms" not in render(single)


def test_nothing_is_told_by_colour_alone(html):
    assert len(set(theme.SYMBOLS.values())) == len(theme.SYMBOLS)
    assert len(set(theme.SHAPES.values())) == len(theme.SHAPES)
    assert len({tuple(dash) for dash in theme.DASHES}) == len(theme.DASHES)
    assert set(theme.SYMBOLS) == set(theme.SHAPES) == set(JUDGED)
    assert {theme.css_class(kind) for kind in JUDGED} <= set(theme.LIGHT)
    assert not re.search(r'class="[^"]*(better|worse)[^"]*"[^>]*>\s*</', html)


def test_the_key_names_what_is_drawn_and_nothing_else(tmp_path, html):
    marks = set(re.findall(r'class="key (\w+)"', html))
    assert marks == {"dot", "tick", "ci", "inner", "outer", "rope"}
    alone = gather(Runs(study({}, n=3), home=tmp_path), Rules())
    assert set(re.findall(r'class="key (\w+)"', render(alone))) == {"dot", "tick", "inner", "rope"}
    chart = next(part.chart for part in sections(alone) if part.name == "noise_band")
    assert not any(word in " ".join(chart.key) for word in ("Bar", "lighter"))


@pytest.mark.thorough
@pytest.mark.parametrize(
    "rules",
    [
        Rules(metric="val_loss"),
        Rules(baseline="plain"),
        Rules(higher_is_better=True),
        Rules(variance="pooled", alpha=0.1, practical_size=0.5),
        Rules(references=(("published", 2.5),)),
    ],
    ids=["metric", "baseline", "accuracy", "pooled", "reference"],
)
def test_the_page_follows_the_rules_of_the_comparison(reported, rules):
    evidence = gather(read_runs([str(reported)]), rules)
    html = render(evidence)
    assert evidence.comparison is not None
    assert evidence.arms[0] == rules.baseline
    assert "No comparison yet" not in html


def test_an_accuracy_is_given_no_unit_of_a_loss(tmp_path):
    frame = study({"a": 0.05}, n=4).rename(columns={"test_loss": "acc"})
    frame["hours"] = [1.0 if arm == "a" else 2.0 for arm in frame["arm"]]
    frame.to_csv(tmp_path / "mine.csv", index=False)
    runs = read_runs([str(tmp_path / "mine.csv")], {"acc": "acc"})
    found = gather(runs, Rules(metric="acc", higher_is_better=True))
    assert found.title == "mine"
    assert found.plan
    assert found.noise
    page = render(found)
    data = re.search(r"<script[^>]*application/json[^>]*>(.*?)</script>", page, re.DOTALL)
    shown = re.sub(r"<script.*?</script>", "", page, flags=re.DOTALL) + data.group(1)
    assert "nats" not in shown
    assert "gain per dollar" in shown


WORDS = ("ink", "muted", "accent", "better", "worse", "same", "undecided", "converged", "rope")
LINES = ("band", *(f"series{i}" for i in range(8)))


@pytest.mark.parametrize("colours", theme.THEMES.values(), ids=theme.THEMES)
def test_every_colour_of_words_and_marks_has_enough_contrast(colours):
    for name in WORDS:
        for behind in ("card", "page"):
            assert contrast(colours[name], colours[behind]) >= 4.5, (name, behind)
    for name in LINES:
        assert contrast(colours[name], colours["card"]) >= 3.0, name
    assert contrast(colours["on_accent"], colours["accent"]) >= 4.5


def contrast(one, other):
    """Return the contrast of two #rrggbb colours, 1 to 21 (WCAG 2.2, relative luminance)."""
    darker, lighter = sorted(luminance(colour) for colour in (one, other))
    return (lighter + 0.05) / (darker + 0.05)


def luminance(colour):
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_contrast_is_that_of_the_standard():
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.478, abs=0.001)
