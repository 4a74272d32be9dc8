"""Everything about the noise: its band, its sources, how seeds pair, and the test set's share."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from analysis.comparison.compare import Source, read
from analysis.comparison.estimate import block_labels, estimate
from analysis.comparison.noise_band import NoiseBand, noise_band
from analysis.comparison.rules import check_rules
from analysis.errors import AnalysisError
from analysis.questions.test_set_noise import evaluation_sampling
from analysis.runs.frame import complete
from analysis.stats.components import TOTAL, Components, variance_components
from analysis.stats.mixed import seed_index
from analysis.stats.seed_correlation import Correlation, arm_correlations, seed_correlation
from analysis.text import markdown_table, number, p_value

ENOUGH = 4
"""With fewer baseline runs, the spread of all arms around their means is split instead."""

PAIRING_NOTE = "No interval for an arm with fewer than 4 shared seeds."
OWN_PAIRS = "The baseline's row compares its own runs, one with the next: its delta is noise."


@dataclass(frozen=True, slots=True)
class NoiseReport:
    """What `noise` found; sds and differences in nats per token."""

    band: NoiseBand | None
    components: Components | None
    of: str
    """Whose runs `components` split: the baseline's, or all arms'."""
    correlation: Correlation | None
    """Of runs that share a seed, over all arms."""
    by_arm: pd.DataFrame
    """Each arm's correlation with the baseline; see `stats.seed_correlation.arm_correlations`."""
    evaluation: pd.DataFrame
    """See `analysis.questions.test_set_noise.evaluation_sampling`."""
    notes: tuple[str, ...]

    def to_markdown(self) -> str:
        """Return the report for a person."""
        parts = ["## Noise\n", band_text(self.band)]
        if self.components is not None:
            parts += ["", f"### Sources, from the runs of {self.of}\n", _components_text(self)]
            parts += ["", f"Design: {self.components.design}."]
        parts += ["", "### Pairing\n", _pairing_text(self.correlation)]
        if len(self.by_arm):
            parts += ["", _by_arm_text(self.by_arm)]
            parts += ["", PAIRING_NOTE] if self.by_arm["ci_low"].isna().any() else []
        if len(self.evaluation):
            parts += [
                "",
                "### Evaluation sampling, run against run on the same sequences\n",
                _evaluation_text(self.evaluation),
                "",
                OWN_PAIRS,
            ]
        parts += [f"- {note}" for note in self.notes]
        return "\n".join(parts) + "\n"


def noise(
    runs: Source,
    *,
    baseline: str = "baseline",
    metric: str = "test_loss",
    arms: str = "auto",
    clusters: Path | None = None,
) -> NoiseReport:
    """Report the noise of a study.

    Parameters
    ----------
    runs
        As for `analysis.compare`; repeats with equal seeds are welcome.
    baseline
        Arm whose runs make the band.
    metric
        Column to look at, in nats per token by default.
    arms
        ``baseline``: split the baseline's spread; ``all``: every arm's around its mean; ``auto``:
        the baseline's if it has 4 runs.
    clusters
        ``.npy`` file with the document of each test sequence.

    Examples
    --------
    >>> frame = pd.DataFrame({"arm": "baseline", "init_seed": range(4),
    ...                       "test_loss": [3.69, 3.70, 3.68, 3.71]})
    >>> round(noise(frame).band.sd, 4)
    0.0129
    """
    if arms not in ("auto", "baseline", "all"):
        raise AnalysisError(f"arms is {arms!r}: allowed are auto, baseline, all")
    rules = check_rules(None, {"baseline": baseline, "metric": metric, "allow_reruns": True})
    done = complete(read(runs, rules).frame)
    fitted = estimate(done, baseline)
    base = done[done["arm"] == baseline]
    only_base = arms == "baseline" or (arms == "auto" and len(base) >= ENOUGH)
    chosen = base if only_base else done
    components, notes = None, []
    try:
        components = variance_components(chosen)
    except AnalysisError as error:
        notes.append(str(error))
    index = pd.factorize(done["arm"])[0]
    seeds = seed_index(block_labels(done, baseline))
    return NoiseReport(
        noise_band(done, fitted),
        components,
        baseline if only_base else "all arms",
        seed_correlation(done["loss"], index, seeds),
        arm_correlations(done, baseline),
        evaluation_sampling(done, baseline, clusters),
        tuple(notes),
    )


def band_text(band: NoiseBand | None) -> str:
    """Return the noise band in words."""
    if band is None:
        return (
            "No noise band: the baseline needs two runs or more with different initialisation "
            "seeds (8 make a useful band): "
            "python -m harness -m '+intervention=baseline' 'seed=range(8)'"
        )
    text = (
        f"One more baseline run falls in {band.mean:.4f} ± {band.half_width:.4f} with "
        f"{100 * (1 - band.alpha):g}% probability (K = {band.K} runs, s = {band.sd:.5f}, "
        f"df {band.df:.3g}; s is the sd of the baseline's own runs)."
    )
    if band.n_arms > 1:
        text += (
            f" {band.n_arms} single runs that change nothing all fall within "
            f"± {band.half_width_arms:.4f} (Dunnett)."
        )
    return text


def _components_text(report: NoiseReport) -> str:
    table = report.components.table if report.components else pd.DataFrame()
    rows = []
    for row in table.to_dict("records"):
        share = "" if row["source"] == TOTAL else f"{100 * row['share']:.0f}%"
        rows.append(
            [
                str(row["source"]),
                number(row["sd"], 5),
                f"[{row['ci_low']:.5f}, {row['ci_high']:.5f}]",
                f"{row['levels']}",
                f"{row['df']:.3g}",
                share,
                str(row["note"]),
            ]
        )
    if len(report.evaluation):
        of_these = report.evaluation["arm"].isin([report.of])
        chosen = report.evaluation[of_these] if of_these.any() else report.evaluation  # all arms'
        se = math.sqrt((chosen["se"] ** 2).mean() / 2)
        rows.append(
            [
                "evaluation sampling",
                number(se, 5),
                "",
                "",
                "",
                "",
                "per run; not added to the total",
            ]
        )
    header = ["source", "sd", "95% CI", "levels", "df", "% of total", "note"]
    return markdown_table(header, rows)


def _pairing_text(correlation: Correlation | None) -> str:
    if correlation is None:
        return (
            "The correlation of same-seed runs cannot be measured: no runs share an initialisation "
            "seed, or nothing is left over for the noise."
        )
    return (
        f"Correlation of runs of one initialisation seed: {correlation.estimate:.2f}, 95% CI "
        f"[{correlation.ci_low:.2f}, {correlation.ci_high:.2f}] (F = {correlation.F:.2f}, "
        f"p {p_value(correlation.p)}; {correlation.n_seeds} seeds, {correlation.n_runs} runs)."
    )


def _by_arm_text(by_arm: pd.DataFrame) -> str:
    rows = [
        [
            str(row["arm"]),
            str(row["n_shared"]),
            number(row["correlation"], 2, sign=True),
            "–" if np.isnan(row["ci_low"]) else f"[{row['ci_low']:+.2f}, {row['ci_high']:+.2f}]",
        ]
        for row in by_arm.to_dict("records")
    ]
    return markdown_table(["arm", "shared seeds", "r with baseline", "95% CI"], rows)


def _evaluation_text(evaluation: pd.DataFrame) -> str:
    rows = [
        [
            str(row["arm"]),
            str(row["n_pairs"]),
            number(row["delta"], 5, sign=True),
            number(row["se"], 5),
            str(row["n_sequences"]),
            str(row["n_clusters"]) if row["n_clusters"] else "not known",
        ]
        for row in evaluation.to_dict("records")
    ]
    return markdown_table(["arm", "pairs", "delta", "se of a pair", "sequences", "documents"], rows)
