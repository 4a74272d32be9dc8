"""Every word of further answers: verified studies, stacks, looks, controls, and files of results.

``python tests/analysis/test_words_of_answers.py`` writes the file anew: read its difference.
"""

import json
import tempfile
from collections.abc import Callable
from contextlib import redirect_stdout
from dataclasses import replace
from functools import partial
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from studies import put, record, write_traced
from words import last_read, write

from analysis import compare, decide, stack, verify
from analysis.comparison.ranking import ranking
from analysis.runs.tables import read_runs
from harness.records import BASELINE, Provenance, Status, StudyPlan, write_plan
from harness.records.evaluation import Evaluation

WORDS = Path(__file__).parent / "fixtures" / "words_of_answers.md"
NOISE = {
    BASELINE: [0.004, -0.009, 0.006, 0.001, -0.003],
    "a": [-0.002, 0.005, -0.007, 0.003, 0.002],
    "b": [0.007, -0.001, -0.004, -0.006, 0.003],
    "c": [0.001, 0.006, -0.005, 0.002, -0.004],
    "a+b": [-0.006, 0.002, 0.005, -0.003, 0.004],
    "b+c": [0.003, -0.004, 0.001, 0.006, -0.007],
    "a+b+c": [0.002, 0.003, -0.006, -0.002, 0.001],
}


def runs(n: int = 5, first: int = 0, **deltas: float) -> pd.DataFrame:
    """Return runs of these arms; ``a_b`` is the stack a+b."""
    given = {BASELINE: 0.0} | {arm.replace("_", "+"): delta for arm, delta in deltas.items()}
    return pd.DataFrame(
        [
            {"arm": arm, "seed": seed, "test_loss": round(3.69 + delta + NOISE[arm][seed], 6)}
            for arm, delta in given.items()
            for seed in range(first, n)
        ]
    )


def short(value: Any) -> Any:
    """Return figures of five digits."""
    if isinstance(value, dict):
        return {key: short(item) for key, item in value.items() if key != "created"}
    if isinstance(value, list):
        return [short(item) for item in value]
    return float(f"{value:.5g}") if isinstance(value, float) else value


def traced(folder: Path) -> Path:
    with redirect_stdout(StringIO()):
        return write_traced(folder / "synthetic")


def edited(folder: Path, name: str, old: str, new: str) -> None:
    text = (folder / name).read_text(encoding="utf-8")
    assert old in text
    (folder / name).write_text(text.replace(old, new), encoding="utf-8")


def all_is_well(folder: Path) -> str:
    return verify(traced(folder)).to_markdown()


def files_are_wrong(folder: Path) -> str:
    study = traced(folder)
    homes = {str(h.parent.relative_to(study)): h.parent for h in sorted(study.rglob("record.json"))}
    a, b, base = (
        sorted(h for n, h in homes.items() if n.startswith(x)) for x in ("a", "b/", "base")
    )
    (a[0] / "config.yaml").unlink()
    (a[1] / "config.yaml").write_text("seed: 9\n")
    (a[2] / "config.yaml").unlink()
    (a[2] / "config.yaml").mkdir()
    (b[0] / "test_losses.npy").unlink()
    (b[1] / "test_losses.npy").write_bytes(b"nothing")
    np.save(b[2] / "test_losses.npy", np.load(b[2] / "test_losses.npy") + np.float32(0.01))
    for i, home in enumerate(base):
        content = json.loads((home / "record.json").read_text())
        content["step"] = 150 - i
        content["provenance"] |= {"git_dirty": i > 0, "dirty_patch": "dirty.patch" if i else None}
        (home / "record.json").write_text(json.dumps(content))
    (base[2] / "dirty.patch").touch()
    return verify(study).to_markdown()


def tables_are_wrong(folder: Path) -> str:
    study = traced(folder)
    edited(study, "results.json", '"arm": "a"', '"arm": "A"')
    edited(study, "results.json", '"sd": ', '"sd": 1')
    edited(study, "results.md", "| a ", "| x ")
    edited(study, "results.csv", "\nb,3", "\nb,4")
    edited(study, "results.tex", "toprule", "toprule%")
    (study / "report.html").touch()
    return verify(study).to_markdown()


def tables_are_of_another_study(folder: Path) -> str:
    study = traced(folder)
    put(study, record("new", 0, 3.6))
    for home in (study / "b").iterdir():
        content = json.loads((home / "record.json").read_text())
        content["losses"]["test"] += 0.01
        (home / "record.json").write_text(json.dumps(content))
    (study / "results.tex").unlink()
    write_plan(study, StudyPlan(study="synthetic", rope=0.02))
    return verify(study).to_markdown()


def runs_of_every_kind(folder: Path) -> str:
    study = folder / "synthetic"
    packages = [{"torch": str(i // 2), "numpy": "2"} for i in range(10)]
    for seed in range(10):
        known = Provenance(
            git_sha="a" * 40, git_dirty=seed == 3, config_sha256="c", dataset_sha256="d" * 60,
            test_set_sha256="t" * 64, device="" if seed else None, packages=packages[seed],
            tokenizer="abcdefghijklmnopqrstuvwxyz"[: 20 + (seed == 9)], sources={"mine.f": str(seed % 2)},
        )  # fmt: skip
        put(study, record(BASELINE, seed, 3.69 + seed / 1000, provenance=known))
    for seed, status in enumerate((Status.FAILED, Status.DIVERGED, Status.STOPPED, Status.RUNNING)):
        put(study, record("a", seed, None, status=status))
    cells = [{"arm": "a", "seeds": {"init": 9}, "cell": "never"}]
    write_plan(study, StudyPlan(study="synthetic", cells=cells))
    return verify(study).to_markdown()


def nothing_planned(folder: Path) -> str:
    put(folder / "s", record(BASELINE, 0, 3.7, provenance=Provenance()))
    (folder / "s" / "results.md").touch()
    return verify(folder / "s").to_markdown()


def stacks(folder: Path) -> str:
    effects = {"a": -0.05, "b": -0.04, "c": -0.03, "a_b": -0.089, "b_c": -0.03, "a_b_c": -0.17}
    return stack(runs(**effects), practical_size=0.02).to_markdown()


def stacks_of_a_metric(folder: Path) -> str:
    effects = {"a": -0.05, "b": 0.05, "a_b": 0.09, "b_c": 0.03}
    frame = runs(**effects).rename(columns={"test_loss": "acc"})
    return stack(frame, metric="acc", higher_is_better=True, alpha=0.1).to_markdown()


def stacks_without_noise(folder: Path) -> str:
    frame = runs(a=-0.05, b=-0.04, a_b=-0.09)
    frame["test_loss"] = frame.groupby("arm")["test_loss"].transform("mean")
    return stack(frame, practical_size=0.01).to_markdown()


def looks(folder: Path) -> str:
    frame = runs(a=-0.25, b=-0.012, c=0.001).assign(status="complete")
    lost = frame["arm"].eq("c") & frame["seed"].eq(0)
    frame.loc[lost, ["status", "test_loss"]] = ["diverged", np.nan]
    plan = StudyPlan(study="s", looks=[3, 5, 9], rope=0.01, alpha=0.1)
    return decide(frame[~(frame["arm"].eq("b") & frame["seed"].eq(4))], plan).to_markdown()


def looks_without_a_practical_size(folder: Path) -> str:
    frame = runs(a=-0.25, b=-0.012, c=0.001)
    return decide(frame, StudyPlan(study="s", looks=[2, 5]), variance="pooled").to_markdown()


def a_study_with_looks(folder: Path) -> str:
    cells = []
    for row in runs(4, a=-0.25, b=-0.012, c=0.0).to_dict("records"):
        item = record(row["arm"], row["seed"], row["test_loss"])
        put(folder / "s", item)
        cells.append({"arm": item.arm, "seeds": {"init": row["seed"]}, "cell": item.cell})
    plan = StudyPlan(study="synthetic", cells=cells, looks=[3, 6], rope=0.01)
    write_plan(folder / "s", plan)
    return compare(folder / "s").to_markdown()


def controls(folder: Path) -> str:
    effects = {"a": 0.001, "b": -0.09, "c": -0.04}
    for row in runs(**effects).to_dict("records"):
        known = {"control": row["arm"] in ("a", "b")}
        weights = f"{'' if row['arm'] == 'a' and row['seed'] < 2 else row['arm']}{row['seed']}"
        item = record(row["arm"], row["seed"], row["test_loss"])
        item.cards = {name: {"summary": "", **known} for name in item.interventions}
        base = row["arm"] == BASELINE
        item.fingerprints.final_weights = f"{row['seed']}" if base else weights
        put(folder / "s", item)
    result = compare(folder / "s")
    return "\n".join(
        f"- {check.level}: {check} {check.arms} {check.mark}" for check in result.checks
    )


def text_and_references(folder: Path) -> str:
    study = folder / "s"
    for row in runs(a=-0.004, b=0.0).to_dict("records"):
        home = put(study, record(row["arm"], row["seed"], row["test_loss"]))
        size = {"a": 0.1, "b": 0.01}.get(row["arm"], 0.0)
        losses = row["test_loss"] + size * np.array([1.0, -1.0, 0.5, -0.5])
        np.save(home / "test_losses.npy", losses.astype(np.float32))
        np.save(home / "test_documents.npy", np.array([0, 1, 1, 2], dtype=np.int32))
    given = [("gpt2", 1.1, "t", "whole"), ("qwen", 0.9, "t", "whole"), ("small", 1.3, "u", "part"),
             ("long", 1.0, "t", "4096 tokens")]  # fmt: skip
    known = {"asked": "", "in_study": False, "n_sequences": 4, "n_bytes": 9, "weights_sha256": "w"}
    known |= {"n_params": 1, "tokenizer": "bytes", "precision": "fp32", "provenance": {}}
    evaluations = tuple(
        Evaluation(
            name=name, loss=3.5, bits_per_byte=bits, test_set_sha256=text * 64, context=how, **known
        )
        for name, bits, text, how in given
    )
    read = read_runs([str(study)])
    return compare(replace(read, evaluations=evaluations), alpha=0.2).to_markdown()


def ranks(folder: Path) -> str:
    result = compare(runs(a=-0.05, b=-0.051, c=-0.09), alpha=0.1)
    found = ranking(result)
    return f"{found.sentence()}\n\n{found.to_table().to_markdown()}"


def json_of_results(folder: Path) -> str:
    frame = runs(3, a=-0.05, b=0.001).assign(tokens=1000.0, private="x")
    content = json.loads(compare(frame, practical_size=0.01).to_json())
    return "\n".join(
        f"{key}: {json.dumps(short(item))}" for key, item in content.items() if key != "created"
    )


def latex_of_results(folder: Path) -> str:
    return compare(runs(3, a=-0.05, b=0.001), practical_size=0.01).to_latex()


SAID: dict[str, Callable[[Path], str]] = {
    "Verified: all is well": all_is_well,
    "Verified: files are wrong": files_are_wrong,
    "Verified: tables are wrong": tables_are_wrong,
    "Verified: tables are of another study": tables_are_of_another_study,
    "Verified: runs of every kind": runs_of_every_kind,
    "Verified: nothing planned": nothing_planned,
    "Stacks": stacks,
    "Stacks of a metric that is better when higher": stacks_of_a_metric,
    "Stacks without noise": stacks_without_noise,
    "Looks": looks,
    "Looks without a practical size": looks_without_a_practical_size,
    "A study with looks": a_study_with_looks,
    "Controls": controls,
    "Test text and references": text_and_references,
    "Ranks": ranks,
    "Results as JSON": json_of_results,
    "Results as LaTeX": latex_of_results,
}  # fmt: skip


def said_in(title: str, folder: Path) -> str:
    return SAID[title](folder).replace(str(folder), "RUNS").strip()


@pytest.mark.parametrize("title", SAID)
def test_every_word_of_an_answer_is_the_one_last_read(title: str, tmp_path) -> None:
    assert said_in(title, tmp_path) == last_read(WORDS)[title]


def of_study(title: str) -> str:
    with tempfile.TemporaryDirectory() as folder:
        return said_in(title, Path(folder))


if __name__ == "__main__":
    write(WORDS, {title: partial(of_study, title) for title in SAID})
