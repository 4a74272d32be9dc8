import numpy as np
import pandas as pd
import pytest
from scipy import stats
from studies import on_disk, study

from analysis import AnalysisError, compare, noise
from analysis.runs.cell.test_set import evaluation_sampling, paired_difference
from analysis.stats.components import mls_interval, variance_components
from analysis.stats.seed_correlation import arm_correlations, seed_correlation

NESTED = pd.DataFrame(
    {
        "arm": "baseline",
        "init_seed": [0, 0, 1, 1, 2, 2, 3, 3],
        "loop_seed": [0, 1] * 4,
        "loss": [3.6915, 3.6938, 3.7042, 3.7011, 3.6811, 3.6842, 3.6975, 3.6969],
    }
)


def by_source(frame):
    return variance_components(frame).table.set_index("source")


def test_nested_repeats_give_the_published_components_and_intervals():
    table = by_source(NESTED)
    assert table.loc["init", "sd"] ** 2 == pytest.approx(7.028792e-5, rel=1e-6)
    assert table.loc["loop", "sd"] ** 2 == pytest.approx(3.10875e-6, rel=1e-6)
    assert table.loc["total", "sd"] == pytest.approx(0.00856719, rel=1e-6)
    assert table.loc["total", "ci_low"] == pytest.approx(0.00495975, rel=1e-5)
    assert table.loc["total", "ci_high"] == pytest.approx(0.0316288, rel=1e-5)
    assert table.loc["loop", "df"] == 4
    assert table.loc["loop", "note"] == ""


def test_components_do_not_depend_on_the_unit():
    once, thousand = (
        variance_components(
            pd.DataFrame({**NESTED, "loss": scale * np.array(NESTED["loss"])})
        ).table
        for scale in (1.0, 1000.0)
    )
    for name in ("sd", "ci_low", "ci_high"):
        assert thousand[name].to_numpy() == pytest.approx(1000 * once[name].to_numpy())
    assert thousand["df"].to_numpy() == pytest.approx(once["df"].to_numpy())


def test_nested_repeats_give_the_published_correlation_with_its_exact_interval():
    found = seed_correlation(NESTED["loss"], [0] * 8, NESTED["init_seed"])
    assert pytest.approx(46.2194, rel=1e-5) == found.F
    assert found.p == pytest.approx(0.00146025, rel=1e-5)
    assert found.estimate == pytest.approx(0.957645, abs=1e-6)
    assert (found.ci_low, found.ci_high) == pytest.approx((0.644860, 0.997139), abs=1e-6)


def test_the_band_of_nested_repeats_has_satterthwaites_df():
    frame = NESTED.rename(columns={"loss": "test_loss"})
    band = compare(frame).noise
    groups = NESTED.groupby("init_seed")["loss"]
    between, within = 2 * groups.mean().var(), groups.var().mean()
    parts = np.array([between * (1 / 8 + 1 / 2), within / 2])  # of the mean, and of one more run
    assert band.df == pytest.approx(parts.sum() ** 2 / (parts**2 / [3, 4]).sum(), rel=1e-3)
    assert band.half_width == pytest.approx(
        stats.t.ppf(0.975, band.df) * parts.sum() ** 0.5, rel=1e-3
    )


def test_crossed_penicillin_agrees_with_lme4(r_numbers):
    data = pd.DataFrame(r_numbers["penicillin"]["data"]).rename(
        columns={"diameter": "loss", "plate": "init_seed", "sample": "data_seed"}
    )
    table = by_source(data.assign(arm="baseline"))
    assert list(table["sd"][:3]) == pytest.approx(r_numbers["penicillin"]["sds"], rel=1e-4)
    # The textbook's figures are the variances of plate, sample and residual.
    assert list(table["sd"][:3] ** 2) == pytest.approx([0.7169051, 3.7311318, 0.3024150], rel=1e-4)


def test_dyestuff_is_the_one_way_case(r_numbers):
    data = pd.DataFrame(r_numbers["dyestuff"]["data"]).rename(
        columns={"Yield": "loss", "Batch": "init_seed"}
    )
    table = by_source(data.assign(arm="baseline"))
    assert table.loc["init", "sd"] ** 2 == pytest.approx(1764.05, rel=1e-6)
    assert table["sd"].iloc[1] ** 2 == pytest.approx(2451.25, rel=1e-6)
    # Satterthwaite's: 4215.3^2 / (2254.3^2 / 5 + 1961.0^2 / 24)
    assert table.loc["total", "df"] == pytest.approx(15.10, abs=0.01)


def test_seeds_that_vary_together_are_one_row():
    frame = pd.DataFrame({"arm": "baseline", "init_seed": range(5), "data_seed": range(5),
                          "loss": [1.0, 2.0, 4.0, 3.0, 7.0]})  # fmt: skip
    table = variance_components(frame).table
    assert list(table["source"]) == ["init + data order", "total"]
    assert table["sd"].iloc[0] == pytest.approx(frame["loss"].std())


def test_a_data_seed_that_follows_the_init_seed_is_estimated_before_it():
    rng = np.random.default_rng(4)
    sums, studies = np.zeros(3), 200
    for _ in range(studies):
        init = np.repeat(np.arange(8), 3)
        noise = [rng.normal(0, sd, size) for sd, size in ((3, 8), (5, 4), (1, 24))]
        frame = pd.DataFrame(
            {"arm": "baseline", "init_seed": init, "data_seed": init // 2, "loop_seed": [0, 1, 2] * 8,
             "loss": noise[0][init] + noise[1][init // 2] + noise[2]}
        )  # fmt: skip
        table = by_source(frame)
        assert list(table.index) == ["data order", "init", "loop", "total"]
        assert list(table["df"][:3]) == [3, 4, 16]
        assert list(table["levels"]) == [4, 8, 24, 24]
        sums += table["sd"].to_numpy()[:3] ** 2
    assert sums / studies == pytest.approx([25, 9, 1], rel=0.2)


def test_what_the_seeds_cannot_separate_is_said_and_nothing_takes_its_name():
    # In arms a and b the data seed is the arm's, in c the init seed's: nothing is left for it.
    rows = [*zip("aabbcc", [0, 1, 0, 1, 2, 3], [0, 0, 1, 1, 0, 1], strict=True)]
    frame = pd.DataFrame(rows * 3, columns=["arm", "init_seed", "data_seed"])
    frame["loop_seed"] = np.repeat([0, 1, 2], 6)
    frame["loss"] = np.random.default_rng(2).normal(0, 1, 18) + frame["init_seed"]
    table = by_source(frame)
    assert list(table.index) == ["init", "loop", "total"]
    assert list(table["df"][:2]) == [2, 13]
    assert table.loc["total", "note"] == "these seeds cannot separate data order"
    assert table.loc["total", "levels"] == 18


def test_a_data_seed_without_shuffling_is_no_source():
    frame = NESTED.assign(data_seed=[0, 1, 2, 3, 4, 5, 6, 7], data_shuffled=False)
    assert list(variance_components(frame).table["source"]) == ["init", "loop", "total"]


def test_a_negative_estimate_shows_as_zero_with_its_interval():
    frame = NESTED.assign(loss=[3.70, 3.69, 3.66, 3.71, 3.72, 3.66, 3.69, 3.71])
    row = by_source(frame).loc["init"]
    assert row["sd"] == 0
    assert row["ci_high"] > 0
    assert "below 0" in row["note"]


def test_few_levels_are_noted():
    assert "only 3 levels" in by_source(NESTED.iloc[:6]).loc["init", "note"]
    assert "levels" not in by_source(NESTED).loc["init", "note"]


def test_one_mean_square_has_the_chi_square_interval():
    low, high = mls_interval(np.array([1.0]), np.array([2.0]), np.array([10.0]))
    assert (low, high) == pytest.approx((2 * 10 / 20.48318, 2 * 10 / 3.246973), rel=1e-6)


@pytest.mark.parametrize(("end", "tail"), [(0, 0.975), (1, 0.025)])
def test_the_interval_of_a_difference_touches_zero_where_the_f_test_does(end, tail):
    df = np.array([4.0, 12.0])
    ms = np.array([stats.f.ppf(tail, *df), 1.0])
    assert mls_interval(np.array([1.0, -1.0]), ms, df)[end] == pytest.approx(0.0, abs=1e-9)


@pytest.mark.proof
@pytest.mark.parametrize(("rho", "n_loops"), [(0.3, 2), (0.8, 3)])
def test_intervals_of_components_cover_the_truth_nineteen_times_in_twenty(rho, n_loops):
    rng = np.random.default_rng(3)
    init = np.repeat(np.arange(6), n_loops)
    hits = []
    for _ in range(600):
        loss = (rng.normal(0, rho**0.5, 6)[init]) + rng.normal(0, (1 - rho) ** 0.5, len(init))
        frame = pd.DataFrame({"arm": "b", "init_seed": init, "loss": loss,
                              "loop_seed": np.tile(np.arange(n_loops), 6)})  # fmt: skip
        table = by_source(frame)
        truth = {"init": rho**0.5, "loop": (1 - rho) ** 0.5, "total": 1.0}
        hits.append([table.loc[k, "ci_low"] <= v <= table.loc[k, "ci_high"]
                     for k, v in truth.items()])  # fmt: skip
    coverage = np.mean(hits, axis=0)
    assert (coverage > 0.92).all()
    assert (coverage < 0.985).all()


@pytest.mark.slow
def test_the_correlation_s_interval_is_exact_on_an_unbalanced_design():
    rng = np.random.default_rng(4)
    arm = np.array([0] * 6 + [1] * 4 + [2] * 3)
    seed = np.array([0, 1, 2, 3, 4, 5, 0, 1, 2, 6, 0, 1, 7])
    hits = []
    for _ in range(1500):
        loss = rng.normal(0, 0.6**0.5, 8)[seed] + rng.normal(0, 0.4**0.5, len(arm))
        found = seed_correlation(loss, arm, seed)
        hits.append(found.ci_low <= 0.6 <= found.ci_high)
    assert np.mean(hits) == pytest.approx(0.95, abs=0.017)


def test_the_seeds_f_is_that_of_two_least_squares_fits():
    """Two seeds are in all 40 arms, and two in one: of these a hundredth as much is known."""
    rng = np.random.default_rng(3)
    arm = np.array([*np.repeat(np.arange(40), 2), 0, 0])
    seed = np.array([*np.tile([0, 1], 40), 2, 3])
    loss = rng.normal(0, 1, 4)[seed] + rng.normal(0, 1, len(arm))
    arms, seeds = (np.eye(x.max() + 1)[x] for x in (arm, seed))
    both = np.hstack([arms, seeds])
    rss = [np.sum((loss - X @ np.linalg.lstsq(X, loss)[0]) ** 2) for X in (arms, both)]
    rank = np.linalg.matrix_rank(both)
    df = rank - 40, len(loss) - rank
    found = seed_correlation(loss, arm, seed)
    assert pytest.approx((rss[0] - rss[1]) / df[0] / (rss[1] / df[1])) == found.F
    assert found.p == pytest.approx(stats.f.sf(found.F, *df))


def test_arms_correlations_come_with_fisher_s_interval():
    frame = study({"a": 0.0}, n=12, rho=0.9).assign(loss=lambda f: f["test_loss"])
    table = arm_correlations(frame, "baseline")
    assert list(table["arm"]) == ["a"]
    assert arm_correlations(frame[frame["arm"] == "a"], "baseline").empty
    row = table.iloc[0]
    wide = frame.pivot_table(index="init_seed", columns="arm", values="loss")
    assert row["correlation"] == pytest.approx(wide.corr().iloc[0, 1])
    assert np.arctanh(row["ci_high"]) - np.arctanh(row["correlation"]) == pytest.approx(
        1.959964 / 3
    )


# -- evaluation sampling -----------------------------------------------------------------------


def test_only_differences_on_the_same_sequences_count():
    rng = np.random.default_rng(0)
    hard = rng.normal(3.7, 1.0, 4000)
    x, y = hard + rng.normal(0, 0.1, 4000), hard + rng.normal(0.02, 0.1, 4000)
    found = paired_difference(x, y)
    assert found.se == pytest.approx(0.1 * 2**0.5 / 4000**0.5, rel=0.05)
    assert found.mean == pytest.approx(-0.02, abs=4 * found.se)


def test_clusters_of_one_sequence_change_nothing_and_large_ones_widen():
    rng = np.random.default_rng(1)
    documents = np.repeat(np.arange(100), 20)
    difference = rng.normal(0, 0.1, 100)[documents] + rng.normal(0, 0.05, 2000)
    plain = paired_difference(difference, np.zeros(2000))
    single = paired_difference(difference, np.zeros(2000), np.arange(2000))
    clustered = paired_difference(difference, np.zeros(2000), documents)
    assert single.se == pytest.approx(plain.se)
    assert clustered.se == pytest.approx(0.1 / 10, rel=0.2)
    assert clustered.n_clusters == 100
    assert clustered.se > 3 * plain.se


def test_losses_of_different_lengths_are_refused():
    with pytest.raises(AnalysisError, match="3 and 2 sequences"):
        paired_difference([1.0, 2.0, 3.0], [1.0, 2.0])


def test_evaluation_sampling_reads_the_files_beside_the_records(tmp_path):
    folder = on_disk(tmp_path / "runs", study({"a": -0.02}, n=3))
    rng = np.random.default_rng(2)
    for record in folder.rglob("record.json"):
        np.save(record.parent / "test_losses.npy", rng.normal(3.7, 0.1, 200).astype(np.float32))
    report = noise(folder)
    table = report.evaluation.set_index("arm")
    assert table.loc["a", "n_pairs"] == 3
    assert table.loc["a", "se"] == pytest.approx(0.1 * 2**0.5 / 200**0.5, rel=0.15)
    text = report.to_markdown()
    assert "evaluation sampling" in text
    assert "not known" in text
    for record in folder.rglob("record.json"):
        np.save(record.parent / "ids.npy", np.arange(200))
    ids = next(folder.rglob("ids.npy"))
    assert "not known" not in noise(folder, clusters=ids).to_markdown()
    assert "Correlation of runs" in text


@pytest.fixture
def tested_on_four_documents(tmp_path):
    """Two arms that are better: one in every document, one only in the first of four."""
    folder = on_disk(tmp_path / "runs", study({"everywhere": -0.1, "once": -0.1}, n=3))
    documents = np.repeat(np.arange(4), 25)
    for number, record in enumerate(sorted(folder.rglob("record.json"))):
        arm = record.parts[-3]
        gain = {"baseline": 0.0, "everywhere": 0.1, "once": 0.4 * (documents == 0)}[arm]
        wiggle = 0.001 * np.sin(np.arange(100) + number)
        losses = (3.7 - gain + wiggle + np.arange(100) / 100).astype(np.float32)
        np.save(record.parent / "test_losses.npy", losses)
        np.save(record.parent / "test_documents.npy", documents)
    return folder


def test_a_verdict_that_another_text_may_undo_says_so(tested_on_four_documents):
    found = compare(tested_on_four_documents)
    said = dict(zip(found.table["arm"], found.table["verdict"], strict=True))
    assert said["everywhere"].startswith("better (")
    assert said["once"].startswith("better on this text")
    assert compare(tested_on_four_documents, metric="val_loss").text is None
    # se over 4 documents whose differences are -.4, 0, 0, 0 is .1; t(.975, 3) = 3.182
    assert found.text.reach["once"] == pytest.approx(3.182 * 0.1, rel=0.02)
    assert "100 sequences of 4 documents" in found.to_markdown()


def test_a_damaged_file_of_losses_leaves_the_table_and_no_word_of_the_text(
    tested_on_four_documents,
):
    folder = tested_on_four_documents
    for file in (folder / "once").rglob("test_losses.npy"):
        file.write_bytes(b"")
    assert set(compare(folder).text.reach) == {"everywhere"}
    for file in folder.rglob("test_documents.npy"):
        file.write_bytes(b"")
    assert compare(folder).text is None


def test_without_files_there_is_no_evaluation_row():
    assert evaluation_sampling(NESTED, "baseline").empty


def test_a_single_baseline_is_told_what_to_run():
    frame = pd.DataFrame({"arm": ["baseline"], "test_loss": [3.69]})
    report = noise(frame)
    assert report.band is None
    assert "make a useful band): add their rows, with a column seed" in report.to_markdown()
    own = noise(frame.assign(folder="runs/demo/baseline/1f2e3d"))
    assert "python -m harness -m '+intervention=baseline' 'seed=range(8)'" in own.to_markdown()


@pytest.mark.parametrize("n_arms", [0, 1, 2])
def test_the_band_of_several_runs_is_told_only_where_there_are_several(n_arms):
    text = noise(study({f"a{i}": 0.0 for i in range(n_arms)}, 8)).to_markdown()
    assert ("single runs that change nothing" in text) == (n_arms > 1)
