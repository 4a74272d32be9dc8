"""Every word of a small table, so that none changes or goes unnoticed.

``python tests/analysis/test_words_of_a_table.py`` writes the file anew: read its difference.
"""

from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from analysis import compare, decide
from analysis.comparison.result import Comparison, footnote
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


def runs(n: int = 5, **columns: object) -> pd.DataFrame:
    rows = [
        {"arm": arm, "seed": seed, "loss": loss, **columns}
        for arm, losses in SEEDS.items()
        for seed, loss in enumerate(losses[:n])
    ]
    return pd.DataFrame(rows)


def tables() -> Iterator[tuple[str, Comparison]]:
    yield "Seeds shared by most runs, a practical size", compare(runs(), practical_size=0.02)
    yield "No practical size, pooled", compare(runs(), variance="pooled")
    apart = runs().assign(seed=range(len(runs())))
    yield "No seed shared", compare(apart, practical_size=0.02)
    unknown = runs().drop(columns="seed").query("arm != 'noisy'")
    yield "Seeds unknown, one arm of one run", compare(unknown.drop(unknown.index[11:13]))
    yield "The baseline alone", compare(runs().query("arm == 'baseline'"))
    yield "Two seeds of two arms", compare(runs(2).query("arm in ['baseline', 'clear']"))
    yield "One run an arm, higher is better", compare(runs(1), higher_is_better=True)
    diverged = runs().assign(status="complete")
    diverged.loc[diverged["arm"].eq("clear") & diverged["seed"].eq(4), "status"] = "diverged"
    diverged.loc[diverged["arm"].eq("noisy"), "tokens"] = 2e6
    yield "A run diverged, other tokens", compare(diverged.fillna({"tokens": 1e6}))


def text() -> str:
    parts = [
        f"# {title}\n\n{result.to_markdown()}\n\n{footnote(result)}" for title, result in tables()
    ]
    plan = StudyPlan(study="words", looks=[3, 4, 5], rope=0.02)
    parts += [
        f"# {title}\n\n{decide(runs(n), plan).to_markdown()}"
        for title, n in (("No look yet", 2), ("The first look", 3), ("All looks", 5))
    ]
    return "\n\n".join(parts)


def test_every_word_of_a_small_table_is_the_one_last_read() -> None:
    assert text() == WORDS.read_text(encoding="utf-8")


if __name__ == "__main__":
    WORDS.write_text(text(), encoding="utf-8")
