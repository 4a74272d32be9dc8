"""How much of a difference between two runs is the choice of test sequences.

All runs are measured on the same sequences, so only the differences of their losses on each one
matter. This noise is a row of its own: a study's seed-to-seed spread already contains what of it
differs between runs, and alone it only says whether two checkpoints differ on this test set.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy import special

from analysis.errors import AnalysisError, needed
from analysis.runs.cell.files import read_numbers
from harness.records import TEST_DOCUMENTS_FILE, TEST_LOSSES_FILE, RecordError

MOST_PAIRS = 24


@dataclass(frozen=True, slots=True)
class TestText:
    """The text that a study is tested on, taken as a sample of such texts."""

    __test__ = False  # not pytest's

    n_sequences: int
    n_documents: int
    reach: dict[str, float]
    """Arm -> how far another such text might move its difference from the baseline: half of the
    95% interval over documents, nats per token."""

    @property
    def middle(self) -> float:
        """The median of all arms' reach."""
        return float(np.median(list(self.reach.values())))

    @property
    def widest(self) -> str:
        """The arm that another text might move furthest."""
        return max(self.reach, key=lambda arm: self.reach[arm])


@dataclass(frozen=True, slots=True)
class PairedDifference:
    """Mean difference of two runs over the test sequences; nats per token."""

    mean: float
    se: float
    n: int
    """Sequences."""
    n_clusters: int
    """Documents; 0 where they are not known."""


def paired_difference(
    losses: ArrayLike, reference: ArrayLike, clusters: ArrayLike | None = None
) -> PairedDifference:
    """Return the mean difference of two runs on the same N sequences with its standard error.

    `clusters` has the document of each sequence: sequences of one document are not independent.

    Examples
    --------
    >>> paired_difference([3.0, 2.0, 4.0], [3.1, 2.3, 4.2]).se.__round__(5)
    0.05774
    """
    x, y = np.asarray(losses, dtype=float), np.asarray(reference, dtype=float)
    if x.shape != y.shape or len(x) < 2:
        raise AnalysisError(
            f"per-sequence losses of {len(x)} and {len(y)} sequences cannot be paired: "
            "evaluate both runs on the same test set"
        )
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        raise AnalysisError("a per-sequence loss is not a finite number")
    difference = x - y
    mean = float(difference.mean())
    if clusters is None:
        return PairedDifference(mean, float(difference.std(ddof=1) / len(x) ** 0.5), len(x), 0)
    labels = np.asarray(clusters)
    if labels.shape != x.shape:
        raise AnalysisError(
            f"{len(labels)} document ids for {len(x)} test sequences: one id a sequence is needed"
        )
    index = np.unique(labels, return_inverse=True)[1]
    sums = np.bincount(index, difference - mean)
    n = len(sums)
    if n < 2:
        raise AnalysisError("all test sequences are of one document: no standard error exists")
    se = float(np.sqrt((sums**2).sum() * n / (n - 1)) / len(x))
    return PairedDifference(mean, se, len(x), n)


def read_test_text(done: pd.DataFrame, baseline: str) -> TestText | None:
    """Return how far another test text might move each arm's mean difference from the baseline.

    None where the losses or the documents of its sequences are not at hand, or of one document.
    """
    if "folder" not in done:
        return None
    folders = done["folder"].groupby(done["arm"])
    files = (Path(str(folder)) / TEST_DOCUMENTS_FILE for folder in done["folder"].tolist())
    clusters = next((x for file in files if (x := _readable(file)) is not None), None)
    n_documents = 0 if clusters is None else len(set(clusters.tolist()))
    if clusters is None or n_documents < 2:
        return None
    means = {str(arm): _mean_losses(group.tolist()) for arm, group in folders}
    base = means.pop(baseline, None)
    if base is None or clusters.shape != base.shape:
        return None
    known = {arm: x for arm, x in means.items() if x is not None and x.shape == base.shape}
    t = float(special.stdtrit(n_documents - 1, 0.975))
    reach = {arm: t * paired_difference(x, base, clusters).se for arm, x in known.items()}
    return TestText(len(base), n_documents, reach)


def _mean_losses(folders: list[object]) -> NDArray[np.float64] | None:
    """Return the mean over runs of each test sequence's loss; None where a run has none."""
    losses = [_readable(Path(str(folder)) / TEST_LOSSES_FILE) for folder in folders]
    known = [x for x in losses if x is not None]
    if len(known) < len(losses) or len({x.shape for x in known}) > 1:
        return None
    mean: NDArray[np.float64] = np.mean(known, axis=0)
    return mean


def _readable(file: Path) -> NDArray[np.float64] | None:
    """Return a file's numbers; None where it is not there, or listed as unreadable."""
    try:
        return read_numbers(file)
    except RecordError:
        return None


def evaluation_sampling(
    runs: pd.DataFrame, baseline: str, clusters: Path | None = None
) -> pd.DataFrame:
    """Compare complete runs with the baseline's run of the same seed, sequence by sequence.

    The baseline's own runs are compared with each other; an arm of another context is left out.
    `clusters` is a ``.npy`` file of document ids, one a test sequence; by default the one beside
    the losses.

    The frame's delta and se are of one pair, in nats per token; it is empty where no run has
    per-sequence losses.
    """
    columns = ["arm", "n_pairs", "delta", "se", "n_sequences", "n_clusters"]
    rows = []
    for arm, pairs in _pairs(runs, baseline).items() if "folder" in runs else ():
        found = [_compare(mine, theirs, clusters) for mine, theirs in pairs[:MOST_PAIRS]]
        known = [item for item in found if item is not None]
        if known:
            se = float(np.sqrt(np.mean([item.se**2 for item in known])))
            delta = float(np.mean([item.mean for item in known]))
            rows.append((arm, len(known), delta, se, known[0].n, known[0].n_clusters))
    return pd.DataFrame(rows, columns=columns)


Row = dict[Any, Any]


def _pairs(runs: pd.DataFrame, baseline: str) -> dict[str, list[tuple[Row, Row]]]:
    """Return the pairs of runs to compare, by arm."""
    by_arm = {str(arm): group.to_dict("records") for arm, group in runs.groupby("arm")}
    base = by_arm.get(baseline, [])
    by_seed = {row.get("init_seed"): row for row in base}
    return {
        arm: [*itertools.pairwise(base)]
        if arm == baseline
        else [
            (row, by_seed[row.get("init_seed")]) for row in mine if row.get("init_seed") in by_seed
        ]
        for arm, mine in by_arm.items()
    }


def _compare(mine: Row, theirs: Row, clusters: Path | None) -> PairedDifference | None:
    folders = [Path(str(row["folder"])) for row in (mine, theirs)]
    x, y = (_readable(folder / TEST_LOSSES_FILE) for folder in folders)
    if x is None or y is None:
        return None
    if len(x) != len(y) and _context(mine) != _context(theirs):
        return None
    try:
        with needed():
            given = read_numbers(clusters) if clusters else None
        beside = _readable(folders[1] / TEST_DOCUMENTS_FILE)
        return paired_difference(x, y, beside if given is None else given)
    except AnalysisError as error:
        raise AnalysisError(f"{mine['run_id']} and {theirs['run_id']}: {error}") from error


def _context(run: Row) -> object:
    """Return the context that an arm sets: sequences of another length are no pairs."""
    changes = run.get("changes")
    return changes.get("model.block_size") if isinstance(changes, dict) else None
