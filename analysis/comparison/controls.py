"""A/A controls: arms that equal the baseline in truth, so that their differences are all noise."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd

from analysis.check import Check, Level, warning
from analysis.comparison.verdict import Judgement
from analysis.runs.frame import TWIN


def control_checks(judgement: Judgement, table: pd.DataFrame) -> list[Check]:
    """Say of each control whether the noise model holds."""
    return [*_identical(judgement.runs), *_apart(judgement, table)]


def _identical(runs: pd.DataFrame) -> Iterator[Check]:
    """Say which runs of controls repeat the baseline's, which puts them aside."""
    twins = runs[runs["status"] == TWIN]
    for arm, count in twins.groupby("arm").size().items():
        total = int((runs["arm"] == arm).sum())
        yield Check(
            Level.OK,
            f"{arm}, an A/A control: {count} of {total} runs end with the baseline's weights, to "
            "the last bit; they are not counted",
            arms=(str(arm),),
        )


def _apart(judgement: Judgement, table: pd.DataFrame) -> Iterator[Check]:
    """Say of each control that differs whether the noise explains it."""
    done = judgement.done
    if "control" not in done or judgement.judged is None:
        return
    arms = set(done.loc[done["control"].eq(True), "arm"].astype(str))
    for row in table[table["arm"].isin(arms) & table["p_adj"].notna()].to_dict("records"):
        arm, delta = str(row["arm"]), f"{row['delta']:+.3g}{judgement.rules.unit()}"
        if judgement.verdicts[arm].kind.real:
            yield warning(
                f"{arm}, an A/A control, differs from {judgement.rules.baseline} by {delta} "
                f"(p adj {row['p_adj']:.2g}), although nothing was changed: the noise is "
                "underestimated, or the control does change something; until that is explained, "
                "trust no verdict here",
                (arm,),
                "differs although an A/A control",
            )
        else:
            yield Check(
                Level.OK,
                f"{arm}, an A/A control: {delta}, p {row['p_raw']:.2g} unadjusted, which the noise "
                "explains",
                arms=(arm,),
            )
