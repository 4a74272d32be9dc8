"""Every word and figure of small tables, so that none changes or goes unnoticed.

``python tests/analysis/test_words_of_a_table.py`` writes the file anew: read its difference.
"""

from functools import partial
from pathlib import Path

import pandas as pd
import pytest
from words import last_read, write

from analysis import compare, decide
from analysis.comparison.result import footnote
from harness.records import StudyPlan

WORDS = Path(__file__).parent / "fixtures" / "words_of_tables.md"
SEEDS = {
    "baseline": [3.691, 3.674, 3.654, 3.683, 3.662],
    "clear": [3.512, 3.488, 3.479, 3.497, 3.486],
    "fewer": [3.688, 3.665, 3.649],
    "noisy": [3.702, 3.611, 3.700, 3.640, 3.739],
    "worse": [3.741, 3.729, 3.702, 3.731, 3.719],
}
"""Losses by arm, of seeds 0, 1, 2 ..."""
SENTENCES = ["verdict", "method", "warnings"]


def runs(n: int = 5, **columns: object) -> pd.DataFrame:
    rows = [
        {"arm": arm, "seed": seed, "loss": loss, **columns}
        for arm, losses in SEEDS.items()
        for seed, loss in enumerate(losses[:n])
    ]
    return pd.DataFrame(rows)


def unknown_seeds() -> pd.DataFrame:
    frame = runs().drop(columns="seed").query("arm != 'noisy'")
    return frame.drop(frame.index[11:13])


def with_costs() -> pd.DataFrame:
    frame = runs().assign(status="complete", tokens=1e6, hours=0.5, usd=1.25)
    frame.loc[frame["arm"].eq("clear") & frame["seed"].eq(4), "status"] = "diverged"
    frame.loc[frame["arm"].eq("noisy"), ["tokens", "hours", "usd"]] = [2e6, 0.75, 2.5]
    frame.loc[frame["arm"].eq("worse") & frame["seed"].gt(0), "published_delta"] = 0.0125
    return frame


TABLES = {
    "Seeds shared by most runs, a practical size": (runs(), {"practical_size": 0.02}),
    "No practical size, pooled": (runs(), {"variance": "pooled"}),
    "No seed shared": (runs().assign(seed=range(23)), {"practical_size": 0.02}),
    "Seeds unknown, one arm of one run": (unknown_seeds(), {}),
    "The baseline alone": (runs().query("arm == 'baseline'"), {}),
    "Two seeds of two arms": (runs(2).query("arm in ['baseline', 'clear']"), {}),
    "One run an arm, higher is better": (runs(1), {"higher_is_better": True}),
    "A run diverged, other costs": (with_costs(), {}),
    "More runs of the baseline, one of each arm": (
        runs().query("arm == 'baseline' or seed == 0"),
        {"references": (("known", 3.6),), "alpha": 0.1},
    ),
}


def words_of_table(title: str) -> str:
    frame, rules = TABLES[title]
    result = compare(frame, **rules)
    figures = result.table.drop(columns=SENTENCES).dropna(axis=1, how="all").set_index("arm")
    listed = figures.map(lambda x: f"{x:.4g}").T.to_csv(sep="\t", lineterminator="\n")
    return f"{result.to_markdown()}\n\n{footnote(result)}\n\n{listed}"


def words_of_looks(n: int) -> str:
    plan = StudyPlan(study="words", looks=[3, 4, 5], rope=0.02)
    return decide(runs(n), plan).to_markdown()


SAID = {title: partial(words_of_table, title) for title in TABLES} | {
    title: partial(words_of_looks, n)
    for title, n in (("No look yet", 2), ("The first look", 3), ("All looks", 5))
}


@pytest.mark.parametrize("title", SAID)
def test_every_word_of_a_small_table_is_the_one_last_read(title: str) -> None:
    assert SAID[title]().strip() == last_read(WORDS)[title]


if __name__ == "__main__":
    write(WORDS, SAID)
