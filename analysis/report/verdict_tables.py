"""Tables of the comparison: verdicts, stacks, cost."""

from __future__ import annotations

import math
from typing import Any

from analysis.comparison.result import Comparison
from analysis.questions.stack import Stacking
from analysis.table import Column, Item, Table, count, figure, words
from analysis.text import DASH, digits, p_value, unit


def verdict_table(result: Comparison) -> Table:
    """Return the improvement table."""
    percent, nats = f"{100 * (1 - result.alpha):g}% CI", unit(result.rules, ", ")
    columns = [
        Column("arm", numeric=False),
        Column("verdict", numeric=False),
        Column("n", help="complete runs"),
        Column("mean", help=f"mean {result.rules.metric}{nats}"),
        Column("delta", help=f"arm - {result.rules.baseline}{nats}"),
        Column(percent, help="simultaneous over all arms; sorts by its lower end"),
        Column("p adj", help="adjusted for the number of arms (step-down Dunnett)"),
        Column("published", help="difference in the source that proposed it"),
        Column("break-even sd", help="noise of a run below which the interval would leave out 0"),
        Column("power", help="to find a difference of the practical size with these runs"),
        Column("seeds needed", help="per arm, to find a difference of the practical size"),
    ]
    rows = [_verdict_row(row, result) for row in result.table.to_dict("records")]
    keep = [i for i, c in enumerate(columns) if c.label != "published" or _any_known(rows, i)]
    return Table(
        "verdicts",
        "Every arm against the baseline",
        [columns[i] for i in keep],
        [[row[i] for i in keep] for row in rows],
        (footnote(result),),
    )


def footnote(result: Comparison) -> str:
    """Return the method in one line, for under a table that is pasted elsewhere."""
    sign = "higher" if result.rules.higher_is_better else "lower"
    text = f"delta = arm - {result.rules.baseline}{unit(result.rules, ' in ')}, {sign} is better; "
    text += f"{result.method}; "
    if result.judged is not None:
        text += f"family error {result.alpha:g}, simultaneous intervals and step-down p (Dunnett); "
    size = "none" if result.rope is None else f"{result.rope:.3g} ({result.rope_source})"
    return f"{text}practical size {size}; runs: {result.ledger.sentence()}."


def stack_table(result: Stacking, decimals: int) -> Table:
    """Return what stacks add up to."""
    rows = [
        [
            words(row["stack"]),
            figure(row["delta"], decimals, sign=True),
            figure(row["sum_of_parts"], decimals, sign=True),
            figure(row["estimate"], decimals, sign=True),
            _interval(row, decimals),
            Item(p_value(row["p_adj"]), _known(row["p_adj"])),
            words(row["verdict"]),
        ]
        for row in result.interactions.to_dict("records")
    ]
    percent = f"{100 * (1 - result.alpha):g}% CI"
    labels = ("stack", "delta", "sum of parts", "interaction", percent, "p adj", "verdict")
    columns = [Column(label, numeric=label not in ("stack", "verdict")) for label in labels]
    note = "Intervals are pointwise; p values are adjusted by Holm."
    return Table("stacks", "Stacks against the sum of their parts", columns, rows, (note,))


def share_table(result: Stacking, decimals: int) -> Table:
    """Return each part's share of a stack, where the stack was also run without it."""
    rows = [
        [
            words(row["stack"]),
            words(row["without"]),
            figure(row["estimate"], decimals, sign=True),
            _interval(row, decimals),
            Item(p_value(row["p_adj"]), _known(row["p_adj"])),
            words(row["verdict"]),
        ]
        for row in result.leave_one_out.to_dict("records")
    ]
    percent = f"{100 * (1 - result.alpha):g}% CI"
    labels = ("stack", "part", "effect", percent, "p adj", "verdict")
    columns = [Column(label, numeric=label not in ("stack", "part", "verdict")) for label in labels]
    return Table("stack_shares", "The stack minus the stack without a part", columns, rows)


def _verdict_row(row: dict[Any, Any], result: Comparison) -> list[Item]:
    base = row["arm"] == result.rules.baseline
    verdict = result.verdicts[str(row["arm"])]
    decimals = digits(result)
    return [
        words(row["arm"]),
        words("(baseline)" if base else verdict, verdict.kind.name.lower()),
        count(row["n"]),
        figure(row["mean_loss"], decimals),
        Item(DASH, 0.0) if base else figure(row["delta"], decimals, sign=True),
        Item(DASH) if base else _interval(row, decimals),
        Item(p_value(row["p_adj"]), _known(row["p_adj"])),
        figure(row["published_delta"], 3, sign=True),
        figure(row["breakeven_sd"], decimals),
        figure(row["power_at_rope"], 2),
        count(row["seeds_needed"]),
    ]


def _interval(row: dict[Any, Any], decimals: int) -> Item:
    low, high = row["ci_low"], row["ci_high"]
    if _known(low) is None:
        return Item(DASH)
    return Item(f"[{low:+.{decimals}f}, {high:+.{decimals}f}]", float(low))


def _any_known(rows: list[list[Item]], column: int) -> bool:
    return any(row[column].value is not None for row in rows)


def _known(value: Any) -> float | None:
    return float(value) if value is not None and math.isfinite(value) else None
