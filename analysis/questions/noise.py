"""Everything about the noise: its band, its sources, how seeds pair, and the test set's share."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from analysis.comparison.compare import Source, read
from analysis.comparison.estimate import block_labels, estimate
from analysis.comparison.noise_band import NoiseBand, noise_band
from analysis.comparison.rules import Rules, check_rules
from analysis.errors import AnalysisError
from analysis.runs.cell.test_set import evaluation_sampling
from analysis.runs.frame import complete, how_to_get
from analysis.stats.components import TOTAL, Components, variance_components
from analysis.stats.mixed import seed_index
from analysis.stats.seed_correlation import Correlation, arm_correlations, pair_correlation
from analysis.table import Item, Table, columns, count, document, figure, interval, words
from analysis.text import DASH, p_value

ENOUGH = 4
"""With fewer baseline runs, the spread of all arms around their means is split instead."""

PAIRING_NOTE = "No interval for an arm with fewer than 4 shared seeds."
OWN_PAIRS = "The baseline's row compares its own runs, one with the next: its delta is noise."


@dataclass(frozen=True, slots=True)
class NoiseReport:
    """What `noise` found; sds and differences in nats per token."""

    runs: pd.DataFrame
    """The complete ones."""
    band: NoiseBand | None
    components: Components | None
    of: str
    """Whose runs `components` split: the baseline's, or all arms'."""
    correlation: Correlation | None
    """Of runs that share a seed, over the arms that are paired with the baseline."""
    by_arm: pd.DataFrame
    """Each arm's correlation with the baseline; see `stats.seed_correlation.arm_correlations`."""
    evaluation: pd.DataFrame
    """See `analysis.runs.cell.test_set.evaluation_sampling`."""
    notes: tuple[str, ...]

    def tables(self) -> list[Table]:
        """Return what is known of the sources, the pairing of seeds, and the test set's share."""
        made = (_component_table(self), _pairing_table(self.by_arm), _evaluation_table(self))
        return [table for table in made if table.rows]

    def to_markdown(self) -> str:
        """Return the report for a person."""
        pairing = pairing_text(self.correlation)
        band = band_text(self.band, self.runs)
        return document("Noise", band, pairing, *self.tables(), *self.notes)


def noise(
    runs: Source,
    rules: Rules | None = None,
    *,
    arms: str = "auto",
    clusters: Path | None = None,
    **changes: Any,
) -> NoiseReport:
    """Report the noise of a study.

    Parameters
    ----------
    runs
        As for `analysis.compare`; repeats with equal seeds are welcome.
    rules
        The baseline, whose runs make the band, and the metric.
    arms
        ``baseline``: split the baseline's spread; ``all``: every arm's around its mean; ``auto``:
        the baseline's if it has 4 runs.
    clusters
        ``.npy`` file with the document of each test sequence.
    **changes
        Single fields of `analysis.Rules`.

    Examples
    --------
    >>> frame = pd.DataFrame({"arm": "baseline", "init_seed": range(4),
    ...                       "test_loss": [3.69, 3.70, 3.68, 3.71]})
    >>> round(noise(frame).band.sd, 4)
    0.0129
    """
    if arms not in ("auto", "baseline", "all"):
        raise AnalysisError(f"arms is {arms!r}: allowed are auto, baseline, all")
    rules = check_rules(rules, {**changes, "allow_reruns": True})
    done, baseline = complete(read(runs, rules).frame), rules.baseline
    fitted = estimate(done, baseline)
    base = done[done["arm"] == baseline]
    only_base = arms == "baseline" or (arms == "auto" and len(base) >= ENOUGH)
    components, notes = None, []
    try:
        components = variance_components(base if only_base else done)
    except AnalysisError as error:
        notes.append(str(error))
    seeds = seed_index(block_labels(done, baseline))
    codes = done["arm"].map({arm: i for i, arm in enumerate(fitted.arms)})
    return NoiseReport(
        done,
        noise_band(done, fitted),
        components,
        baseline if only_base else "all arms",
        pair_correlation(done["loss"], codes, seeds),
        arm_correlations(done, baseline),
        evaluation_sampling(done, baseline, clusters),
        tuple(notes),
    )


def band_text(band: NoiseBand | None, runs: pd.DataFrame) -> str:
    """Return the noise band in words; of none, how these runs would have one."""
    if band is None:
        how = how_to_get(
            runs,
            "python -m harness -m '+intervention=baseline' 'seed=range(8)'",
            "add their rows, with a column seed",
        )
        return (
            "No noise band: the baseline needs two runs or more with different initialisation "
            f"seeds (8 make a useful band): {how}"
        )
    text = (
        f"One more baseline run falls in {band.mean:.4f}\u00a0±\u00a0{band.half_width:.4f} with "
        f"{100 * (1 - band.alpha):g}% probability (K = {band.K} runs, s = {band.sd:.5f}, "
        f"df {band.df:.3g}; s is the sd of the baseline's own runs)."
    )
    if band.n_arms > 1:
        text += (
            f" {band.n_arms} single runs that change nothing all fall within "
            f"±\u00a0{band.half_width_arms:.4f} (Dunnett)."
        )
    return text


def pairing_text(correlation: Correlation | None) -> str:
    """Return the correlation of same-seed runs in words."""
    if correlation is None:
        return (
            "The correlation of same-seed runs cannot be measured: no runs share an initialisation "
            "seed, or no degrees of freedom are left for the noise."
        )
    return (
        f"Correlation of runs of one initialisation seed: {correlation}, 95% CI "
        f"[{correlation.ci_low:.2f}, {correlation.ci_high:.2f}] (F = {correlation.F:.2f}, "
        f"p {p_value(correlation.p)}; {correlation.n_seeds} seeds, {correlation.n_runs} runs)."
    )


def _component_table(report: NoiseReport) -> Table:
    found = report.components
    rows = [
        [
            words(row["source"]),
            figure(row["sd"], 5),
            interval(row["ci_low"], row["ci_high"], 5, sign=False),
            count(row["levels"]),
            Item(f"{row['df']:.3g}", row["df"]),
            Item(DASH) if row["source"] == TOTAL else Item(f"{row['share']:.0%}", row["share"]),
            words(row["note"]),
        ]
        for row in (found.table.to_dict("records") if found else [])
    ]
    if rows and len(report.evaluation):
        of_these = report.evaluation["arm"] == report.of
        chosen = report.evaluation[of_these] if of_these.any() else report.evaluation
        sd = figure(math.sqrt((chosen["se"] ** 2).mean() / 2), 5)
        why = words("per run; in no row above")
        rows.append([words("evaluation sampling"), sd, *[Item(DASH)] * 4, why])
    labels = ("source", "sd", "95% CI", "levels", "df", "share of variance", "note")
    heads = columns(*labels, text=("source", "note"))
    note = f"From the runs of {report.of}; design: {found.design if found else ''}."
    return Table("components", "Where the noise comes from", heads, rows, (note,))


def _pairing_table(by_arm: pd.DataFrame) -> Table:
    rows = [
        [
            words(row["arm"]),
            count(row["n_shared"]),
            figure(row["correlation"], 2, sign=True),
            interval(row["ci_low"], row["ci_high"], 2),
        ]
        for row in by_arm.to_dict("records")
    ]
    heads = columns("arm", "shared seeds", "r with baseline", "95% CI", text=("arm",))
    notes = (PAIRING_NOTE,) if by_arm["ci_low"].isna().any() else ()
    return Table("pairing", "Do runs of one seed move together?", heads, rows, notes)


def _evaluation_table(report: NoiseReport) -> Table:
    rows = [
        [
            words(row["arm"]),
            count(row["n_pairs"]),
            figure(row["delta"], 5, sign=True),
            figure(row["se"], 5),
            count(row["n_sequences"]),
            count(row["n_clusters"]) if row["n_clusters"] else Item("not known"),
        ]
        for row in report.evaluation.to_dict("records")
    ]
    labels = ("arm", "pairs", "delta", "se of a pair", "sequences", "documents")
    heads = columns(*labels, text=("arm",))
    note = f"Alone it says only whether two checkpoints differ on this test set. {OWN_PAIRS}"
    return Table("evaluation", "What the choice of test sequences adds", heads, rows, (note,))
