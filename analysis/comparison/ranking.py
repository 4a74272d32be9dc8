"""Which of the better arms is best: all pairs compared, and the ranks that this leaves open."""

from __future__ import annotations

from dataclasses import dataclass

from analysis.comparison.verdict import Judgement, Kind
from analysis.stats.ranks import RankIntervals, rank_intervals
from analysis.table import Item, Table, columns, count, p_item, words
from analysis.text import DASH

MOST_NAMED = 8
MOST_RANKED = 40
"""So many of the best arms get a rank: each is compared with all the better ones."""


@dataclass(frozen=True, slots=True)
class Ranking:
    """The arms found better than the baseline, the best estimate first."""

    arms: tuple[str, ...]
    found: RankIntervals
    alpha: float

    def rank(self, i: int) -> str:
        """Return the ranks that an arm may have."""
        best, worst = int(self.found.best[i]), int(self.found.worst[i])
        return str(best) if best == worst else f"{best} to {worst}"

    def sentence(self) -> str:
        """Return the ranks in words."""
        named = [f"{arm} {self.rank(i)}" for i, arm in enumerate(self.arms[:MOST_NAMED])]
        more = len(self.arms) - len(named)
        rest = f" and {more} more" if more else ""
        return f"ranks of the better arms: {', '.join(named)}{rest} ({self._how()})"

    def _how(self) -> str:
        return f"all pairs compared, {100 * (1 - self.alpha):g}% sure of all ranks at once"

    def to_table(self) -> Table:
        """Return one row an arm."""
        rows: list[list[Item]] = [
            [
                words(arm),
                Item(self.rank(i), float(self.found.best[i])),
                p_item(self.found.p[i, i + 1]) if i + 1 < len(self.arms) else Item(DASH),
                count(int(sum(self.found.p[i] < self.alpha))),
            ]
            for i, arm in enumerate(self.arms[:MOST_RANKED])
        ]
        head = columns("arm", "rank", "p against the next", "told apart from", text=("arm",))
        note = f"Ranks, 1 the best: {self._how()}."
        return Table("ranks", "Which of the better arms is best", head, rows, (note,))


def ranking(judgement: Judgement) -> Ranking | None:
    """Rank the arms that are better than the baseline; None where they are fewer than two."""
    model, judged = judgement.estimate.model, judgement.judged
    if model is None or judged is None:
        return None
    higher = judgement.rules.higher_is_better
    better = [
        i
        for i, arm in enumerate(judgement.arms)
        if judgement.verdicts[arm].kind is Kind.BETTER
    ]  # fmt: skip
    if len(better) < 2:
        return None
    better.sort(key=lambda i: judged.delta[i - 1], reverse=higher)
    found = rank_intervals(
        model, better, judgement.alpha, higher_is_better=higher, first=MOST_RANKED
    )
    return Ranking(tuple(judgement.arms[i] for i in better), found, judgement.alpha)
