"""One training step of each engine on the same shape: forward, loss, backward, clip, AdamW."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from harness.config import ModelConfig

SHAPES = {
    "A": (16, ModelConfig(vocab_size=512, block_size=128, n_embd=128, n_layer=4, n_head=4)),
    "B": (4, ModelConfig(vocab_size=50257, block_size=256, n_embd=256, n_layer=6, n_head=8)),
    "C": (1, ModelConfig(vocab_size=50257, block_size=1024, n_embd=768, n_layer=12, n_head=12)),
}
"""Name -> sequences per step and model; C is the published baseline's."""
LR, CLIP = 4e-4, 1.0

LossFunction = Callable[[nn.Module, Tensor, Tensor], Tensor]
"""From a model, tokens and targets."""


def plain_loss(logits_BTV: Tensor, y_BT: Tensor) -> Tensor:
    return F.cross_entropy(logits_BTV.flatten(0, 1), y_BT.flatten())


def ours(config: ModelConfig) -> tuple[nn.Module, LossFunction]:
    from harness.engine.randomness import initialise
    from harness.model import build

    model = build(config)
    initialise(model, 0)
    return model, lambda model, x, y: model(x, y)


def textbook(config: ModelConfig) -> tuple[nn.Module, LossFunction]:
    from benchmarks.textbook import TextbookGPT

    model = TextbookGPT(config)
    if config.tie_weights:
        model.head.weight = model.tokens.weight
    return model, lambda model, x, y: plain_loss(model(x), y)


def transformers(config: ModelConfig) -> tuple[nn.Module, LossFunction]:
    from transformers import GPT2Config, GPT2LMHeadModel

    p = config.dropout
    model = GPT2LMHeadModel(
        GPT2Config(
            vocab_size=config.vocab_size,
            n_positions=config.block_size,
            n_embd=config.n_embd,
            n_layer=config.n_layer,
            n_head=config.n_head,
            resid_pdrop=p,
            embd_pdrop=p,
            attn_pdrop=p,
            tie_word_embeddings=config.tie_weights,
            use_cache=False,
            attn_implementation="sdpa",  # type: ignore[call-arg]
        )
    )
    return model, lambda model, x, y: plain_loss(model(x).logits, y)


def litgpt(config: ModelConfig) -> tuple[nn.Module, LossFunction]:
    from litgpt import GPT, Config

    model = GPT(
        Config(
            block_size=config.block_size,
            vocab_size=config.vocab_size,
            padding_multiple=64,
            n_layer=config.n_layer,
            n_head=config.n_head,
            n_embd=config.n_embd,
            rotary_percentage=0.25,
            parallel_residual=False,
            gelu_approximate="tanh",
        )
    )
    return model, lambda model, x, y: plain_loss(model(x), y)


def nanogpt(config: ModelConfig, checkout: Path) -> tuple[nn.Module, LossFunction]:
    spec = importlib.util.spec_from_file_location("nanogpt", checkout / "model.py")
    if spec is None or spec.loader is None:
        raise FileNotFoundError(f"{checkout}/model.py: name a checkout of nanoGPT")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    names = ("block_size", "vocab_size", "n_layer", "n_head", "n_embd", "dropout")
    model = module.GPT(module.GPTConfig(**{name: getattr(config, name) for name in names}))
    if not config.tie_weights:
        model.lm_head.weight = nn.Parameter(model.lm_head.weight.detach().clone())
    return model, lambda model, x, y: model(x, y)[1]


def optimizer(name: str, model: nn.Module) -> torch.optim.Optimizer:
    """Each engine's own: the textbook and transformers take PyTorch's default."""
    fused = name in ("ours", "nanogpt", "litgpt")
    options = {"fused": True} if fused else {}
    return torch.optim.AdamW(model.parameters(), lr=LR, weight_decay=0.1, **options)


class Contestant:
    """One engine's model and optimiser, ready to train."""

    def __init__(self, name: str, config: ModelConfig, options: dict) -> None:
        if name == "nanogpt":
            model, self.loss_of = nanogpt(config, Path(options["nanogpt"]))
        else:
            build = {"ours": ours, "textbook": textbook, "transformers": transformers,
                     "litgpt": litgpt}  # fmt: skip
            model, self.loss_of = build[name](config)
        self.device, self.autocast = options["device"], options["autocast"]
        self.model = model.to(self.device).train()
        self.forward = torch.compile(model) if options.get("compile") else model
        self.adamw = optimizer(name, model)

    def gradients(self, x_BT: Tensor, y_BT: Tensor) -> Tensor:
        """Back-propagate the loss of one batch; return it."""
        kind = torch.device(self.device).type
        with torch.autocast(kind, torch.bfloat16, enabled=self.autocast):
            loss = self.loss_of(self.forward, x_BT, y_BT)
        loss.backward()
        return loss

    def step(self, x_BT: Tensor, y_BT: Tensor) -> float:
        """Train on one batch; return its loss."""
        loss = self.gradients(x_BT, y_BT)
        nn.utils.clip_grad_norm_(self.model.parameters(), CLIP)
        self.adamw.step()
        self.adamw.zero_grad(set_to_none=True)
        return loss.item()
