import numpy as np
import pandas as pd
import pytest

from analysis.stats.dunnett import critical_value
from benchmarks.calibrate import main, run_cell, run_sequential, verdict_of
from benchmarks.simulate import Cell, simulate, step_down_bounds


def test_simulated_studies_have_the_noise_they_claim():
    rng = np.random.default_rng(0)
    cell = Cell(4, 400, 0.6)
    study = simulate(cell, rng)
    table = study.loss.reshape(5, 400) - np.append(0.0, study.truth)[:, None]
    assert table.std(axis=1) == pytest.approx(0.015, rel=0.1)
    assert np.corrcoef(table)[0, 1] == pytest.approx(0.6, abs=0.08)


@pytest.mark.slow
@pytest.mark.parametrize(
    "cell",
    [
        Cell(8, 2, 0.4),
        Cell(4, 3, 0.0),
        Cell(8, 3, 0.8),
        Cell(4, 3, 0.4, n_baseline=8),
        Cell(8, 3, 0.8, ratio=4.0),
        Cell(8, 8, 0.8, ratio=4.0),
    ],
)
def test_coverage_family_error_and_power_keep_their_promises(cell):
    n_studies = 500
    rows = pd.DataFrame(run_cell(cell, n_studies, seed=1))
    ours = rows[rows["method"] == "ours"].iloc[0]
    # Monte Carlo error 0.0097: two points of coverage and twice that.
    assert abs(ours["pointwise"] - 0.95) < 0.02
    assert ours["simultaneous"] > 0.93 - 0.0195
    assert ours["fwer"] < 0.05 + 2.6 * 0.0097
    assert ours["power"] > rows.loc[rows["method"] == "Welch+Holm", "power"].item()
    assert verdict_of(rows, n_studies)["below best"].item() < 0.04 + 0.02


def test_interpolated_critical_values_are_the_exact_ones():
    bounds = step_down_bounds(3, 0.71, np.array([3.7, 12.3, 41.0]))
    exact = [[critical_value([0.71] * k, df) for df in (3.7, 12.3, 41.0)] for k in (3, 2, 1)]
    assert bounds == pytest.approx(np.array(exact), rel=2e-3)


@pytest.mark.slow
def test_looking_early_costs_no_family_error_and_saves_seeds():
    row = run_sequential(Cell(4, 4, 0.4), [2, 3, 4], 100, seed=2)
    assert row["fwer"] <= 0.05 + 2.6 * 0.022
    assert row["power"] > 0.8
    assert row["seeds until decided"] < 4


def test_the_command_writes_its_table(tmp_path, monkeypatch):
    from benchmarks import calibrate

    monkeypatch.setattr(calibrate, "grid", lambda: iter([Cell(4, 2, 0.4)]))
    monkeypatch.setattr(calibrate, "run_sequential", lambda *_: {"T": 4, "fwer": 0.0})
    assert main(["--studies", "20", "--out", str(tmp_path / "calibration.md")]) == 0
    text = (tmp_path / "calibration.md").read_text()
    assert "| ours" in text
    assert "--seed 20261123" in text
