"""Tables of the study around the comparison: noise, plan, ledger."""

from __future__ import annotations

from analysis.comparison.rules import Rules
from analysis.questions.noise import OWN_PAIRS, PAIRING_NOTE, NoiseReport
from analysis.questions.plan import Plan
from analysis.table import Column, Item, Table, count, figure, words
from analysis.text import DASH, plain, unit


def component_table(report: NoiseReport) -> Table | None:
    """Return the sources of noise; None where nothing could be split."""
    if report.components is None:
        return None
    rows = []
    for row in report.components.table.to_dict("records"):
        total = row["source"] == "total"
        low, high = plain(row["ci_low"]), plain(row["ci_high"])
        known = low is not None and high is not None
        rows.append(
            [
                words(row["source"]),
                figure(row["sd"], 5),
                Item(f"[{low:.5f}, {high:.5f}]", low) if known else Item(DASH),
                count(row["levels"]),
                figure(row["df"], 1),
                Item(DASH) if total else Item(f"{100 * row['share']:.0f}%", float(row["share"])),
                words(row["note"] or ""),
            ]
        )
    labels = ("source", "sd", "95% CI", "levels", "df", "share of variance", "note")
    columns = [Column(label, numeric=label not in ("source", "note")) for label in labels]
    note = f"From the runs of {report.of}; design: {report.components.design}."
    return Table("components", "Where the noise comes from", columns, rows, (note,))


def pairing_table(report: NoiseReport) -> Table | None:
    """Return how strongly each arm's runs move with the baseline's of the same seed."""
    if not len(report.by_arm):
        return None
    rows = []
    for row in report.by_arm.to_dict("records"):
        low, high = plain(row["ci_low"]), plain(row["ci_high"])
        known = low is not None and high is not None
        rows.append(
            [
                words(row["arm"]),
                count(row["n_shared"]),
                figure(row["correlation"], 2, sign=True),
                Item(f"[{low:+.2f}, {high:+.2f}]", low) if known else Item(DASH),
            ]
        )
    labels = ("arm", "shared seeds", "r with baseline", "95% CI")
    columns = [Column(label, numeric=label != "arm") for label in labels]
    few = report.by_arm["ci_low"].isna().any()
    notes = (PAIRING_NOTE,) if few else ()
    return Table("pairing", "Do runs of one seed move together?", columns, rows, notes)


def evaluation_table(report: NoiseReport) -> Table | None:
    """Return the noise of the choice of test sequences, run against run."""
    if not len(report.evaluation):
        return None
    rows = [
        [
            words(row["arm"]),
            count(row["n_pairs"]),
            figure(row["delta"], 5, sign=True),
            figure(row["se"], 5),
            count(row["n_sequences"]),
        ]
        for row in report.evaluation.to_dict("records")
    ]
    labels = ("arm", "pairs", "delta", "se of a pair", "sequences")
    columns = [Column(label, numeric=label != "arm") for label in labels]
    note = f"Alone it says only whether two checkpoints differ on this test set. {OWN_PAIRS}"
    return Table("evaluation", "What the choice of test sequences adds", columns, rows, (note,))


def plan_table(result: Plan, rules: Rules) -> Table:
    """Return power and cost of more seeds."""
    rows = [
        [
            count(row["seeds"]),
            count(row["runs"]),
            figure(row["power"], 2),
            figure(row["power_cautious"], 2),
            figure(row["detectable"], 4),
            figure(row["hours"], 2),
            figure(row["usd"], 2),
        ]
        for row in result.curve.to_dict("records")
    ]
    columns = [
        Column("seeds per arm"),
        Column("runs in all"),
        Column("power"),
        Column("power, cautious sd", help="at the noise's 80% upper confidence limit"),
        Column(
            f"found with power {result.power:g}", help=f"smallest difference{unit(rules, ', ')}"
        ),
        Column("hours"),
        Column("dollars"),
    ]
    return Table("plan", f"To find {result.delta:.3g}{unit(rules)}", columns, rows)
