import numpy as np
import pandas as pd
import pytest

from benchmarks.calibrate import main, run_cell, run_sequential
from benchmarks.simulate import OURS, POOLED, Cell, draw, judge, judge_each


def test_simulated_studies_have_the_noise_they_claim():
    studies = draw(Cell(4, 400, 0.6), np.random.default_rng(0), 1)
    table = studies.loss.reshape(5, 400) - np.append(0.0, studies.truth)[:, None]
    assert table.std(axis=1) == pytest.approx(0.015, rel=0.1)
    assert np.corrcoef(table)[0, 1] == pytest.approx(0.6, abs=0.08)


def test_many_studies_at_once_are_judged_as_the_package_judges_each():
    cell = Cell(4, 3, 0.4)
    studies = draw(cell, np.random.default_rng(1), 30)
    together, each = judge(cell, studies), judge_each(studies)
    for name in (OURS, POOLED):
        assert (together[name].rejected == each[name].rejected).all(), name
        assert (together[name].covered == each[name].covered).all(), name


@pytest.mark.slow
@pytest.mark.parametrize(
    "cell",
    [Cell(8, 2, 0.4), Cell(4, 3, 0.0), Cell(8, 3, 0.8, "wide"), Cell(8, 4, 0.8, "two arms"),
     Cell(4, 6, 0.4)],
)  # fmt: skip
def test_family_error_and_coverage_keep_their_promises(cell):
    rows = pd.DataFrame(run_cell(cell, 500, seed=1)).set_index("method")
    assert rows.loc[OURS, "family error"] < 0.05 + 2.6 * 0.0097
    assert rows.loc[OURS, "coverage"] > 0.95 - 2.6 * 0.0097
    assert rows.loc[OURS, "power"] > rows.loc["Welch+Holm", "power"]


@pytest.mark.proof
def test_looking_early_costs_no_family_error_and_saves_seeds():
    row = run_sequential(Cell(4, 4, 0.4), [2, 3, 4], 100, seed=2)
    assert row["family error"] <= 0.05 + 2.6 * 0.022
    assert row["power"] > 0.55  # the pooled rule has 0.8 at the last look alone
    assert row["seeds until decided"] < 4


def test_the_command_writes_its_page(tmp_path, monkeypatch):
    from benchmarks import calibrate

    cells = [Cell(4, 2, 0.4, noise) for noise in calibrate.NOISES]
    monkeypatch.setattr(calibrate, "grid", lambda: iter(cells))
    monkeypatch.setattr(calibrate, "run_sequential", lambda *_: {"T": 4, "family error": 0.0})
    assert main(["--studies", "20", "--out", str(tmp_path / "calibration.md")]) == 0
    text = (tmp_path / "calibration.md").read_text()
    assert "baseline of fourfold variance" in text
    assert "--seed 20261128" in text
