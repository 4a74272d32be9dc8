"""What changes the model compiles, and computes the same."""

import pytest
import torch

from harness.loop import Training, micro_loss
from tests.interventions.arms import composed, started

MODELS = (
    "canon", "deep_supervision", "dynamic_dense", "hyper_connections", "moe_balanced", "mtp",
    "mtp_heads", "sandwich_norm", "window_warmup",
)  # fmt: skip
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
