"""Curves along training: averaged, thinned, cut where an arm diverged, drawn as files."""

import json
import re

import pytest
import vl_convert
from full_study import ARMS, end_as, evidence_of, full_study

from analysis.report.curves import curves_chart, thin
from analysis.report.page import render
from analysis.report.sections import sections
from analysis.report.write import figure_specs
from harness.records import Status


def test_a_figure_of_curves_says_which_line_is_which_arm(evidence):
    for name, spec in figure_specs(evidence).items():
        if name.startswith("curves"):
            assert spec["layer"][0]["encoding"]["y"]["scale"]["type"] == "log"
            svg = vl_convert.vegalite_to_svg(spec)
            legend = svg[svg.index("role-legend") :]
            assert all(f">{arm}</text>" in legend for arm in evidence.arms), name
            dashes = re.findall(r'stroke-dasharray="(.*?)"', legend)
            assert len(set(dashes)) == len(evidence.arms), "told apart without colour"


def test_a_figure_of_the_first_curves_alone_says_so(evidence, monkeypatch):
    monkeypatch.setattr("analysis.report.write.MOST_LINES", 2)
    keys = [spec["title"]["subtitle"] for name, spec in figure_specs(evidence).items()
            if name.startswith("curves")]  # fmt: skip
    assert keys
    assert all(lines[0].endswith("The first 2 of 4 arms.") for lines in keys)


def test_curves_average_the_seeds_and_show_their_range(evidence):
    curves = {curve.arm: curve for curve in evidence.curves.by_metric["train_loss"]}
    assert set(curves) == set(ARMS)
    curve = curves["good"]
    assert curve.n == 3
    assert all(
        low <= mean <= high
        for low, mean, high in zip(curve.low, curve.mean, curve.high, strict=True)
    )
    assert curve.tokens == sorted(curve.tokens)


def test_long_curves_are_thinned_and_the_page_says_so(tmp_path):
    folder = full_study(tmp_path / "long", {"baseline": 0.0}, 2, n_points=900)
    evidence = evidence_of(folder)
    curve = evidence.curves.by_metric["train_loss"][0]
    assert len(curve.mean) == 200
    assert curve.step[-1] == 9000
    assert "thinned to at most 200 points" in render(evidence)


def test_thinning_keeps_both_ends_and_invents_nothing():
    kept = thin(range(1000), 17)
    assert (len(kept), kept[0], kept[-1]) == (17, 0, 999)
    assert kept == sorted(set(kept))


@pytest.mark.thorough
def test_a_diverged_arm_does_not_stretch_the_loss_axis(tmp_path):
    folder = full_study(tmp_path / "wild", ARMS, 3)
    for seed in range(3):
        place = end_as(folder, "plain", seed, Status.DIVERGED)
    calm = curves_chart(evidence_of(folder).curves, "train_loss").variants["linear"]
    assert all("domainMax" not in layer["encoding"]["y"]["scale"] for layer in calm["layer"])
    file = place / "metrics.jsonl"
    rows = [json.loads(line) | {"train_loss": 2e11} for line in file.read_text().splitlines()]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    wild = evidence_of(folder)
    assert wild.curves.top("val_loss") is None
    for spec in curves_chart(wild.curves, "train_loss").variants.values():
        assert all(layer["encoding"]["y"]["scale"]["domainMax"] < 100 for layer in spec["layer"])
    text = next(part for part in sections(wild) if part.name == "curves").text
    assert "plain went beyond it" in text


def test_a_diverged_run_is_in_no_curve_of_an_arm_with_others(tmp_path):
    folder = full_study(tmp_path / "partly", ARMS, 3)
    end_as(folder, "plain", 0, Status.DIVERGED)
    curves = evidence_of(folder).curves.by_metric["train_loss"]
    assert {curve.arm: curve.n for curve in curves} == dict.fromkeys(ARMS, 3) | {"plain": 2}


def test_a_figure_s_curves_are_the_means_of_the_seeds_in_the_table_s_order(evidence):
    specs = figure_specs(evidence)
    rows = specs["curves_train_loss"]["datasets"]["curves"]
    assert list(dict.fromkeys(row["arm"] for row in rows)) == evidence.arms
    curve = {curve.arm: curve for curve in evidence.curves.by_metric["train_loss"]}["good"]
    assert [row["mean"] for row in rows if row["arm"] == "good"] == curve.mean
    title = specs["curves_train_loss"]["layer"][0]["encoding"]["y"]["title"]
    assert title == "training loss, nats per token"
