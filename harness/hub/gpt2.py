"""GPT-2's names and shapes in ours, and back.

Shapes: C channels (n_embd). GPT-2 stores its linear layers as [in, out], ours are [out, in].
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from harness.config import ConfigError, ModelConfig

GELU = ("gelu_new", "gelu_pytorch_tanh")
"""GPT-2's activation under the names that configs give it."""
ACTIVATIONS = {"gelu_tanh": "gelu_new", "gelu": "gelu", "relu": "relu", "silu": "silu"}
"""Our name -> that of transformers."""

_OUTER = {
    "tok_emb.weight": "wte.weight",
    "position.weight": "wpe.weight",
    "norm.weight": "ln_f.weight",
    "norm.bias": "ln_f.bias",
}
_BLOCK = {
    "norm1.weight": "ln_1.weight",
    "norm1.bias": "ln_1.bias",
    "attn.qkv.weight": "attn.c_attn.weight",
    "attn.qkv.bias": "attn.c_attn.bias",
    "attn.proj.weight": "attn.c_proj.weight",
    "attn.proj.bias": "attn.c_proj.bias",
    "norm2.weight": "ln_2.weight",
    "norm2.bias": "ln_2.bias",
    "mlp.up.weight": "mlp.c_fc.weight",
    "mlp.up.bias": "mlp.c_fc.bias",
    "mlp.down.weight": "mlp.c_proj.weight",
    "mlp.down.bias": "mlp.c_proj.bias",
}


def names(n_layer: int) -> dict[str, str]:
    """Return our parameter's name -> GPT-2's, without the head, which may be tied."""
    blocks = {
        f"blocks.{layer}.{ours}": f"h.{layer}.{theirs}"
        for layer in range(n_layer)
        for ours, theirs in _BLOCK.items()
    }
    return _OUTER | blocks


def _is_linear(ours: str) -> bool:
    return ".attn." in ours or ".mlp." in ours


def from_gpt2(tensors: dict[str, Tensor], config: ModelConfig) -> dict[str, Tensor]:
    """Return a GPT-2 state under our names, float32; `ConfigError` where a tensor is missing."""
    found = {name.removeprefix("transformer."): tensor for name, tensor in tensors.items()}
    wanted = names(config.n_layer)
    if not config.tie_weights:
        wanted = wanted | {"head.weight": "lm_head.weight"}
    if missing := sorted(theirs for theirs in wanted.values() if theirs not in found):
        raise ConfigError(f"the model has no {missing[0]}: it is not GPT-2's architecture")
    ours = {name: found[theirs].float() for name, theirs in wanted.items()}
    return {n: t.t().contiguous() if _is_linear(n) and t.dim() == 2 else t for n, t in ours.items()}


def to_gpt2(tensors: dict[str, Tensor], config: ModelConfig) -> dict[str, Tensor]:
    """Return our state under GPT-2's names; a bias or shift that ours lacks is zero."""
    result = {}
    for ours, theirs in names(config.n_layer).items():
        tensor = tensors[ours] if ours in tensors else _zeros_for(ours, tensors)
        if _is_linear(ours) and tensor.dim() == 2:
            tensor = tensor.t()
        result[f"transformer.{theirs}"] = tensor.contiguous()
    if not config.tie_weights:
        result["lm_head.weight"] = tensors["head.weight"].contiguous()
    return result


def _zeros_for(ours: str, tensors: dict[str, Tensor]) -> Tensor:
    return torch.zeros(tensors[ours.removesuffix("bias") + "weight"].shape[0])


def model_config(raw: dict[str, Any], where: str) -> ModelConfig:
    """Return our shape of a hub model's ``config.json``; `ConfigError` where it is not GPT-2's."""
    if raw.get("model_type") != "gpt2":
        raise ConfigError(
            f"{where} is a model of type {raw.get('model_type')!r}: only gpt2 can be read"
        )
    activation = raw.get("activation_function", "gelu_new")
    known = dict.fromkeys(GELU, "gelu_tanh") | {v: k for k, v in ACTIVATIONS.items()}
    scaled = raw.get("scale_attn_weights", True) and not raw.get("scale_attn_by_inverse_layer_idx")
    if activation not in known or not scaled:
        raise ConfigError(f"{where}: its activation {activation!r} or attention scale is not ours")
    width, inner = raw["n_embd"], raw.get("n_inner") or 4 * raw["n_embd"]
    mlp: dict[str, Any] = {"_target_": "harness.model.MLP"}
    mlp |= {"activation": known[activation]} if known[activation] != "gelu_tanh" else {}
    mlp |= {"expansion": inner / width} if inner != 4 * width else {}
    eps = raw.get("layer_norm_epsilon", 1e-5)
    norm = {"_target_": "harness.model.LayerNorm"} | ({"eps": eps} if eps != 1e-5 else {})
    return ModelConfig(
        n_layer=raw["n_layer"],
        n_head=raw["n_head"],
        n_embd=width,
        block_size=raw.get("n_positions") or raw["n_ctx"],
        vocab_size=raw["vocab_size"],
        dropout=raw.get("resid_pdrop", 0.1),
        qkv_bias=True,
        tie_weights=raw.get("tie_word_embeddings", True),
        mlp=mlp,
        norm=norm,
    )


def hub_config(config: ModelConfig) -> dict[str, Any]:
    """Return the arguments of transformers' ``GPT2Config`` for a model that `is_gpt2`."""
    width = round(config.mlp.get("expansion", 4) * config.n_embd)
    return {
        "vocab_size": config.vocab_size,
        "n_positions": config.block_size,
        "n_embd": config.n_embd,
        "n_layer": config.n_layer,
        "n_head": config.n_head,
        "n_inner": None if width == 4 * config.n_embd else width,
        "activation_function": ACTIVATIONS[config.mlp.get("activation", "gelu_tanh")],
        "resid_pdrop": config.dropout,
        "embd_pdrop": config.dropout,
        "attn_pdrop": config.dropout,
        "layer_norm_epsilon": config.norm.get("eps", 1e-5),
        "tie_word_embeddings": config.tie_weights,
    }


_OPTIONS: dict[str, set[str]] = {
    "architecture": set(),
    "embedding": set(),
    "position": set(),
    "block": set(),
    "attention": {"bias"},
    "mlp": {"expansion", "activation", "bias"},
    "norm": {"eps", "bias"},
    "head": set(),
}
"""Slot -> its options that GPT-2 has, too."""


def is_gpt2(config: ModelConfig) -> bool:
    """Tell whether transformers' GPT-2 computes what this model computes."""
    standard = ModelConfig(vocab_size=config.vocab_size)
    for slot, options in _OPTIONS.items():
        given, plain = getattr(config, slot), getattr(standard, slot)
        if given["_target_"] != plain["_target_"] or not given.keys() <= {"_target_", *options}:
            return False
    return config.mlp.get("activation", "gelu_tanh") in ACTIVATIONS
