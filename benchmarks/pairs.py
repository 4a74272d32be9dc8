"""Compose every pair of interventions, and train a step of each: it works, or is refused by name.

python -m benchmarks.pairs [--steps 0|1] [--of N]    all pairs, or every N-th; 0: compose only
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from itertools import combinations

import numpy as np
import torch
from hydra import initialize_config_dir

from harness.cell.build import build_batches, build_training
from harness.config import Config, ConfigError
from harness.config.compose import resolve
from harness.engine.distributed import World
from harness.loop import train_step
from harness.records.files import CONF_DIR
from interventions.card import OVERLAYS

TINY = [
    *("model.n_layer=4", "model.n_embd=32", "model.block_size=16", "train.tokens=10240"),
    *("eval.test_sequences=8", "eval.val_sequences=4", "precision=amp_bf16", "hardware=cpu"),
]
TOKENS = np.random.default_rng(0).integers(257, size=4097).astype(np.uint16)
TOKENS[::100] = 256
STARTS = np.append(0, np.flatnonzero(TOKENS == 256) + 1)
"""Every hundredth token ends a document."""


def alone() -> tuple[dict[str, list[str]], list[str]]:
    """Return name -> what it changes by itself, with its group, and who cannot stand alone here."""
    changed, others = {}, []
    for path in sorted(OVERLAYS.glob("*.yaml")):
        if path.stem != "baseline":
            try:
                config = resolve((), [*TINY, f"+intervention={path.stem}"])
                keys = list(config.changes)
                changed[path.stem] = keys + [key.rpartition(".")[0] for key in keys if "." in key]
            except ConfigError:
                others.append(path.stem)
    return changed, others


def outcome(pair: tuple[str, str], words: list[str], steps: int) -> str:
    """Return "composes", "refused" (one of the words is named), or what is wrong."""
    try:
        config = resolve((), [*TINY, f"+intervention=[{','.join(pair)}]"])
        for step in range(steps):
            _train(config, step)
    except ConfigError as error:
        named = any(word in str(error) for word in (*pair, *words))
        return "refused" if named else f"refused without a name: {error}"
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return "composes"


def _train(config: Config, step: int) -> None:
    batches = build_batches(config, TOKENS, STARTS)
    training = build_training(config, batches, torch.device("cpu"), World())
    training.model.train()
    loss = train_step(training, step).loss
    if not loss.isfinite():
        raise FloatingPointError(f"loss {loss.item()}")


def main(arguments: list[str] | None = None) -> int:
    """Try the pairs, print what is wrong and how many do what; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=1)
    parser.add_argument("--of", type=int, default=1)
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    start, counts = time.monotonic(), Counter[str]()
    with initialize_config_dir(str(CONF_DIR), version_base="1.3"):
        changed, others = alone()
        pairs = list(combinations(changed, 2))[:: options.of]
        for pair in pairs:
            found = outcome(pair, [*changed[pair[0]], *changed[pair[1]]], options.steps)
            counts[found if found in ("composes", "refused") else "wrong"] += 1
            if found not in ("composes", "refused"):
                print(f"{'+'.join(pair)}: {found}", flush=True)
    seconds = time.monotonic() - start
    print(f"{len(pairs)} pairs of {len(changed)} interventions in {seconds:.0f} s: {dict(counts)}")
    print(f"left out, since this setting refuses them alone: {', '.join(others) or 'none'}")
    return int(bool(counts["wrong"]))


if __name__ == "__main__":
    sys.exit(main())
