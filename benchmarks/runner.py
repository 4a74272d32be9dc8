"""Measure what the study runner adds to its cells, and how long a cell takes to start and to end.

    python -m benchmarks.runner [--cells 8] [--rounds 5] [--write]

The same demo cells go through the runner and, in turn, through a bare loop: as many processes as
there are slots, forked with all imports done, each training, validating, sampling and testing its
share one after another, without launcher, locks, records, checkpoints or logs.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from multiprocessing import forkserver
from pathlib import Path

import torch

from benchmarks.report import machine, table, write_section
from harness.cell.freeze import freeze, load_frozen
from harness.config.compose import load
from harness.study import runner
from harness.study.plan import PlannedCell
from harness.study.slots import Slot, plan_slots

ARMS = ("baseline", "qkv_bias", "no_dropout", "gradient_clipping")
SHORT = ["train.tokens=1024", "eval.test_sequences=16", "eval.val_sequences=4"]
"""One step, and an evaluation of milliseconds."""
PROBE = """# @package _global_
interventions:
  probe:
    summary: notes when its steps end
    source: this benchmark
    event: step_done
    fn: {_target_: benchmarks.runner.stamp, _partial_: true, folder: STAMPS}
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cells", type=int, default=8, help="of each round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--tokens", type=int, help="of a cell, instead of the demo's")
    parser.add_argument("--write", action="store_true", help="into docs/benchmarks.md")
    options = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    with tempfile.TemporaryDirectory() as base:
        shown = overhead(options, base) + start_up(base)
    text = (
        f"{table(shown)}\n\n{machine('torch')}. {options.rounds} rounds of {options.cells} cells "
        f"on {len(plan_slots(load(['hardware=cpu']).hardware))} cores, median (all)."
    )
    print(text)
    if options.write:
        write_section("runner", text)


def overhead(options: argparse.Namespace, base: str) -> list[dict[str, str]]:
    tokens = [f"train.tokens={options.tokens}"] if options.tokens else []
    run_quietly(frozen(1, [*SHORT, f"runs_dir={base}/warm"]))  # the imports
    wall, processor, cell = [], [], []
    for i in range(options.rounds):
        turns: dict[str, tuple[float, float]] = {}
        for name, run in sorted({"runner": run_quietly, "bare": bare}.items(), reverse=i % 2 > 0):
            cells = frozen(options.cells, [*tokens, f"runs_dir={base}/{name}{i}"])
            turns[name] = clocked(run, cells)
        wall.append(turns["runner"][0] / turns["bare"][0] - 1)
        processor.append(turns["runner"][1] / turns["bare"][1] - 1)
        cell.append(turns["bare"][1] / options.cells)
    return [
        row("runner over a bare loop, wall-clock time", wall, "+.1%"),
        row("the same, processor time", processor, "+.1%"),
        row("a cell of the bare loop, processor seconds", cell, ".1f"),
    ]


def start_up(base: str) -> list[dict[str, str]]:
    """Time one-step cells of an arm that notes when its step begins and ends."""
    stamps = Path(base) / "stamps"
    stamps.mkdir()
    overlay = Path(base) / "conf" / "intervention" / "probe.yaml"
    overlay.parent.mkdir(parents=True)
    overlay.write_text(PROBE.replace("STAMPS", str(stamps)))
    search = f"hydra.searchpath=[file://{overlay.parent.parent}]"
    cells = frozen(12, [*SHORT, search, "hardware.slots=1", f"runs_dir={base}/start"], ("probe",))
    begun, ended = {}, {}

    class Timed(runner._Runner):
        def _start(self, function, cell, *arguments) -> None:
            begun[cell.folder] = time.time()
            super()._start(function, cell, *arguments)

        def _settle(self, trial) -> None:
            ended[trial.cell.folder] = time.time()
            super()._settle(trial)

    original, runner._Runner = runner._Runner, Timed  # type: ignore[misc]
    run_quietly(cells)
    runner._Runner = original  # type: ignore[misc]
    steps = sorted(float(path.read_text(encoding="utf-8")) for path in stamps.iterdir())[
        -len(cells) :
    ]
    order = sorted(cells, key=lambda cell: begun[cell.folder])
    before = [s - begun[c.folder] for s, c in zip(steps, order, strict=True)]
    after = [ended[c.folder] - s for s, c in zip(steps, order, strict=True)]
    return [
        row("launcher's decision to the end of the first step, s", before, ".2f"),
        row("end of the last step to the free slot, testing included, s", after, ".2f"),
    ]


def stamp(model: torch.nn.Module, step: int, folder: str) -> None:
    """Event function: note the time in a file of this process."""
    (Path(folder) / f"{os.getpid()}").write_text(f"{time.time()}")


def frozen(n: int, overrides: list[str], arms: tuple[str, ...] = ARMS) -> list[PlannedCell]:
    """Return so many frozen demo cells of the arms, with as many seeds as needed."""
    found = []
    for i in range(n):
        arm, seed = arms[i % len(arms)], i // len(arms)
        chosen = ["hardware=cpu", "study_name=b", f"seed={seed}", f"+intervention={arm}"]
        config = load([*chosen, *overrides])
        found.append(PlannedCell(config, freeze(config)))
    return found


def run_quietly(cells: list[PlannedCell]) -> None:
    """Run cells as a study does, with its lines thrown away."""
    original, runner.say = runner.say, lambda text: None
    runner.Screen.say = lambda self, text: None  # type: ignore[method-assign]
    runner.run_cells(cells)
    runner.say = original


def bare(cells: list[PlannedCell]) -> None:
    """Train the cells in one process a slot, each its share."""
    slots = plan_slots(cells[0].config.hardware)
    context = multiprocessing.get_context("forkserver")
    shares = [[cell.folder for cell in cells[i :: len(slots)]] for i in range(len(slots))]
    processes = [
        context.Process(target=bare_loop, args=pair) for pair in zip(shares, slots, strict=True)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join()


def bare_loop(folders: list[Path], slot: Slot) -> None:
    from harness.cell.build import build_training, corpus_batches
    from harness.data.corpus import open_corpus
    from harness.data.evaluated import test_sequences, val_sequences
    from harness.engine.distributed import World
    from harness.engine.memory import keep_memory
    from harness.loop import evaluate, train

    slot.occupy()
    torch.set_num_threads(1)
    keep_memory()
    for folder in folders:
        config = load_frozen(folder)
        corpus = open_corpus(config.data, Path(config.data_dir))
        batches = corpus_batches(config, corpus)
        training = build_training(config, batches, torch.device("cpu"), World())
        train(training, Watcher(training, val_sequences(config, corpus).tokens))
        evaluate(training, test_sequences(config, corpus).tokens)


class Watcher:
    """What a person would write into a bare loop: losses, validation, samples."""

    def __init__(self, training, val_sequences) -> None:
        from harness.cell.recorder import evenly_spaced
        from harness.data.tokens import get_tokenizer

        self.training, self.val_sequences, config = training, val_sequences, training.config
        self.encoding = get_tokenizer(config.data.tokenizer)
        self.log_steps = evenly_spaced(config.log.n_points, config.n_steps)
        self.val_steps = evenly_spaced(config.eval.n_val, config.n_steps)
        self.sample_steps = evenly_spaced(config.sample.n_times, config.n_steps)

    def step_done(self, loss, grad_norm, lr) -> None:
        from harness.engine.randomness import generator
        from harness.evaluation import complete
        from harness.loop import evaluate

        t, config = self.training, self.training.config
        if t.step in self.log_steps:
            float(loss), float(grad_norm)
        if t.step in self.val_steps:
            evaluate(t, self.val_sequences)
        if t.step in self.sample_steps:
            for prompt in config.sample.prompts:
                complete(t.model, self.encoding, prompt, config.sample, generator(0, "sample"))


def clocked(
    function: Callable[[list[PlannedCell]], None], cells: list[PlannedCell]
) -> tuple[float, float]:
    """Return wall-clock and processor seconds, this process's and its cells'."""
    wall, processor = time.perf_counter(), processor_seconds()
    function(cells)
    return time.perf_counter() - wall, processor_seconds() - processor


def processor_seconds() -> float:
    """Return the time that this process, the fork server and all ended cells have taken."""
    server = forkserver._forkserver._forkserver_pid  # type: ignore[attr-defined]
    fields = Path(f"/proc/{server}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    ticks = sum(map(int, fields[11:15]))
    return time.process_time() + ticks / os.sysconf("SC_CLK_TCK")


def row(what: str, values: list[float], form: str) -> dict[str, str]:
    every = ", ".join(format(value, form) for value in sorted(values))
    return {"what": what, "figure": f"**{statistics.median(values):{form}}** ({every})"}


if __name__ == "__main__":
    main()
