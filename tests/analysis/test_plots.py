import json

import pytest
from studies import on_disk, study

from analysis import AnalysisError, Pilot, compare, noise, plan
from analysis.__main__ import main
from analysis.comparison.rules import Rules
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
    assert "nats per token" in axes.get_ylabel()


def test_effects_stand_where_the_table_says(folder):
    result = compare(folder)
    axes = effects_figure(result).axes[0]
    drawn = {float(line.get_xdata()[0]) for line in axes.lines if len(line.get_xdata()) == 1}
    assert set(result.table.loc[result.table["se"].notna(), "delta"]) <= drawn
    assert "nats per token" in axes.get_xlabel()


def test_effects_without_intervals_are_refused():
    with pytest.raises(AnalysisError, match="no arm has an interval"):
        effects_figure(compare(study({"a": -0.1}, n=1)))


def test_components_are_drawn_to_scale(folder):
    report = noise(folder)
    bars = components_figure(report, Rules()).axes[0].patches
    sds = report.components.table["sd"]
    assert sorted(bar.get_width() for bar in bars) == pytest.approx(sorted(sds))


def test_the_power_curve_crosses_the_power_at_the_planned_seeds():
    result = plan(0.02, Pilot(0.015, 7, 0.4), 8)
    line = power_figure(result).axes[0].lines[0]
    at = dict(zip(line.get_xdata(), line.get_ydata(), strict=True))
    assert at[result.seeds] >= 0.8


def test_loss_curves_average_the_seeds(folder):
    figure = loss_curves_figure(compare(folder).runs, ["a"])
    assert list(figure.axes[0].lines[0].get_ydata()) == pytest.approx([3.9, 3.8, 3.7, 3.6, 3.5])
    with pytest.raises(AnalysisError, match=r"no run has .*val_loss, train_loss"):
        loss_curves_figure(compare(folder).runs, ["a"], "accuracy")


def test_an_accuracy_is_given_no_unit_of_a_loss():
    rules = Rules(metric="accuracy", higher_is_better=True)
    frame = study({"a": -0.03}, n=4).rename(columns={"test_loss": "accuracy"})
    result = compare(frame, rules)
    figures = [
        noise_band_figure(result),
        effects_figure(result),
        components_figure(noise(frame, metric="accuracy"), rules),
        power_figure(plan(0.02, Pilot(0.015, 7, 0.4, unit=""), 8)),
    ]
    labels = [f"{fig.axes[0].get_xlabel()} {fig.axes[0].get_ylabel()}" for fig in figures]
    assert not any("nats" in label or "loss" in label for label in labels)
    assert "accuracy" in labels[0]
    assert "accuracy" in labels[1]


def test_an_arm_far_away_is_named_at_the_edge_and_does_not_squeeze_the_others():
    result = compare(study({"near": -0.03, "far": 2.0}, n=4))
    axes = noise_band_figure(result).axes[0]
    assert axes.get_ylim()[1] < 4
    assert [text.get_text()[0] for text in axes.texts] == ["↑"]
    axes = effects_figure(result).axes[0]
    assert axes.get_xlim()[1] < 1
    assert [text.get_text()[0] for text in axes.texts] == ["→"]


def test_any_name_of_an_arm_can_be_drawn(tmp_path):
    long = "a_name_without_an_end_" * 9
    arms = {"$x^{$": 0.0, "a$b$": 0.0, "_hidden": -0.05, long: 0.02, "<script>": 0.01, "a|b": 0.03}
    result = compare(study(arms, n=3))
    for figure in (noise_band_figure(result), effects_figure(result)):
        figure.savefig(tmp_path / "any.png")
        axes = figure.axes[0]
        names = [t.get_text() for t in (*axes.get_xticklabels(), *axes.get_yticklabels())]
        assert r"\$x^{\$" in names  # a name, not mathematics
        assert max(map(len, names)) < 50
        assert axes.bbox.width > 0.3 * figure.bbox.width


def test_a_published_figure_stands_without_a_run():
    result = compare(study({"a": -0.05}, n=3), references=(("published", 3.7),))
    names = [t.get_text() for t in noise_band_figure(result).axes[0].get_xticklabels()]
    assert sorted(names) == ["a", "baseline", "published"]


def test_curves_are_of_the_arms_asked_for_in_that_order(folder):
    runs = compare(folder).runs
    axes = loss_curves_figure(runs, ["b", "none", "baseline"]).axes[0]
    names = [text.get_text().strip() for text in axes.get_legend().get_texts()]
    assert names == ["b (n = 4)", "baseline (n = 4)"]
    assert axes.get_ylabel() == "training loss, nats per token"


def test_the_command_writes_png_files(folder, tmp_path):
    assert main(["plot", str(folder), "--out", str(tmp_path / "figures")]) == 0
    files = {file.name for file in (tmp_path / "figures").iterdir()}
    assert files == {"noise_band.png", "effects.png", "loss_curves.png", "components.png"}
    assert all((tmp_path / "figures" / name).read_bytes()[:4] == b"\x89PNG" for name in files)


def test_the_figures_of_two_tables_in_one_folder_stand_side_by_side(tmp_path, capsys):
    for name in ("first", "second"):
        study({"a": -0.02, "b": 0.0}, n=3).to_csv(tmp_path / f"{name}.csv", index=False)
        assert main(["plot", str(tmp_path / f"{name}.csv")]) == 0
    found = {path.name for path in tmp_path.glob("*.png")}
    assert {"first_effects.png", "second_effects.png", "second_noise_band.png"} <= found
    assert f"Written: {tmp_path / 'second_effects.png'}" in capsys.readouterr().out
