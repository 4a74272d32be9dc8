"""Synthetic studies with known truth, as frames and as record files on disk."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from analysis import verify
from analysis.__main__ import main
from analysis.check import Level
from harness.records import (
    BASELINE,
    Cost,
    Fingerprints,
    Losses,
    Provenance,
    RunRecord,
    Seeds,
    Status,
    StudyPlan,
    write_plan,
    write_record,
)
from harness.records.files import canonical_hash

SEEDS = ("init_seed", "data_seed", "loop_seed")


def study(
    deltas: Mapping[str, float],
    n: int = 3,
    *,
    sd: float = 0.01,
    rho: float = 0.5,
    n_baseline: int | None = None,
    shared: bool = True,
    rng: np.random.Generator | None = None,
) -> pd.DataFrame:
    """Return runs of a baseline (mean 3.69) and arms with given true differences."""
    rng = rng or np.random.default_rng(0)
    seed_effect = rng.normal(0, sd * rho**0.5, 10_000)
    rows, offset = [], 0
    for arm, delta in {BASELINE: 0.0, **deltas}.items():
        count = n if arm != BASELINE or n_baseline is None else n_baseline
        for i in range(count):
            seed = i if shared else offset + i
            noise = rng.normal(0, sd * (1 - rho) ** 0.5)
            rows.append(
                {
                    "arm": arm,
                    **dict.fromkeys(SEEDS, seed),
                    "test_loss": 3.69 + delta + seed_effect[seed] + noise,
                }
            )
        offset += count
    return pd.DataFrame(rows)


def one_run_among_unlike_arms() -> pd.DataFrame:
    """Return a calm arm, a wild one and one of a single run, whose noise could be of any size."""
    losses = {
        BASELINE: (2.5, 2.512, 2.507),
        "calm": (2.451, 2.463, 2.4581),
        "wild": (2.49, 2.515, 2.48),
        "once": (2.4,),
    }
    return pd.DataFrame(
        {"arm": arm, **dict.fromkeys(SEEDS, seed), "test_loss": loss}
        for arm, runs in losses.items()
        for seed, loss in enumerate(runs)
    )


def record(arm: str, seed: int, test_loss: float | None, **changes: Any) -> RunRecord:
    """Return one cell's record, complete unless said otherwise."""
    names = [] if arm == BASELINE else arm.split("+")
    init = {"wte": f"w{seed}", "ones": "1", **{f"h{i}": f"h{i}s{seed}" for i in range(4)}}
    fields: dict[str, Any] = {
        "study": "synthetic",
        "arm": arm,
        "interventions": names,
        "cell": canonical_hash([arm, seed, changes.get("study", "")]),
        "seeds": Seeds(init=seed, data=seed, loop=seed),
        "status": Status.COMPLETE,
        "step": 150,
        "n_steps": 150,
        "tokens": 307_200,
        "n_params": 1_000_000,
        "losses": Losses(train=test_loss, val=test_loss, test=test_loss),
        "cost": Cost(train_seconds=36.0, usd=0.02),
        "fingerprints": Fingerprints(init=init, data_order=f"d{seed}", data_shuffled=True),
        "provenance": Provenance(
            git_sha="a" * 40,
            git_dirty=False,
            test_set_sha256="t" * 64,
            dataset_sha256="d" * 64,
            config_sha256=f"c{arm}{seed}",
        ),
    }
    return RunRecord(**{**fields, **changes})


def put(folder: Path, item: RunRecord) -> Path:
    """Write a record where the harness would."""
    home = folder / item.arm / item.cell
    write_record(home, item)
    return home


def on_disk(folder: Path, frame: pd.DataFrame, plan: bool = True, **changes: Any) -> Path:
    """Write a frame of runs as a study's folder with its plan."""
    cells = []
    for row in frame.to_dict("records"):
        item = record(row["arm"], int(row["init_seed"]), float(row["test_loss"]), **changes)
        put(folder, item)
        cells.append({"arm": item.arm, "seeds": {"init": item.seeds.init}, "cell": item.cell})
    if plan:
        write_plan(folder, StudyPlan(study="synthetic", rope=0.01, cells=cells))
    return folder


def failures(folder: Path) -> list[str]:
    """Return what verification fails by."""
    return [check.what for check in verify(folder).checks if check.level is Level.FAIL]


def write_traced(root: Path) -> Path:
    """Write a study as the harness leaves it: config, test losses, records, plan, results."""
    cells = []
    rng = np.random.default_rng(0)
    for row in study({"a": -0.03, "b": 0.0}, n=3).to_dict("records"):
        losses = (row["test_loss"] + rng.normal(0, 0.1, 64)).astype(np.float32)
        text = f"seed: {row['init_seed']}\narm: {row['arm']}\n"
        item = record(row["arm"], row["init_seed"], float(losses.mean(dtype=np.float64)))
        item.provenance.config_sha256 = hashlib.sha256(text.encode()).hexdigest()
        home = put(root, item)
        (home / "config.yaml").write_text(text)
        np.save(home / "test_losses.npy", losses)
        cells.append({"arm": item.arm, "seeds": {}, "cell": item.cell})
    write_plan(root, StudyPlan(study="synthetic", rope=0.01, cells=cells))
    assert main([str(root), "--reference", "GPT-2=3.5"]) == 0
    return root
