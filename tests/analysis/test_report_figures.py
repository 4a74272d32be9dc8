"""Small charts of what was logged beside the losses."""

import json
from pathlib import Path

import pytest
import vl_convert
from full_study import ARMS, evidence_of, full_study

from analysis.report.curves import MOST_CHARTS, figure_charts, left_out
from analysis.report.page import render
from analysis.report.sections import sections
from analysis.report.write import figure_specs


def logged(folder: Path, arm: str, **figures: list) -> None:
    """Add figures to each line of an arm's metrics, by the line's number."""
    for file in folder.glob(f"{arm}/*/metrics.jsonl"):
        rows = [json.loads(line) for line in file.read_text().splitlines()]
        for i, row in enumerate(rows):
            row |= {name: values[i % len(values)] for name, values in figures.items()}
        file.write_text("".join(json.dumps(row) + "\n" for row in rows))


def charts(folder: Path) -> dict:
    evidence = evidence_of(folder)
    return {chart.title: chart for chart in figure_charts(evidence.curves, evidence.arms)}


def test_rate_gradients_and_clipping_are_drawn_an_arm_a_line(tmp_path) -> None:
    folder = full_study(tmp_path / "s", ARMS, 2)
    logged(folder, "good", clipped_frac=[0.5])
    found = charts(folder)
    assert list(found) == [
        "Learning rate",
        "Gradient norm, before clipping",
        "Share of steps whose gradient was clipped",
    ]
    rows = found["Learning rate"].datasets["curves"]
    assert [row["arm"] for row in rows[:1]] == ["baseline"]
    assert {row["arm"] for row in rows} == set(ARMS)
    rows = found["Share of steps whose gradient was clipped"].datasets["curves"]
    assert {(row["arm"], row["mean"], row["n"]) for row in rows} == {("good", 0.5, 2)}


@pytest.mark.thorough
def test_a_figure_with_series_has_a_chart_for_each_arm(tmp_path) -> None:
    folder = full_study(tmp_path / "s", ARMS, 2)
    for arm in ("good", "good+plain"):
        logged(
            folder, arm, **{f"good/layer {i}/expert {e}": [e] for i in (0, 10, 2) for e in (0, 1)}
        )
    found = [title for title in charts(folder) if "layer" in title]
    assert found == [f"Good/layer {i}, {arm}" for i in (0, 2, 10) for arm in ("good", "good+plain")]
    rows = charts(folder)["Good/layer 10, good"].datasets["curves"]
    assert {(row["arm"], row["mean"]) for row in rows} == {("expert 0", 0), ("expert 1", 1)}


def test_what_is_no_number_is_no_point(tmp_path) -> None:
    folder = full_study(tmp_path / "s", ARMS, 1)
    logged(folder, "good", **{"good/a": [1.0, None], "good/b": [None]})
    found = charts(folder)
    assert "Good/b" not in found
    assert {row["mean"] for row in found["Good/a"].datasets["curves"]} == {1.0}


def test_names_of_figures_are_data_on_the_page_and_in_the_files(tmp_path) -> None:
    folder = full_study(tmp_path / "s", ARMS, 1)
    evil = "$accent/<img src=x onerror=alert(1)>/{{ 7*7 }}</script>"
    logged(folder, "good", **{evil: [1.0]})
    evidence = evidence_of(folder)
    page = render(evidence)
    assert "<img src=x" not in page
    assert "{{ 7*7 }}" in page
    (name,) = [name for name in figure_specs(evidence) if "img" in name]
    assert name == "figure_02_accent_img_src_x_onerror_alert_1_good"
    assert "$accent" in vl_convert.vegalite_to_svg(figure_specs(evidence)[name])


def test_more_figures_than_fit_are_counted(tmp_path) -> None:
    folder = full_study(tmp_path / "s", ARMS, 1)
    logged(folder, "good", **{f"good/{i}": [i] for i in range(30)})
    evidence = evidence_of(folder)
    assert len(figure_charts(evidence.curves, evidence.arms)) == MOST_CHARTS
    assert left_out(evidence.curves) == "8 more figures are in the cells' metrics.jsonl."
    (part,) = [part for part in sections(evidence) if part.name == "figures"]
    assert part.text.endswith("metrics.jsonl.")
