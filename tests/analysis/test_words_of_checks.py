"""Every word that a comparison says beside its table, so that none changes or goes unnoticed.

``python tests/analysis/test_words_of_checks.py`` writes the file anew: read its difference.
"""

import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pandas as pd
import pytest
from studies import put, record
from words import last_read, write

from analysis import compare
from analysis.comparison.result import Comparison
from harness.records import BASELINE, Fingerprints, Provenance, Status, StudyPlan, write_plan

WORDS = Path(__file__).parent / "fixtures" / "words_of_checks.md"
CALM = [-0.010, 0.004, 0.011, -0.003, -0.006, 0.007, -0.001, -0.002]
"""Noise of runs of an arm, by seed; the first few add up to nearly nothing."""
THIRD = [0.009, 0.004, -0.008, 0.002, -0.006, -0.003, 0.005, -0.001]
OTHER = [0.003, -0.009, 0.002, 0.008, -0.007, 0.001, 0.006, -0.004]


def rows(arm: str, delta: float, noise: list[float], **columns: object) -> list[dict]:
    return [
        {"arm": arm, "seed": seed, "test_loss": round(3.69 + delta + x, 6), **columns}
        for seed, x in enumerate(noise)
    ]


def runs(*arms: tuple[str, float, list[float]], n: int = 5, **columns: object) -> pd.DataFrame:
    given = ((BASELINE, 0.0, CALM), *arms)
    return pd.DataFrame(
        [r for a, delta, noise in given for r in rows(a, delta, noise[:n], **columns)]
    )


def seedless(frame: pd.DataFrame, **columns: object) -> pd.DataFrame:
    return frame.drop(columns="seed").assign(**columns)


TWO = (("a", -0.03, OTHER), ("b", 0.0, THIRD))
WILD = runs(TWO[0], ("wild", 0.0, [50 * x for x in OTHER]))
EVEN = [("abcdefgh"[i], -0.012 - 0.004 * i, OTHER) for i in range(8)]
LEANING = ("lean", -0.03, [-0.03, 0.028, -0.022, 0.031, 0.006])
NOISY = [("abc"[i], -0.005 * i, [x / 8 for x in OTHER]) for i in range(3)]
COPIES = pd.DataFrame(
    {"arm": [BASELINE] * 4 + ["a"] * 3, "loss": [3.7, 3.71, 3.69, 3.7, 3.6, 3.61, 3.62]}
)
SETTINGS = {"lr": [1e-3, 1e-3, 1e-3, 1e-3, 2e-3] * 3, "depth": [4, 4, 4, 4, 6] * 3}
HALF = {"init_shared": [1.0] * 5 + [0.5] * 5 + [0.49] * 5}

FRAMES: dict[str, tuple[pd.DataFrame, dict]] = {
    "Nothing to say": (runs(*TWO), {"practical_size": 0.02}),
    "An arm far apart": (WILD, {}),
    "All runs of an arm identical": (
        seedless(runs(("a", -0.1, [0.0] * 5)).assign(test_loss=3.6)),
        {},
    ),
    "Equal differences at every seed": (runs(("a", -0.1, CALM)), {}),
    "One arm's runs vary, all others repeat": (
        pd.DataFrame(rows(BASELINE, 0, [0.0] * 4) + rows("a", 0, [0.1, 0.2, 0.15, 0.12])).drop(
            columns="seed"
        ),
        {},
    ),
    "A noisy baseline": (seedless(runs(*NOISY, n=8)), {}),
    "No arm near the baseline": (seedless(runs(*EVEN)), {"variance": "pooled"}),
    "Its own noise does not confirm it": (
        seedless(runs(*TWO, LEANING), lr=1.0),
        {"variance": "pooled"},
    ),
    "One run of an arm": (runs(*TWO, ("single", -0.08, [0.001])), {}),
    "A small practical size": (runs(*TWO), {"practical_size": 0.002}),
    "A small practical size of runs alone": (seedless(runs(*TWO)), {"practical_size": 0.002}),
    "No number of seeds would find it": (seedless(runs(*TWO)), {"practical_size": 1e-5}),
    "Too few runs": (runs(*TWO, n=2), {}),
    "Too few runs of one arm": (runs(TWO[0], n=2), {}),
    "One run each": (runs(*TWO, n=1), {}),
    "All figures stand twice": (pd.concat([COPIES, COPIES]), {}),
    "Equal figures": (pd.concat([COPIES, COPIES[-1:]]), {}),
    "Reruns that repeat a run": (
        pd.concat([runs(*TWO), runs(*TWO)[4:6]]),
        {"allow_reruns": True},
    ),
    "Runs that differ in settings": (seedless(runs(*TWO), **SETTINGS), {}),
    "Names that differ in capitals": (runs(("Wide", 0.0, OTHER), ("wide", -0.01, OTHER[::-1])), {}),
    "Better when higher": (runs(*TWO).rename(columns={"test_loss": "acc"}), {"metric": "acc"}),
    "A loss that is better when higher": (runs(*TWO), {"higher_is_better": True}),
    "An arm's losses are the baseline's": (runs(TWO[0], ("same", 0.0, CALM)), {}),
    "Few seeds are the baseline's": (
        runs(*TWO).assign(seed=[*range(5), *range(3, 8), *range(2, 7)]),
        {},
    ),
    "Other initial weights": (runs(*TWO).assign(**HALF), {}),
    "Another budget": (runs(*TWO).assign(tokens=[1e6] * 5 + [1.02e6] * 5 + [0.995e6] * 5), {}),
    "Another budget of steps, as planned": (
        runs(*TWO).assign(step=[100] * 5 + [120] * 5 + [101] * 5, equal_budget="seconds"),
        {},
    ),
    "Two arms of the same weights": (
        runs(*TWO, ("a+b", -0.04, CALM[::-1])).assign(
            final_weights=[f"{w}{i}" for w in "zaba" for i in range(5)]
        ),
        {},
    ),
}


def told(result: Comparison) -> str:
    lines = [
        f"- {check.level}: {check}"
        + (f" [{', '.join(check.arms)}: {check.mark}]" * bool(check.arms))
        for check in result.checks
    ]
    marked = [
        f"- {arm}: {said}" for arm, said in zip(result.table["arm"], result.table["warnings"], strict=True)
        if said
    ]  # fmt: skip
    steps = [f"- next: {step}" for step in result.next_steps]
    return "\n".join([*lines, *steps, *marked]) or "Nothing."


def of_frame(title: str) -> str:
    frame, rules = FRAMES[title]
    return told(compare(frame, **rules))


def ended(folder: Path) -> Comparison:
    """Return a study whose runs ended in every way."""
    arms = [(BASELINE, 0.0, CALM), ("a", -0.03, OTHER), ("b", 0.0, OTHER[::-1])]
    cells = []
    for arm, delta, noise in arms:
        for seed, x in enumerate(noise[:4]):
            item = record(arm, seed, 3.69 + delta + x)
            put(folder, item)
            cells.append({"arm": arm, "seeds": {"init": seed}, "cell": item.cell})
    lost = [("b", 0, Status.DIVERGED), ("a", 6, Status.FAILED), ("a", 7, Status.STOPPED)]
    for arm, seed, status in lost:
        item = record(arm, seed, None, status=status, step=12)
        put(folder, item)
        cells.append({"arm": arm, "seeds": {"init": seed}, "cell": item.cell})
    cells.append({"arm": "c", "seeds": {"init": 0, "data": 1}, "cell": "never"})
    put(folder, record("a", 5, 3.65))
    other = Provenance(test_set_sha256="u" * 64)
    put(folder, record("other", 0, 2.0, provenance=other, changes={"data.name": ["x", "y"]}))
    broken = put(folder, record("b", 9, 3.7)) / "record.json"
    broken.write_text("{}")
    write_plan(folder, StudyPlan(study="synthetic", cells=cells, rope=0.01))
    return compare(folder)


def mixed(folder: Path) -> Comparison:
    """Return arms of several versions, of other settings, with the weights of others."""
    for arm, delta, noise in [(BASELINE, 0.0, CALM), ("a", -0.03, OTHER), ("b", 0.02, OTHER[::-1])]:
        for seed, x in enumerate(noise[:4]):
            item = record(arm, seed, 3.69 + delta + x, recipe="s" if arm == "b" else "r")
            item.version = f"v{seed // 3}" if arm == "a" else "v"
            item.fingerprints = Fingerprints(
                init=item.fingerprints.init, final_weights=f"{arm}{seed}"
            )
            put(folder, item)
    return compare(folder)


def two_studies(folder: Path) -> Comparison:
    """Return two studies that hold cells of one baseline, trained on two machines."""
    for place, arm, shift in (("one", "a", 0.0), ("two", "b", 1e-4)):
        for seed in range(4):
            base = record(BASELINE, seed, 3.69 + CALM[seed] + shift * seed)
            put(folder / place, base)
            put(folder / place, record(arm, seed, 3.66 + OTHER[seed] + shift))
    return compare([folder / "one", folder / "two"])


STUDIES: dict[str, Callable[[Path], Comparison]] = {
    "Runs that ended in every way": ended,
    "Arms of several versions": mixed,
    "Two studies with one baseline": two_studies,
}


@pytest.mark.parametrize("title", FRAMES)
def test_every_word_beside_a_small_table_is_the_one_last_read(title: str) -> None:
    assert of_frame(title) == last_read(WORDS)[title]


@pytest.mark.parametrize("title", STUDIES)
def test_every_word_beside_the_table_of_a_study_is_the_one_last_read(title: str, tmp_path) -> None:
    assert told(STUDIES[title](tmp_path)).replace(str(tmp_path), "RUNS") == last_read(WORDS)[title]


def of_study(title: str) -> str:
    with tempfile.TemporaryDirectory() as folder:
        return told(STUDIES[title](Path(folder))).replace(folder, "RUNS")


if __name__ == "__main__":
    said = {title: partial(of_frame, title) for title in FRAMES}
    write(WORDS, said | {title: partial(of_study, title) for title in STUDIES})
