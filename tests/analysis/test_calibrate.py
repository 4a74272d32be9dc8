import dataclasses

import numpy as np
import pandas as pd
import pytest

from benchmarks import calibrate
from benchmarks.simulate import (
    OURS,
    POOLED,
    SD,
    WELCH,
    Cell,
    draw,
    judge_blocks,
    judge_each,
    simulate,
)


def row(cell, method, n_studies, seed=1):
    rows = pd.DataFrame(calibrate.run_cell(cell, n_studies, seed)).set_index("method")
    return rows.loc[method]


def test_simulated_studies_have_the_noise_they_claim():
    studies = draw(Cell(4, 3, 0.6), np.random.default_rng(0), 4000)
    table = studies.loss.reshape(4000, 5, 3)
    table = table - np.insert(studies.truth, 0, 0.0, axis=1)[:, :, None]
    assert table.std(axis=(0, 2)) == pytest.approx(np.full(5, SD), rel=0.05)
    same_seed = table.transpose(1, 0, 2).reshape(5, -1)
    assert np.corrcoef(same_seed)[0, 1] == pytest.approx(0.6, abs=0.03)


def test_differences_of_any_noise_have_effects_in_proportion_to_it():
    cell = Cell(8, 200, 0.8, "wide")
    studies = draw(cell, np.random.default_rng(1), 5)
    table = studies.loss.reshape(5, 9, 200)
    sd = (table[:, 1:] - table[:, :1]).std(axis=2)
    assert sd.max() / sd.min() > 10
    in_sd = -studies.truth[:, :4] / sd[:, :4]
    assert in_sd == pytest.approx(np.full((5, 4), in_sd.mean()), rel=0.2)
    assert (studies.truth[:, 4:] == 0).all()


def test_all_studies_at_once_are_judged_as_the_package_judges_each():
    cell = Cell(4, 3, 0.2)
    studies = draw(cell, np.random.default_rng(2), 25)
    at_once, each = judge_blocks(cell, studies), judge_each(studies)
    for name in (OURS, POOLED):
        assert (at_once[name].rejected == each[name].rejected).all()
        assert (at_once[name].covered == each[name].covered).all()


def test_one_study_is_one_of_many():
    cell = Cell(3, 4, 0.4)
    one = simulate(cell, np.random.default_rng(3))
    many = draw(cell, np.random.default_rng(3), 1, 0.05)
    assert (one.loss == many.loss[0]).all()
    assert (simulate(cell, np.random.default_rng(3), null=True).truth == 0).all()


@pytest.mark.parametrize(
    "cell",
    [
        Cell(8, 2, 0.4),
        Cell(4, 3, 0.0),
        Cell(8, 3, 0.8),
        Cell(8, 3, 0.8, "two arms"),
        Cell(8, 4, 0.8, "wide"),
        Cell(4, 6, 0.8, "wide"),
    ],
    ids=str,
)
def test_family_error_and_coverage_keep_their_promises(cell):
    ours = row(cell, OURS, 600)
    # Monte Carlo error 0.0089; coverage of very unequal arms falls short by some points.
    assert ours["family error"] < 0.05 + 2.6 * 0.0089
    assert ours["coverage"] > (0.89 if cell.noise == "wide" else 0.925)
    assert ours["power"] > row(cell, WELCH, 600)["power"]


def test_averaging_costs_little_where_arms_are_alike_and_finds_what_pooling_hides():
    alike, unlike = Cell(8, 6, 0.8), Cell(8, 6, 0.8, "wide")
    assert row(alike, OURS, 400)["power"] > row(alike, POOLED, 400)["power"] - 0.07
    assert row(unlike, OURS, 400)["power"] > row(unlike, POOLED, 400)["power"] + 0.08


def test_a_noisy_baseline_is_worse_for_the_pooled_rule():
    cell = Cell(8, 4, 0.0, "baseline")
    assert row(cell, OURS, 600)["family error"] < row(cell, POOLED, 600)["family error"] - 0.02


@pytest.mark.slow
def test_planned_looks_hold_the_family_error_that_peeking_does_not():
    planned, naive = calibrate.run_sequential(4, (2, 3, 4), 0.4, 150, seed=2)
    assert planned["family error"] <= 0.05 + 2.6 * 0.018
    assert naive["family error"] > planned["family error"]
    assert planned["power"] > 0.5
    assert planned["seeds of a real arm"] < 4


def test_the_command_writes_its_page(tmp_path, monkeypatch):
    cells = [Cell(4, 2, 0.4), Cell(4, 3, 0.8, "baseline")]
    monkeypatch.setattr(calibrate, "grid", lambda: iter(cells))
    monkeypatch.setattr(calibrate, "LOOKS", ((4, (2, 3), 0.4),))
    out = tmp_path / "calibration.md"
    assert calibrate.main(["--studies", "20", "--out", str(out)]) == 0
    text = out.read_text()
    assert "baseline of fourfold variance" in text
    assert "naive peeking" in text
    assert "--studies 20 --seed 20261123" in text


def test_cells_above_the_level_by_more_than_chance_are_counted():
    rows = pd.DataFrame(calibrate.run_cell(Cell(4, 2, 0.0), 20, 1))
    raised = rows.assign(**{"family error": 0.5})
    assert len(calibrate.too_many_errors(raised, 1000)) == 1
    assert not len(calibrate.too_many_errors(rows.assign(**{"family error": 0.06}), 1000))
    assert dataclasses.replace(Cell(4, 2, 0.0), n=3).K == 3
