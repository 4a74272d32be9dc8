import json

import pytest
from studies import on_disk, study

from analysis import AnalysisError, Pilot, compare, plan
from analysis.__main__ import main
from analysis.components import variance_components
from analysis.plots import (
    components_figure,
    effects_figure,
    loss_curves_figure,
    noise_band_figure,
    power_figure,
)


@pytest.fixture
def folder(tmp_path):
    folder = on_disk(tmp_path / "runs", study({"a": -0.03, "b": 0.0}, n=4))
    for record in folder.rglob("record.json"):
        lines = [{"step": s, "tokens": 100 * s, "train_loss": 4 - 0.1 * s} for s in range(1, 6)]
        (record.parent / "metrics.jsonl").write_text("".join(json.dumps(x) + "\n" for x in lines))
    return folder


def test_the_noise_band_has_a_dot_for_every_run_and_the_baseline_left(folder):
    figure = noise_band_figure(compare(folder))
    axes = figure.axes[0]
    assert (
        sum(
            len(dots.get_offsets())
            for dots in axes.collections
            if len(dots.get_offsets())
            and dots.get_offsets().shape[1] == 2
            and hasattr(dots, "get_sizes")
        )
        == 12
    )
    assert axes.get_xticklabels()[0].get_text() == "baseline"
    assert "nats/token" in axes.get_ylabel()


def test_effects_stand_where_the_table_says(folder):
    result = compare(folder)
    axes = effects_figure(result).axes[0]
    drawn = {float(line.get_xdata()[0]) for line in axes.lines if len(line.get_xdata()) == 1}
    assert set(result.table.loc[result.table["se"].notna(), "delta"]) <= drawn
    assert "nats/token" in axes.get_xlabel()


def test_effects_without_intervals_are_refused():
    with pytest.raises(AnalysisError, match="no arm has an interval"):
        effects_figure(compare(study({"a": -0.1}, n=1)))


def test_components_are_drawn_to_scale(folder):
    runs = compare(folder).runs
    components = variance_components(runs[runs["status"] == "complete"])
    bars = components_figure(components).axes[0].patches
    assert sorted(bar.get_width() for bar in bars) == pytest.approx(sorted(components.table["sd"]))


def test_the_power_curve_crosses_the_power_at_the_planned_seeds():
    result = plan(0.02, Pilot(0.015, 7, 0.4), 8)
    line = power_figure(result).axes[0].lines[0]
    at = dict(zip(line.get_xdata(), line.get_ydata(), strict=True))
    assert at[result.seeds] >= 0.8


def test_loss_curves_average_the_seeds(folder):
    figure = loss_curves_figure(compare(folder).runs, ["a"])
    assert list(figure.axes[0].lines[0].get_ydata()) == pytest.approx([3.9, 3.8, 3.7, 3.6, 3.5])
    with pytest.raises(AnalysisError, match=r"no metrics\.jsonl"):
        loss_curves_figure(compare(folder).runs, ["a"], "accuracy")


def test_the_command_writes_png_files(folder, tmp_path):
    assert main(["plot", str(folder), "--out", str(tmp_path / "figures")]) == 0
    files = {file.name for file in (tmp_path / "figures").iterdir()}
    assert files == {"noise_band.png", "effects.png", "loss_curves.png", "components.png"}
    assert all((tmp_path / "figures" / name).read_bytes()[:4] == b"\x89PNG" for name in files)
