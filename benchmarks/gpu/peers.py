"""Other people's GPTs on the same step as ours."""

from __future__ import annotations

import importlib.util
import time

import torch

from benchmarks.contestants import Contestant
from benchmarks.gpu.bench import Bench
from benchmarks.gpu.turns import Meet
from harness.cell.speed.device import peak_flops, peak_memory
from harness.cell.speed.step_timing import SECONDS_TIMED, Trial
from harness.config import Config
from harness.engine.devices import choose_device
from harness.engine.memory import out_of_memory
from harness.model import build, flops_per_token

PEERS = ("nanogpt", "transformers", "textbook")


def available(name: str, bench: Bench) -> bool:
    """Tell whether this peer can be measured here."""
    if name == "nanogpt":
        return bench.nanogpt is not None
    return name == "textbook" or importlib.util.find_spec(name) is not None


def measure(name: str, config: Config, nanogpt: str | None, meet: Meet) -> Trial | None:
    """Time the peer on the config's shape, in bfloat16; None: memory ran out."""
    device = choose_device(config.hardware.device)
    options = {
        "device": str(device),
        "autocast": True,
        "compile": config.hardware.compile,
        "nanogpt": nanogpt,
    }
    torch.set_float32_matmul_precision("high")
    try:
        return _time(Contestant(name, config.model, options), config, meet)
    except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
        if not out_of_memory(error):
            raise
        return None


def _time(peer: Contestant, config: Config, meet: Meet) -> Trial:
    device = torch.device(peer.device)
    size = config.hardware.micro_batch or config.train.batch_size
    n_micro = config.train.batch_size // size
    ids = torch.randint(config.model.vocab_size, (size, config.model.block_size + 1))
    x_BT, y_BT = (t.contiguous().to(device) for t in (ids[:, :-1], ids[:, 1:]))

    def clock(function) -> float:
        start = time.perf_counter()
        function(x_BT, y_BT)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return time.perf_counter() - start

    first = clock(peer.step)
    meet()
    clock(peer.step)
    steps, gradients = [], []
    until = time.perf_counter() + SECONDS_TIMED[device.type]
    while len(steps) < 3 or time.perf_counter() < until:
        steps.append(clock(peer.step))
        gradients.append(clock(peer.gradients))
        peer.adamw.zero_grad(set_to_none=True)
    seconds = median(steps) + median(gradients) * (n_micro - 1)
    with torch.device("meta"):
        flops = flops_per_token(build(config.model), config.model)
    rate = config.tokens_per_step / seconds
    peak = peak_flops(device, config, torch.bfloat16, rate * flops)
    return Trial(
        tokens_per_second=rate,
        eval_tokens_per_second=float("nan"),
        mfu=rate * flops / peak,
        peak_flops=peak,
        memory_bytes=peak_memory(device),
        first_step_seconds=first,
    )


def median(values: list[float]) -> float:
    return sorted(values)[len(values) // 2]
