"""What spreadsheets hold besides runs: summaries, merged cells, percentages."""

import pandas as pd
import pytest

from analysis import AnalysisError, compare
from tests.analysis.test_other_tables import ARMS_WIDE, LONG, RUNS, SEEDS_WIDE


@pytest.mark.parametrize(
    ("table", "line"),
    [
        (LONG + "Average,,3.27\nstd,,0.05\n", r"line 10 \(Average\), line 11 \(std\)"),
        ("arm,test_loss\na,3.1\na,3.2\nbaseline,3.3\nbaseline,3.4\nmean,3.25\n", r"line 6 \(mean\)"),
        (ARMS_WIDE + "Mean,3.32,3.22\n", r"line 6 \(Mean\)"),
        (ARMS_WIDE + ",3.32,3.22\n", r"line 6 \(no seed\)"),
    ],
)  # fmt: skip
def test_lines_that_sum_up_others_are_no_runs(tmp_path, table, line):
    (tmp_path / "runs.csv").write_text(table)
    with pytest.raises(AnalysisError, match=f"{line} sums up other lines"):
        compare(tmp_path / "runs.csv")


def test_an_arm_may_be_called_mean_where_its_runs_have_seeds(tmp_path):
    (tmp_path / "runs.csv").write_text(LONG.replace("muon", "mean"))
    assert {*compare(tmp_path / "runs.csv").table["arm"]} == {"baseline", "mean"}


def test_merged_cells_of_arms_are_not_read_as_the_baseline(tmp_path):
    merged = "arm,loss\nbaseline,3.3\n,3.31\nmuon,3.2\n,3.21\n"
    (tmp_path / "runs.csv").write_text(merged)
    with pytest.raises(
        AnalysisError, match=r"blank in line 3, line 5, below baseline, muon, as in"
    ):
        compare(tmp_path / "runs.csv")
    (tmp_path / "runs.csv").write_text("arm,loss\n,3.3\n,3.31\nmuon,3.2\nmuon,3.21\n")
    assert {*compare(tmp_path / "runs.csv").table["arm"]} == {"baseline", "muon"}


def test_means_beside_the_seeds_of_a_wide_table_are_left_alone(tmp_path):
    lines = SEEDS_WIDE.splitlines()
    (tmp_path / "runs.csv").write_text(
        "\n".join([f"{lines[0]},mean,std", *(f"{at},3,1" for at in lines[1:])])
    )
    assert {*compare(tmp_path / "runs.csv").table["n"]} == {4}


def test_names_of_a_frame_s_index_are_columns():
    frame = pd.DataFrame(RUNS, columns=["arm", "seed", "test_loss"])
    indexed = compare(frame.set_index(["arm", "seed"])).table
    pd.testing.assert_frame_equal(indexed, compare(frame).table)


def test_percentages_may_have_decimal_commas(tmp_path):
    rows = "".join(f"{a};{s};{x * 10:.2f} %\n".replace(".", ",") for a, s, x in RUNS)
    (tmp_path / "runs.csv").write_text("arm;seed;loss\n" + rows)
    assert compare(tmp_path / "runs.csv").table["mean_loss"].max() == pytest.approx(33.2625)


def test_means_without_a_number_of_runs_say_what_is_missing(tmp_path):
    (tmp_path / "runs.csv").write_text("arm,loss\nbaseline,3.31 +/- 0.02\nmuon,3.2 +/- 0.01\n")
    with pytest.raises(AnalysisError, match="no column for n, the number of runs; it has"):
        compare(tmp_path / "runs.csv")
