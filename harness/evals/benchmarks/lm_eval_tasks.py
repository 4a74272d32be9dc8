"""Tasks of EleutherAI's lm_eval by name, or from a folder of its YAML files."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from harness.config import ConfigError
from harness.evals.benchmarks.items import Item, Items
from harness.evals.benchmarks.scoring import Score
from harness.evals.models import LoadedModel

KINDS = ("multiple_choice", "loglikelihood")
"""Of tasks whose items have choices, or one last word."""


@dataclass(frozen=True, slots=True)
class Answered:
    """A task as lm_eval asked it."""

    items: Items
    scores: Mapping[tuple[str, str], Score]
    """By context and continuation."""
    metrics: dict[str, float]
    """lm_eval's own averages, ``TASK/METRIC``."""


def ask(loaded: LoadedModel, name: str, folder: Path | None) -> Answered:
    """Let lm_eval ask the model a task, or a group of tasks, each then a cluster of items."""
    tasks = _load(_manager(folder), name, folder)
    for task in tasks.values():
        if task.OUTPUT_TYPE not in KINDS or getattr(task, "multiple_target", False):
            raise ConfigError(
                f"{task.task_name} is of the kind {task.OUTPUT_TYPE}: --tasks takes items with one "
                f"right choice, {' and '.join(KINDS)}"
            )
    from lm_eval import simple_evaluate

    from harness.evals.benchmarks.lm_eval_model import HarnessLM

    model = HarnessLM(loaded)
    found = simple_evaluate(model, tasks=list(tasks.values()), bootstrap_iters=0)
    samples = found["samples"]
    items = [item for leaf, task in tasks.items() for item in _items(leaf, task, samples[leaf])]
    if len(tasks) == 1:
        items = [Item(item.id, item.id, item.prompts, item.answer) for item in items]
    source = f"lm_eval {version('lm_eval')}"
    return Answered(Items(name, source, items), model.scores, _metrics(found["results"]))


@lru_cache(maxsize=2)
def _manager(folder: Path | None) -> Any:
    """Return the index of a folder's tasks, or of lm_eval's own, which takes half a minute."""
    from lm_eval.tasks import TaskManager

    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    if folder is None:
        return TaskManager()
    return TaskManager(include_path=str(folder), include_defaults=False)


def _load(manager: Any, name: str, folder: Path | None) -> dict[str, Any]:
    """Return the tasks of that name with their data."""
    if name not in manager.all_tasks:
        where = f"the task files of {folder}" if folder else "lm_eval"
        near = get_close_matches(name, manager.all_tasks, n=3) or manager.all_tasks[:10]
        raise ConfigError(f"{where}: no task is called {name}; there are {', '.join(near)}")
    try:
        found: dict[str, Any] = manager.load([name])["tasks"]
    except Exception as error:  # of several libraries; nearly always data that are not there
        said = " ".join(str(error).split())[:200]
        raise ConfigError(
            f"cannot load {name}: {type(error).__name__}: {said}; data of the hub: run this "
            "once with network access, then with HF_HUB_OFFLINE=1 if need be"
        ) from error
    return found


def _items(leaf: str, task: Any, samples: Sequence[Mapping[str, Any]]) -> list[Item]:
    """Return the items that were asked; each of a task that `KINDS` names."""
    found = []
    for sample in samples:
        doc, prompts = sample["doc"], [(str(a[0]), str(a[1])) for a in sample["arguments"]]
        answer = 0
        if task.OUTPUT_TYPE == "multiple_choice":
            choices = task.doc_to_choice(doc)
            prompts = prompts[: len(choices)]  # behind them: those of mutual information
            answer = _answer(leaf, task, doc, choices)
        found.append(Item(f"{leaf}/{sample['doc_id']}", leaf, tuple(prompts), answer))
    return found


def _answer(leaf: str, task: Any, doc: Any, choices: Sequence[str]) -> int:
    gold = task.doc_to_text(doc) if task.multiple_input else task.doc_to_target(doc)
    if isinstance(gold, str) and gold in choices:
        gold = choices.index(gold)
    if not isinstance(gold, int) or not 0 <= gold < len(choices):
        raise ConfigError(f"{leaf}: the right choice is {gold!r}, of {len(choices)} choices")
    return gold


def _metrics(results: Mapping[str, Mapping[str, Any]]) -> dict[str, float]:
    return {
        f"{leaf}/{metric.removesuffix(',none')}": float(value)
        for leaf, row in results.items()
        for metric, value in row.items()
        if isinstance(value, float) and math.isfinite(value) and "stderr" not in metric
    }
