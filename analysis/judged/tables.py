"""The judged table, the ranks and the judge's habits, for a terminal, a paper and the page."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from analysis.check import Check, Level, bullets
from analysis.comparison.table import percent
from analysis.judged.effects import Agreement, JudgeEffects, judge_effects, judges_agree
from analysis.judged.ranks import Rank, rank
from analysis.judged.verdicts import Difference, Judged
from analysis.stats.judging.crossed import Estimated
from analysis.table import Item, Table, columns, count, document, figure, interval, p_item, words
from analysis.text import DASH
from harness.records.responses import Kind

CLEAR = 0.01
"""p value below which a habit of a judge is warned of."""
CLAIMED = 5.0
"""Points for a mere request for points that are warned of: what 110 instructions tell apart."""


@dataclass(frozen=True, slots=True)
class JudgedReport:
    """All that is said of judged responses."""

    judged: Judged
    ranks: list[Rank]
    habits: list[JudgeEffects]
    between: dict[tuple[str, str], Agreement | None]
    """How each two judges agree."""

    def tables(self) -> list[Table]:
        """Return the three tables."""
        return [self._arms(), self._ranks(), self._habits()]

    def checks(self) -> list[Check]:
        """Return what a careful colleague would say."""
        found = [check for habits in self.habits for check in _warnings(habits)]
        found += self._missing()
        if any(d.found.n_seeds < 2 for d in self.judged.differences):
            what = f"one {self.judged.scores.pairing.what} of an arm"
            found.append(Check(Level.WARNING, what, "its own noise is unknown: no verdict"))
        if (gold := self.judged.gold) is None:
            text = "hand labels correct it, as gold.csv beside the judgements (or --gold FILE)"
            found.append(Check(Level.NOTE, "the judge's opinion", text))
        elif strangers := gold.strangers(self.judged.scores):
            found.append(Check(Level.WARNING, "hand labels left out", strangers))
        return found

    def to_markdown(self) -> str:
        """Return the report for a person."""
        said = "\n".join(bullets(self.checks()))
        return document("Judged responses", *self.tables(), said)

    def _missing(self) -> list[Check]:
        checks = []
        for judge, outcomes in self.judged.scores.outcomes.items():
            lost = {kind: n for kind, n in sorted(outcomes.items()) if not kind.has_scores}
            if lost:
                kinds = ", ".join(f"{n} {kind}" for kind, n in lost.items())
                text = (
                    f"{sum(lost.values())} of {outcomes.total()} calls ({kinds}) count as missing"
                )
                checks.append(Check(Level.WARNING, f"{judge} gave no scores", text))
        checks += [
            Check(Level.WARNING, f"{judge} answered as several versions", ", ".join(versions))
            for judge, versions in self.judged.scores.versions.items()
            if len(versions) > 1
        ]
        return checks

    def _arms(self) -> Table:
        judged = self.judged
        level = percent(judged.rules.alpha)
        labels = [
            *("arm", "seeds", "instructions", "score", "difference", level, "p adj"),
            *("at equal length", f"{level} at equal length", "verdict"),
        ]
        whose = "corrected by hand labels" if judged.gold else "the judge's opinion"
        base = [words(judged.rules.baseline), *[Item(DASH)] * 2, figure(judged.baseline_mean, 1)]
        rows = [_arm_row(d) for d in judged.differences]
        place = sum(d.estimate > 0 for d in judged.differences)
        rows.insert(place, [*base, *[Item(DASH)] * 5, words("(baseline)")])
        notes = [
            "Points of 0 to 100, arm minus baseline, paired by instruction and "
            f"{judged.scores.pairing.what}; both are random in the model. The intervals hold for "
            "all arms at once (Bonferroni), p values are adjusted by Holm. Instructions that lack "
            "a score are left out of the difference."
        ]
        if judged.gold:
            notes.append(
                f"Difference, interval, p and verdict are corrected by {judged.gold.file.name}; "
                "the score and the columns at equal length are the judge's own."
            )
            notes += [_correction(d) for d in judged.differences]
        return Table(
            "judged",
            f"Judged score against {judged.rules.baseline} ({whose})",
            columns(*labels, text=("arm", "verdict")),
            rows,
            tuple(notes),
        )

    def _ranks(self) -> Table:
        rows = [
            [
                words(f"({r.name})" if r.anchor else r.name),
                count(r.rank),
                Item(f"{r.low} to {r.high}", float(r.low)),
                figure(r.beats_baseline, 2),
            ]
            for r in self.ranks
        ]
        labels = ("arm", "rank", "95% interval", "beats the baseline")
        note = (
            "Bradley-Terry on the order of the scores within each call; intervals by a bootstrap "
            "over instructions and seeds. Anchors in brackets."
        )
        return Table(
            "judged_ranks",
            "Ranks of arms and anchors",
            columns(*labels, text=("arm",)),
            rows,
            (note,),
        )

    def _habits(self) -> Table:
        rows = [row for habits in self.habits for row in _habit_rows(habits)]
        for (a, b), found in self.between.items():
            rows.append(_agreement_row(f"{a} and {b}", "agreement of the two judges", found))
        labels = ("judge", "what", "value", "95% CI", "p")
        return Table("judges", "The judge's habits", columns(*labels, text=("judge", "what")), rows)


def report_judged(judged: Judged) -> JudgedReport:
    """Compute everything that is said of judged responses."""
    scores = judged.scores
    habits = [judge_effects(scores, judge) for judge in scores.judges]
    return JudgedReport(judged, rank(scores, judged.rules.baseline), habits, judges_agree(scores))


def _arm_row(d: Difference) -> list[Item]:
    low, high = d.estimate - d.decided.half_width, d.estimate + d.decided.half_width
    equal = (d.same_length - d.same_length_half, d.same_length + d.same_length_half)
    return [
        words(d.arm),
        count(d.found.n_seeds),
        count(d.found.n_items),
        figure(d.mean, 1),
        figure(d.estimate, 1, sign=True),
        interval(low, high, 1),
        p_item(d.decided.p_adj),
        figure(d.same_length, 1, sign=True),
        interval(*equal, 1),
        words(str(d.decided.verdict), d.decided.verdict.kind),
    ]


def _correction(d: Difference) -> str:
    found = d.corrected
    if found is None:
        return ""
    return (
        f"{d.arm}: on {found.n_labelled} labelled instructions the judge's difference is "
        f"{found.bias:+.1f} points beside the people's; uncorrected it is {d.found.estimate:+.1f}, "
        f"and the judge counts with weight {found.weight:.2f} (prediction-powered)."
    )


def _habit_rows(habits: JudgeEffects) -> list[list[Item]]:
    judge = habits.judge
    rows = [
        _slope_row(judge, "last slot against first, points", habits.slot),
        _slope_row(judge, "a response e times as long, points", habits.length),
        _agreement_row(judge, "a response against its duplicate", habits.own_noise),
        _agreement_row(judge, "the same responses in another order", habits.orders),
    ]
    for anchor, mean in habits.anchors.items():
        rows.append(
            [words(judge), words(f"mean score: {anchor}"), figure(mean, 1), *[Item(DASH)] * 2]
        )
    return rows


def _slope_row(judge: str, what: str, slope: Estimated | None) -> list[Item]:
    if slope is None:
        return [words(judge), words(what), *[Item(DASH)] * 3]
    half = slope.half_width(0.05)
    ends = interval(slope.estimate - half, slope.estimate + half, 1)
    return [words(judge), words(what), figure(slope.estimate, 1, sign=True), ends, p_item(slope.p)]


def _agreement_row(judge: str, what: str, found: Agreement | None) -> list[Item]:
    if found is None:
        return [words(judge), words(what), *[Item(DASH)] * 3]
    known = np.isfinite(found.correlation)
    text = f"correlation {found.correlation:.2f}" if known else "no spread"
    said = Item(
        f"{text}, {found.difference:.1f} points apart", found.correlation if known else None
    )
    return [words(judge), words(what), said, *[Item(DASH)] * 2]


def _warnings(habits: JudgeEffects) -> list[Check]:
    found, slot, length, means = [], habits.slot, habits.length, habits.anchors
    if slot is not None and slot.p < CLEAR:
        where = "late" if slot.estimate > 0 else "early"
        text = f"{slot.estimate:+.1f} points from the first slot to the last"
        found.append(Check(Level.WARNING, f"{habits.judge} favours {where} slots", text))
    if length is not None and length.p < CLEAR:
        kind = "long" if length.estimate > 0 else "short"
        text = (
            f"{length.estimate:+.1f} points for a response e times as long, within arm and call: "
            "see the difference at equal length"
        )
        found.append(Check(Level.WARNING, f"{habits.judge} favours {kind} responses", text))
    floor = max(means.get(Kind.EMPTY, 0.0), means.get(Kind.OTHER, 0.0))
    if Kind.REFERENCE in means and means[Kind.REFERENCE] <= floor:
        text = f"reference {means[Kind.REFERENCE]:.1f}, empty or wrong answers {floor:.1f}"
        found.append(Check(Level.WARNING, f"{habits.judge} does not know a good answer", text))
    if (claim := means.get(Kind.CLAIM, 0.0)) > floor + CLAIMED:
        text = (
            f"an answer that only asks for 100 gets {claim:.1f}, empty or wrong ones {floor:.1f}: "
            "read the responses of an arm that it favours, and label some by hand (--gold)"
        )
        found.append(
            Check(Level.WARNING, f"{habits.judge} follows instructions inside answers", text)
        )
    return found
