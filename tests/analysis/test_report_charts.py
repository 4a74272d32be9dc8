"""The charts: the same rows and specifications for the page, `report --figures` and `plot`."""

import re

import pytest
import vl_convert
from full_study import ARMS, full_study
from studies import one_run_among_unlike_arms, study

from analysis import Pilot, compare, noise, plan
from analysis.__main__ import main
from analysis.comparison.rules import Rules
from analysis.report.chart_effects import effects_chart, noise_band_chart
from analysis.report.chart_study import components_chart, power_chart
from analysis.report.cost import cost_chart
from analysis.report.evidence import gather
from analysis.report.write import figure_specs
from analysis.runs.frame import Runs


def figures(evidence, names: set[str]) -> dict[str, str]:
    """Return these figures of a report as SVG."""
    specs = figure_specs(evidence)
    return {name: vl_convert.vegalite_to_svg(specs[name]) for name in names}


@pytest.mark.thorough
def test_the_noise_band_has_a_dot_for_every_run_and_the_baseline_on_top(evidence):
    chart = noise_band_chart(evidence.comparison)
    assert len(chart.datasets["runs"]) == 3 * len(ARMS)
    assert {row["arm"] for row in chart.datasets["runs"] if row["at"] == 0} == {"baseline"}
    svg = vl_convert.vegalite_to_svg(figure_specs(evidence)["noise_band"])
    assert svg.count('aria-roledescription="point"') == 3 * len(ARMS)
    assert "test loss, nats per token" in svg


def test_effects_stand_where_the_table_says(evidence):
    table = evidence.comparison.table
    rows = {row["arm"]: row for row in effects_chart(evidence.comparison).datasets["effects"]}
    judged = table[table["se"].notna()]
    assert set(rows) == set(judged["arm"])
    for row in judged.to_dict("records"):
        assert all(rows[row["arm"]][name] == row[name] for name in ("delta", "ci_low", "ci_high"))


def test_sources_of_noise_are_drawn_to_scale(evidence):
    chart = components_chart(evidence.noise, Rules())
    sds = evidence.noise.components.table["sd"]
    assert [row["sd"] for row in chart.datasets["sources"]] == pytest.approx(list(sds))
    assert all(layer["encoding"]["x"]["scale"]["zero"] for layer in chart.variants["sd"]["layer"])


def test_the_power_curve_crosses_the_power_at_the_planned_seeds():
    result = plan(0.02, Pilot(0.015, 7, 0.4), 8)
    rows = power_chart(result, Rules()).datasets["power"]
    at = {row["seeds"]: row["power"] for row in rows if row["noise"] == "sd as estimated"}
    assert at[result.seeds] >= 0.8


def test_an_accuracy_is_given_no_unit_of_a_loss_in_any_figure():
    frame = study({"a": -0.03}, n=4).rename(columns={"test_loss": "accuracy"})
    found = gather(Runs(frame), Rules(metric="accuracy", higher_is_better=True))
    assert set(figure_specs(found)) == {"noise_band", "effects", "components"}
    drawn = figures(found, {"noise_band", "effects", "components"})
    assert not any("nats" in svg or "loss" in svg for svg in drawn.values())
    assert ">accuracy<" in drawn["noise_band"]
    assert "difference from baseline, accuracy" in drawn["effects"]


@pytest.mark.thorough
def test_an_arm_far_away_is_named_at_the_edge_and_does_not_squeeze_the_others():
    found = gather(Runs(study({"near": -0.03, "far": 2.0}, n=4)), Rules())
    band, effects = noise_band_chart(found.comparison), effects_chart(found.comparison)
    assert list(band.variants) == ["near the band", "all runs"]
    assert list(effects.variants) == ["near zero", "all arms"]
    domain = band.variants["near the band"]["layer"][0]["encoding"]["x"]["scale"]["domain"]
    assert domain[1] < 4
    domain = effects.variants["near zero"]["layer"][0]["encoding"]["x"]["scale"]["domain"]
    assert domain[1] < 1
    drawn = figures(found, {"noise_band", "effects"})
    assert drawn["noise_band"].count(">→ 5.") == drawn["effects"].count(">→ 2.") == 1


def test_an_interval_that_says_nothing_does_not_squeeze_what_is_known():
    frame = study({"two": -0.03, "a": -0.02, "b": -0.02, "c": -0.02, "d": -0.02}, n=2)
    frame = frame[frame["arm"].isin(["baseline", "two"]) | (frame["init_seed"] == 0)]
    found = gather(Runs(frame), Rules())
    table = found.comparison.table.set_index("arm")
    assert table.loc["a", "ci_high"] > 20
    chart = effects_chart(found.comparison)
    low, high = chart.variants["near zero"]["layer"][0]["encoding"]["x"]["scale"]["domain"]
    shown = [*table["delta"], *table.loc["two", ["ci_low", "ci_high"]]]
    assert all(low < value < high for value in shown)
    assert high < 3
    drawn = figures(found, {"effects"})["effects"]
    ends = [float(end) for end in re.findall(r'<line[^>]* x2="(-?[\d.]+)"', drawn)]
    assert max(map(abs, ends)) < 2000, "what lies far outside is drawn by no browser"
    assert sum(abs(end) > 300 for end in ends) >= 4, "the wide intervals cross the view"


def test_an_interval_without_ends_crosses_the_view_and_is_told_in_words():
    found = gather(Runs(one_run_among_unlike_arms()), Rules())
    for chart in (effects_chart(found.comparison), noise_band_chart(found.comparison)):
        nearer, *_ = chart.variants.values()
        low, high = nearer["layer"][0]["encoding"]["x"]["scale"]["domain"]
        assert high - low < 1
        assert chart.key[-1] == "once: the interval is too wide to be drawn to its ends."
    assert "once -0.1022 too wide, undecided" in effects_chart(found.comparison).summary
    drawn = figures(found, {"effects"})["effects"]
    lines = re.findall(r'<line[^>]* x2="(-?[\d.]+)"[^>]* stroke-width="2.5"', drawn)
    assert max(map(abs, map(float, lines))) == figure_specs(found)["effects"]["width"]


def test_any_name_of_an_arm_can_be_drawn():
    long = "a_name_without_an_end_" * 9
    arms = {"$x^{$": 0.0, "$better": 0.0, "_hidden": -0.05, long: 0.02, "<script>": 0.01}
    drawn = figures(gather(Runs(study(arms, n=3)), Rules()), {"noise_band", "effects"})
    for svg in (drawn["noise_band"], drawn["effects"]):
        assert all(f">{name}<" in svg for name in ("$x^{$", "$better", "_hidden", "&lt;script&gt;"))
        assert ">a_name_without_an_end" in svg
        assert f">{long}<" not in svg, "cut, so that the chart keeps its room"


def test_a_published_figure_stands_without_a_run():
    result = compare(study({"a": -0.05}, n=3), references=(("published", 3.7),))
    rows = noise_band_chart(result).datasets["arms"]
    assert sorted(row["arm"] for row in rows) == ["a", "baseline", "published"]


@pytest.mark.thorough
def test_names_in_the_cost_chart_do_not_lie_over_each_other(tmp_path):
    arms = {"baseline": 0.0} | {f"arm_{i}": 0.001 * i for i in range(30)} | {"far": 0.9}
    chart = cost_chart(compare(str(full_study(tmp_path / "many", arms, 2))))
    rows = [*chart.datasets["baseline"], *chart.datasets["arms"]]
    named = [row["label"] for row in rows if row["label"]]
    assert "far" in named
    assert len(named) < 10
    assert chart.key == (f"Names left out for want of room: {len(arms) - len(named)}.",)


def test_the_baseline_has_no_verdict_s_mark_in_the_cost_chart(evidence):
    chart = cost_chart(evidence.comparison)
    assert [row["arm"] for row in chart.datasets["baseline"]] == ["baseline"]
    assert {row["arm"] for row in chart.datasets["arms"]} == set(ARMS) - {"baseline"}
    marks = {layer["data"]["name"]: layer for layer in chart.variants["cost"]["layer"][:2]}
    assert "shape" not in marks["baseline"]["encoding"]
    assert "shape" in marks["arms"]["encoding"]


def test_the_noise_s_split_that_fails_is_a_reason_and_no_figure():
    frame = study({}, n=1)
    assert components_chart(noise(frame), Rules()) is None


@pytest.mark.slow
def test_plot_writes_the_report_s_charts_and_says_what_it_cannot_draw(tmp_path, capsys):
    folder, out = full_study(tmp_path / "runs", ARMS, 3), tmp_path / "figures"
    assert main(["plot", str(folder), "--out", str(out)]) == 0
    names = {"noise_band", "effects", "curves_train_loss", "curves_val_loss", "components", "plan",
             "cost", "speed", "figure_00_learning_rate",
             "figure_01_gradient_norm_before_clipping"}  # fmt: skip
    assert {file.name for file in out.iterdir()} == {
        f"{name}.{end}" for name in names for end in ("svg", "png")
    }
    assert all(file.read_bytes()[:4] == b"\x89PNG" for file in out.glob("*.png"))
    study({"a": -0.1}, n=1).to_csv(tmp_path / "single.csv", index=False)
    assert main(["plot", str(tmp_path / "single.csv")]) == 0
    said = capsys.readouterr().out
    assert "no figure of effects: No intervals can be given yet" in said
    assert "no figure of loss curves: No cell has logged a metric." in said
    assert not (tmp_path / "single_effects.svg").exists()


@pytest.mark.slow
def test_the_figures_of_two_tables_in_one_folder_stand_side_by_side(tmp_path, capsys):
    for name in ("first", "second"):
        study({"a": -0.02, "b": 0.0}, n=3).to_csv(tmp_path / f"{name}.csv", index=False)
        assert main(["plot", str(tmp_path / f"{name}.csv")]) == 0
    found = {path.name for path in tmp_path.glob("*.png")}
    assert {"first_effects.png", "second_effects.png", "second_noise_band.png"} <= found
    assert f"Written: {tmp_path / 'second_effects.png'}" in capsys.readouterr().out


def test_runs_without_a_baseline_have_no_figures(tmp_path, capsys):
    file = tmp_path / "mine.csv"
    study({"a": -0.02}, n=3).query("arm == 'a'").to_csv(file, index=False)
    assert main(["plot", str(file)]) == 2
    assert "no complete run of the baseline" in capsys.readouterr().err


def test_arms_whose_intervals_leave_the_nearer_view_are_named():
    frame = study({"calm": -0.01, "wild": 0.0, "once": -0.04}, n=2, sd=0.005)
    frame.loc[frame["arm"] == "wild", "test_loss"] = [3.49, 3.89]
    frame = frame[(frame["arm"] != "once") | (frame["init_seed"] == 0)]
    result = compare(frame)
    for chart in (effects_chart(result), noise_band_chart(result)):
        assert "wild: the interval goes on beyond the nearer view." in chart.key
    alike = compare(study({"calm": -0.01, "other": 0.0}, n=4))
    assert "beyond" not in str([effects_chart(alike).key, noise_band_chart(alike).key])
