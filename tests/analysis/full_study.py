"""Studies on disk as the harness leaves them: records, metrics, samples, logs, losses."""

import json
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from analysis.comparison.rules import Rules
from analysis.report.evidence import Evidence, gather
from analysis.runs.tables import read_runs
from harness.records import (
    Cost,
    Fingerprints,
    Losses,
    Provenance,
    RunRecord,
    Seeds,
    Status,
    StudyPlan,
    read_record,
    write_plan,
    write_record,
)
from harness.records.evaluation import (
    TOKEN_LOSSES_FILE,
    Evaluation,
    reference_folder,
    write_evaluation,
)

ARMS = {"baseline": 0.0, "good": -0.05, "plain": 0.0, "good+plain": -0.03}
EVIL = "</script><script>window.injected = 1</script><img src=x onerror='window.injected=2'>"


def full_study(
    folder: Path,
    effects: dict[str, float],
    n: int = 3,
    *,
    n_points: int = 20,
    completion: str = "and the text becomes coherent",
    running: int = 0,
) -> Path:
    """Write a study named after its folder; the last `running` cells are half done."""
    draw = np.random.default_rng(0)
    shared = draw.normal(0, 0.004, n)
    cells = [(arm, seed) for arm in effects for seed in range(n)]
    for at, (arm, seed) in enumerate(cells):
        loss = 3.0 + effects[arm] + shared[seed] + draw.normal(0, 0.006)
        half = at >= len(cells) - running
        _cell(folder, arm, seed, loss, n_points, completion, half)
    plan = StudyPlan(study=folder.name, rope=0.01)
    plan.cells = [
        {"arm": a, "seeds": {"init": s, "data": s, "loop": s}, "cell": cell_name(a, s)}
        for a, s in cells
    ]
    write_plan(folder, plan)
    return folder


def cell_name(arm: str, seed: int) -> str:
    return f"{sum(arm.encode()) * 7919 % 65521:05x}{seed:07x}"


def end_as(
    folder: Path, arm: str, seed: int, status: Status, test: float | None = None, error: str = ""
) -> Path:
    """Let a cell have ended another way; return its folder."""
    place = folder / arm / cell_name(arm, seed)
    record = read_record(place)
    record.status, record.losses.test, record.error = status, test, error or None
    write_record(place, record)
    return place


def evidence_of(folder: Path) -> Evidence:
    """Return what a report of the study would show."""
    return gather(read_runs([str(folder)]), Rules())


def write_texts(folder: Path, tokens: list[str], effects: dict[str, float], n: int = 2) -> None:
    """Let the first cells of each arm have been evaluated: the last token carries the effect."""
    for arm, effect in effects.items():
        for seed in range(n):
            cell = cell_name(arm, seed)
            done = Evaluation(
                name=f"{arm}/{cell}@1", asked=arm, in_study=True, loss=1.0, bits_per_byte=1.0,
                n_sequences=1, n_bytes=1, test_set_sha256="t" * 64, weights_sha256="w", n_params=1,
                tokenizer="bytes", context="", precision="fp32", provenance={"cell": cell},
            )  # fmt: skip
            home = reference_folder(folder, done.label)
            write_evaluation(home, done)
            nats = [1.0] * (len(tokens) - 1) + [2.0 + effect + seed]
            view = {"tokens": tokens, "nats": nats}
            (home / TOKEN_LOSSES_FILE).write_text(json.dumps({"sequences": [view]}))


def _cell(folder, arm, seed, loss, n_points, completion, half) -> None:
    place = folder / arm / cell_name(arm, seed)
    done = n_points // 2 if half else n_points
    record = _record(folder.name, arm, seed, n_points)
    record.step, record.tokens = done * 10, done * 10_000
    record.status = Status.RUNNING if half else Status.COMPLETE
    record.losses = Losses(train=loss + 0.1, val=loss, test=None if half else loss)
    write_record(place, record)
    _write_lines(place / "metrics.jsonl", (_point(i, loss) for i in range(done)))
    _write_lines(place / "samples.jsonl", (_sample(step, completion) for step in (10, 50, 100)))
    (place / "log.txt").write_text("\n".join(f"step {i} {completion}" for i in range(40)))
    if not half:
        noise = np.random.default_rng(seed).normal(0, 0.5, 64)
        np.save(place / "test_losses.npy", (loss + noise - noise.mean()).astype(np.float32))


def _record(study: str, arm: str, seed: int, n_points: int) -> RunRecord:
    names = [] if arm == "baseline" else arm.split("+")
    return RunRecord(
        study=study,
        arm=arm,
        interventions=names,
        cards={name: {"summary": f"try {name}", "source": "a paper"} for name in names},
        changes={f"optim.{name}": [0.1, 0.2] for name in names},
        cell=cell_name(arm, seed),
        seeds=Seeds(init=seed, data=seed, loop=seed),
        n_steps=n_points * 10,
        n_params=1_000_000,
        cost=Cost(train_seconds=60.0 + seed, tokens_per_second=1e4, usd=0.02 + 0.01 * len(names)),
        fingerprints=Fingerprints(
            init={"w": f"{seed}"}, data_shuffled=True, final_weights=f"{arm}{seed}"
        ),
        provenance=Provenance(test_set_sha256="t" * 64, packages={"torch": "2"}, device="cpu"),
    )


def _point(i: int, loss: float) -> dict:
    return {
        "step": 10 * (i + 1),
        "tokens": 10_000 * (i + 1),
        "train_loss": loss + 2 / (i + 1),
        "lr": 1e-3,
        "grad_norm": 1.0,
        "skipped_steps": 0,
        "train_seconds": float(i),
        "tokens_per_second": 1e4,
        **({"val_loss": loss + 1.9 / (i + 1)} if i % 2 else {}),
    }


def _sample(step: int, completion: str) -> dict:
    text = f"Every effort {completion} {step}"
    return {"step": step, "tokens": 1000 * step, "prompt": "Every effort", "completion": text}


def _write_lines(file: Path, rows: Iterable[dict]) -> None:
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
