"""Measure this engine against what one would pick instead, on the same step.

    python -m benchmarks.engine [--shapes A,B,C] [--nanogpt CHECKOUT] [--device cuda] [--write]

Each peer meets the engine in a duel: two processes with the same allocator settings take turns,
a turn of one and a turn of the other make a round, and a round gives one ratio of times.
The table has the median ratio over rounds with its quartiles. On the CPU with one thread, time
is the process's own, so that others on the machine disturb less.
litgpt has no dropout: it meets the engine without. Peers that are not installed are left out.
"""

from __future__ import annotations

import argparse
import importlib.util
import itertools
import multiprocessing
import resource
import statistics
import time
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection

from benchmarks.report import machine, table, write_section

ROUNDS = {"A": (9, 3), "B": (5, 1), "C": (3, 1)}
"""Rounds, and steps in each turn."""
WITHOUT_DROPOUT = ("litgpt",)
PEERS = ("textbook", "transformers", "nanogpt", "litgpt")
MATMUL_SIZE = 1024


@dataclass(frozen=True, slots=True)
class Side:
    """One engine and the step it takes, in a process of its own."""

    name: str
    shape: str
    dropout: float
    steps: int
    options: dict


def main() -> None:
    options = parse()
    rows = []
    peers = [name for name in options.peers.split(",") if available(name, options)]
    for shape, peer in itertools.product(options.shapes.split(","), peers):
        rows.append(duel(shape, peer, vars(options)))
        print(" ".join(rows[-1].values()), flush=True)
    text = f"{table(rows)}\n\n{describe(options)}"
    print(f"\n{text}")
    if options.write:
        write_section(f"engine {options.device}", text)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shapes", default="A,B,C")
    parser.add_argument("--peers", default=",".join(PEERS))
    parser.add_argument("--write", action="store_true", help="into docs/benchmarks.md")
    parser.add_argument("--nanogpt", help="a local checkout of karpathy/nanoGPT")
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--autocast", action="store_true", help="bfloat16 for all sides")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--allocator", default="keep", choices=["keep", "default"])
    return parser.parse_args()


def available(peer: str, options: argparse.Namespace) -> bool:
    if peer == "nanogpt":
        return options.nanogpt is not None
    return peer == "textbook" or importlib.util.find_spec(peer) is not None


def describe(options: argparse.Namespace) -> str:
    allocator = {
        "keep": "the C library's malloc, told to keep freed memory (`harness.engine.memory`)",
        "default": "the C library's malloc as it comes",
    }[options.allocator]
    absent = [name for name in options.peers.split(",") if not available(name, options)]
    return (
        f"{machine('torch', 'transformers', 'litgpt')}. "
        f"{'Not here, left out: ' + ', '.join(absent) + '. ' if absent else ''}"
        f"{options.threads} thread, "
        f"{'bfloat16 autocast' if options.autocast else 'float32'}, on all sides: {allocator}. "
        "A ratio above 1 says that this engine is faster; the quartiles over rounds are behind "
        "it. Time is processor time. MFU is against a float32 matrix product of 1024 x 1024 timed "
        "in the same rounds."
    )


def duel(shape: str, peer: str, options: dict) -> dict[str, str]:
    """Let the engine and a peer take turns; return the row of the table."""
    rounds, steps = ROUNDS[shape]
    dropout = 0.0 if peer in WITHOUT_DROPOUT else 0.1
    context = multiprocessing.get_context("spawn")
    sides = {}
    for name in ("ours", peer):
        here, there = context.Pipe()
        side = Side(name, shape, dropout, steps, options)
        process = context.Process(target=serve, args=(there, side), daemon=True)
        process.start()
        there.close()  # so that a process that dies ends the wait for it
        here.recv()  # warm
        sides[name] = here
    turns = []
    for i in range(rounds):  # each goes first in turn
        order = sorted(sides, reverse=i % 2 > 0)
        turns.append({name: ask(sides[name], "turn") for name in order})
    peaks = {name: ask(pipe, "stop") for name, pipe in sides.items()}
    return summarise(shape, peer, dropout, turns, peaks)


def summarise(shape: str, peer: str, dropout: float, turns: list, peaks: dict) -> dict[str, str]:
    ratios = [turn[peer]["seconds"] / turn["ours"]["seconds"] for turn in turns]
    low, middle, high = statistics.quantiles(ratios, n=4)

    def both(format_one) -> str:
        return " / ".join(format_one(name) for name in ("ours", peer))

    def median(name: str, key: str) -> float:
        return statistics.median(turn[name][key] for turn in turns)

    return {
        "shape": shape,
        "peer": peer + ("" if dropout else " (no dropout)"),
        "ratio": f"**{middle:.2f}** ({low:.2f}–{high:.2f})",
        "tokens/s, ours / peer": both(lambda name: f"{median(name, 'tokens_per_second'):,.0f}"),
        "MFU": both(lambda name: f"{median(name, 'mfu'):.0%}"),
        "peak memory, GB": both(lambda name: f"{peaks[name] / 1e9:.2f}"),
    }


def ask(pipe: Connection, word: str):
    pipe.send(word)
    return pipe.recv()


def serve(pipe: Connection, side: Side) -> None:
    """Child process: build one side, then train its steps whenever asked."""
    options = side.options
    import torch

    from benchmarks.contestants import SHAPES, Contestant
    from harness.engine.memory import keep_memory
    from harness.model import build, flops_per_token

    if options["allocator"] == "keep":
        keep_memory()
    torch.set_num_threads(options["threads"])
    torch.manual_seed(0)
    batch_size, config = SHAPES[side.shape]
    config = replace(config, dropout=side.dropout)
    with torch.device("meta"):
        flops = flops_per_token(build(config), config)
    step = Contestant(side.name, config, options).step
    ids = torch.randint(config.vocab_size, (batch_size, config.block_size + 1))
    x_BT, y_BT = (t.contiguous().to(options["device"]) for t in (ids[:, :-1], ids[:, 1:]))
    alone = options["device"] == "cpu" and options["threads"] == 1
    clock = time.process_time if alone else time.perf_counter
    square = torch.randn(MATMUL_SIZE, MATMUL_SIZE, device=options["device"])
    if options["autocast"]:
        square = square.bfloat16()

    def multiply() -> None:
        square.mm(square)[0, 0].item()

    step(x_BT, y_BT)
    step(x_BT, y_BT)
    pipe.send("warm")
    while pipe.recv() == "turn":
        peak = 2 * MATMUL_SIZE**3 / timed(clock, multiply, 3)
        seconds = timed(clock, lambda: step(x_BT, y_BT), side.steps)
        rate = x_BT.numel() / seconds
        pipe.send({"seconds": seconds, "tokens_per_second": rate, "mfu": rate * flops / peak})
    pipe.send(peak_memory(options["device"]))


def timed(clock, function, n: int) -> float:
    """Return seconds per call; every function here ends with `item`, so that a GPU is done."""
    start = clock()
    for _ in range(n):
        function()
    return (clock() - start) / n


def peak_memory(device: str) -> int:
    import torch

    if device == "cuda":
        return torch.cuda.max_memory_allocated()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


if __name__ == "__main__":
    main()
