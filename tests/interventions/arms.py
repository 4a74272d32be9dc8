"""Arms of the catalogue, composed and trained a few steps, each once for all tests of a module."""

from collections.abc import Sequence
from functools import cache

import numpy as np
import torch
from torch import Tensor

from harness.cell.build import build_batches, build_training
from harness.config import Config
from harness.config.compose import resolve
from harness.engine.distributed import World
from harness.loop import Training, evaluated_weights, train_step
from interventions.card import OVERLAYS
from tests.configs import our_hydra
from tests.conftest import TINY

NAMES = sorted(path.stem for path in OVERLAYS.glob("*.yaml") if path.stem != "baseline")
NEEDS = {
    "no_amp": ("precision=amp_bf16",),
    "gradient_clipping": ("train.batch_size=1",),
    "shuffled_order": ("data=fineweb_tokens",),
    "data_edu": ("data=fineweb", "+data@eval.data.fineweb=fineweb", "eval.test_set=fineweb"),
    "context_3072": ("scale=demo",),
}
"""Something to switch off, gradients long enough to be clipped, an order to be shuffled, one test
for all, the context of the scale."""
TWIN = "control_same"
"""The one overlay that ends as the baseline does."""
DEEPER = ["model.n_layer=4", "model.n_embd=32", "train.tokens=10240"]
SIZE = [item for item in TINY if "n_head" not in item] + DEEPER
"""Four layers, for what acts between layers; the scale's four heads, which overlays may change;
40 steps, for schedules."""
CPU = torch.device("cpu")


@cache
def composed(names: tuple[str, ...], needs: tuple[str, ...] = ()) -> Config:
    with our_hydra():
        size = [item for item in SIZE if "block_size" not in item or "scale=demo" not in needs]
        return resolve((), [*size, *needs, f"+intervention=[{','.join(names)}]"])


def keeps_state(name: str) -> bool:
    """Tell whether an optimiser or an event of the overlay's may remember something."""
    card = composed((name,), NEEDS.get(name, ()))
    touched = ("optim.optimizer", "optim.schedules", "precision.convert")
    return bool(card.interventions[name].fn) or any(key.startswith(touched) for key in card.changes)


def steps(config: Config) -> tuple[int, ...]:
    """Return the first step, a late one and the last two: some ideas begin late; SNOO acts in 28."""
    n = config.n_steps
    return tuple(sorted({0, min(27, n - 1), 27 * n // 40, n - 2, n - 1}))


def started(config: Config, device: torch.device = CPU) -> Training:
    tokens = np.random.default_rng(len(config.data.name)).integers(257, size=4097)
    tokens[::100] = 256  # ends a document
    starts = np.append(0, np.flatnonzero(tokens == 256) + 1)
    batches = build_batches(config, tokens.astype(np.uint16), starts)
    training = build_training(config, batches, device, World())
    training.model.train()
    return training


def take(training: Training, numbers: Sequence[int]) -> None:
    for step in numbers:
        training.step = step
        assert train_step(training, step).loss.isfinite()


def evaluated(training: Training) -> dict[str, Tensor]:
    with evaluated_weights(training) as model:
        return {name: p.detach().clone() for name, p in model.named_parameters()}


@cache
def trained(names: tuple[str, ...], needs: tuple[str, ...] = ()) -> dict[str, Tensor]:
    """Take its `steps` and return the weights that are evaluated."""
    config = composed(names or ("baseline",), needs)
    training = started(config)
    take(training, steps(config))
    return evaluated(training)


def same(ours: dict[str, Tensor], theirs: dict[str, Tensor]) -> bool:
    return ours.keys() == theirs.keys() and all(torch.equal(ours[n], theirs[n]) for n in ours)
