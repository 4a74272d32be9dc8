"""What changes the model compiles, and computes the same."""

import pytest
import torch

from harness.config import Config
from harness.loop import Training, micro_loss
from tests.interventions.arms import NAMES, NEEDS, composed, started, take

MODELS = (
    "canon", "deep_supervision", "dynamic_dense", "hyper_connections", "moe_balanced", "mtp",
    "mtp_heads", "sandwich_norm", "window_warmup",
)  # fmt: skip
EXPERTS = ("moe", "moe_balanced")
"""Their graphs end where the CPU learns how many tokens each expert gets."""
GRAPHS = dict.fromkeys(NAMES, 1) | {"batch_warmup": 2, "seqlen_warmup": 3}
"""How often a model is compiled: anew for another shape, and then for any."""
IDS = torch.randint(0, 257, (2, 4, 16), generator=torch.Generator().manual_seed(0))


def losses(training: Training) -> list[torch.Tensor]:
    """Return the loss and its gradients."""
    loss = micro_loss(training, *IDS)
    weights = list(training.model.parameters())
    gradients = torch.autograd.grad(loss.objective, weights, allow_unused=True)
    return [loss.language, loss.objective, *(g for g in gradients if g is not None)]


@pytest.mark.proof
@pytest.mark.filterwarnings("ignore")  # of the compiler, in the compiler
@pytest.mark.parametrize("name", MODELS)
def test_a_compiled_model_has_the_same_loss_and_gradients(name: str) -> None:
    training = started(composed((name, "no_dropout")))
    plain = losses(training)
    training.forward = torch.compile(training.model, backend="aot_eager")
    torch.testing.assert_close(losses(training), plain, atol=1e-5, rtol=1e-4)


def graphs(config: Config, **options: bool) -> int:
    """Train with a compiled model and return how many graphs it took; none may be given up."""
    from torch._dynamo import config as limits
    from torch._dynamo.utils import counters

    torch.compiler.reset()
    counters.clear()
    training = started(config)
    training.forward = torch.compile(training.model, backend="eager", **options)
    with limits.patch(fail_on_recompile_limit_hit=True):
        take(training, (0, 1, 2, 5, 10, 20, 27, 39))
    return counters["stats"]["unique_graphs"]


@pytest.mark.proof
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", [name for name in NAMES if name not in EXPERTS])
def test_every_overlay_is_compiled_whole_and_once_for_all_steps(name: str) -> None:
    config = composed((name,), NEEDS.get(name, ()))
    assert graphs(config, fullgraph=True) == GRAPHS[name]


@pytest.mark.proof
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", EXPERTS)
def test_layers_compiled_one_by_one_share_what_is_compiled(name: str) -> None:
    assert graphs(composed((name,), ("model.n_layer=12",))) < 2 * 12
