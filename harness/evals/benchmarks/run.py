"""Ask a model the items of a task, and keep its answers beside the study's cells."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from harness.evals.benchmarks.items import Items, is_ours, read_items
from harness.evals.benchmarks.lm_eval_tasks import Answered, ask
from harness.evals.benchmarks.scoring import Score, score
from harness.evals.losses import formats
from harness.evals.models import LoadedModel
from harness.evals.reference import is_of
from harness.records.benchmarks import ItemScore, TaskRun, write_task
from harness.records.evaluation import label, reference_folder
from harness.records.files import now


@dataclass(frozen=True, slots=True)
class Done:
    """What came of one task."""

    run: TaskRun
    scores: list[ItemScore]
    file: Path

    def sentence(self) -> str:
        """Return it in words."""
        run, n = self.run, len(self.scores)
        words = sum(len(item.nats) == 1 for item in self.scores)
        right = sum(item.right() for item in self.scores)
        mean = sum(item.nats[item.answer] for item in self.scores) / n
        kind = "last words" if words == n else "items"
        cut = f"; {run.n_cut} of them were read without their beginning" if run.n_cut else ""
        return (
            f"{run.model}: {run.task}: {right} of {n} {kind} right, {mean:.3f} nats a right choice"
            f"{cut}; {self.file}"
        )


def run_task(
    loaded: LoadedModel,
    name: str,
    study: Path,
    precision: str = "fp32",
    task_files: Path | None = None,
) -> Done:
    """Ask one task and write the answers beside the study's cells.

    `task_files` is a folder of lm_eval's YAML files, whose tasks are named instead of its own.
    """
    with formats(loaded, precision):
        if is_ours(name):
            items = read_items(name)
            prompts = [prompt for item in items.items for prompt in item.prompts]
            answered = Answered(items, dict(zip(prompts, score(loaded, prompts), strict=True)), {})
        else:
            answered = ask(loaded, name, task_files)
    scores = _item_scores(answered.items, answered.scores)
    run = _task_run(loaded, answered, study, precision)
    return Done(run, scores, write_task(reference_folder(study, run.model), run, scores))


def _item_scores(items: Items, scores: Mapping[tuple[str, str], Score]) -> list[ItemScore]:
    return [
        ItemScore(
            item=item.id,
            group=item.group,
            answer=item.answer,
            nats=[round(scores[prompt].nats, 6) for prompt in item.prompts],
            lengths=[len(continuation.lstrip()) for _, continuation in item.prompts],
            greedy=scores[item.prompts[item.answer]].greedy,
        )
        for item in items.items
    ]


def _task_run(loaded: LoadedModel, answered: Answered, study: Path, precision: str) -> TaskRun:
    items, record = answered.items, loaded.record
    cut = [any(answered.scores[p].cut for p in item.prompts) for item in items.items]
    return TaskRun(
        task=items.task,
        source=items.source,
        items_sha256=items.sha256,
        n_items=len(items.items),
        n_cut=sum(cut),
        model=label(loaded.name, precision),
        weights_sha256=loaded.weights.sha256,
        final_weights=record.fingerprints.final_weights if record else None,
        cell=record.cell if record else None,
        in_study=is_of(loaded, study),
        precision=precision,
        metrics=answered.metrics,
        created=now(),
        provenance=loaded.provenance_of_measurement(),
    )
