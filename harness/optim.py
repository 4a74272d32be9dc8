"""Optimiser slots: called with the model and the `OptimConfig`.

A class that takes ``params``, as PyTorch's own do, gets all parameters, and of the settings of the
`OptimConfig` those that it names and the slot does not set.

Every parameter group trains at a rate of its own: ``optim.lr`` x the schedule x ``lr_scale``. A
factory gives a group either its ``lr``, which the schedule then moves in step with the others, or
its ``lr_scale``. Other settings of the groups follow ``optim.schedules`` (`Schedules`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from inspect import signature, unwrap
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from harness.config import ConfigError, OptimConfig, Slot
from harness.model import slot_factory


class AdamW(torch.optim.AdamW):
    """PyTorch's AdamW without the decorators that keep its methods from being compiled.

    These import ``torch._dynamo``, 0.7 s; optimisers are not compiled here.
    """

    add_param_group = unwrap(torch.optim.AdamW.add_param_group)
    zero_grad = unwrap(torch.optim.AdamW.zero_grad)
    state_dict = unwrap(torch.optim.AdamW.state_dict)
    load_state_dict = unwrap(torch.optim.AdamW.load_state_dict)
    step = torch.no_grad()(unwrap(torch.optim.AdamW.step))


FUSED_ADAMW = partial(AdamW, fused=True)


def adamw(model: nn.Module, config: OptimConfig) -> Optimizer:
    """AdamW with decoupled weight decay on every parameter (Loshchilov & Hutter 2019)."""
    return from_params(FUSED_ADAMW, model.parameters(), config)


def build_optimizer(slot: Slot, model: nn.Module, config: OptimConfig) -> Optimizer:
    """Return the slot's optimiser with a rate for every parameter group."""
    factory = slot_factory(slot)
    if "params" in signature(factory).parameters:
        optimizer = from_params(factory, model.parameters(), config)
    else:
        optimizer = factory(model, config)
    settle_rates(optimizer, config.lr)
    return optimizer


def from_params(
    factory: Callable[..., Optimizer], params: Iterable[Tensor], config: OptimConfig
) -> Optimizer:
    """Return ``factory(params, ...)`` with the settings that it names and does not have yet."""
    settings = {
        "lr": config.lr,
        "weight_decay": config.weight_decay,
        "betas": tuple(config.betas),
        "eps": config.eps,
    }
    is_set = factory.keywords if isinstance(factory, partial) else {}
    names = signature(factory).parameters.keys() - is_set.keys()
    return factory(params, **{name: settings[name] for name in settings if name in names})


def settle_rates(optimizer: Optimizer, lr: float) -> None:
    """Give every parameter group its ``lr_scale``: its learning rate as a multiple of `lr`.

    `ConfigError` where a group has both, and they disagree.
    """
    for number, group in enumerate(optimizer.param_groups):
        given = float(group.setdefault("lr", lr))
        scale = group.setdefault("lr_scale", given / lr)
        # PyTorch fills in the optimiser's own rate where a group gives its scale alone
        if given != lr and not math.isclose(given, lr * scale, rel_tol=1e-6):
            raise ConfigError(
                f"optim.optimizer: parameter group {number} has lr={given:g} and "
                f"lr_scale={scale:g}, but optim.lr={lr:g} times lr_scale is {lr * scale:g}: "
                "give the group one of the two"
            )


def set_rates(optimizer: Optimizer, lr: float) -> None:
    """Let every parameter group train at its multiple of `lr` from now on."""
    for group in optimizer.param_groups:
        group["lr"] = lr * group["lr_scale"]


class Composite(Optimizer):
    """Optimisers that share out a model's parameters; a wrapper is a composite of one.

    A class that does more around each step extends `step`, and `state_dict` and `load_state_dict`
    if it holds tensors of its own.
    """

    def __init__(self, optimizers: Sequence[Optimizer]) -> None:
        self.optimizers = list(optimizers)  # no super().__init__: the parameters are theirs

    @property
    def param_groups(self) -> list[dict[str, Any]]:  # type: ignore[override]
        """The groups of all: what is set in one is set in its optimiser."""
        return [group for optimizer in self.optimizers for group in optimizer.param_groups]

    @property
    def _step_supports_amp_scaling(self) -> bool:
        """Whether all can leave a step out on the device."""
        return all(getattr(o, "_step_supports_amp_scaling", False) for o in self.optimizers)

    @property
    def found_inf(self) -> Tensor:
        """1 to leave the next step out, else 0; there only where all can do that."""
        return self.optimizers[0].found_inf  # type: ignore[attr-defined, no-any-return]

    @found_inf.setter
    def found_inf(self, value: Tensor) -> None:
        for optimizer in self.optimizers:
            optimizer.found_inf = value  # type: ignore[attr-defined]

    @found_inf.deleter
    def found_inf(self) -> None:
        for optimizer in self.optimizers:
            del optimizer.found_inf  # type: ignore[attr-defined]

    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Step with all of them."""
        for optimizer in self.optimizers:
            optimizer.step()

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Drop the gradients of all."""
        for optimizer in self.optimizers:
            optimizer.zero_grad(set_to_none)

    def state_dict(self) -> dict[str, Any]:
        """Return the states of all."""
        return {"optimizers": [optimizer.state_dict() for optimizer in self.optimizers]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        for optimizer, its_state in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(its_state)


def split(
    model: nn.Module,
    config: OptimConfig,
    matrices: Callable[..., Optimizer],
    rest: Callable[..., Optimizer] = FUSED_ADAMW,
) -> Composite:
    """Train the matrices inside a model with one optimiser and all else with another.

    Parameters
    ----------
    matrices
        An optimiser's class, with ``_partial_: true``, for the weights of linear layers, the head
        aside, e.g. ``torch.optim.Muon``. It gets the settings of ``optim`` that it names and its
        slot does not set.
    rest
        The same for embeddings, head, norms and biases; AdamW by default.
    """
    chosen = {id(p): p for p in inner_matrices(model)}
    if not chosen:
        raise ConfigError("optim.optimizer: the model has no linear layers for split's matrices")
    others = [p for p in model.parameters() if id(p) not in chosen]
    return Composite(
        [from_params(matrices, chosen.values(), config), from_params(rest, others, config)]
    )


def inner_matrices(model: nn.Module) -> list[Tensor]:
    """Return the weights of all linear layers but the head."""
    head = getattr(model, "head", None)
    layers = [m for m in model.modules() if isinstance(m, nn.Linear) and m is not head]
    return [layer.weight for layer in layers]


class Schedules:
    """Settings of the parameter groups that follow a schedule: each group's own value times it."""

    def __init__(self, slots: Mapping[str, Slot], optimizer: Optimizer) -> None:
        self.factors = {name: slot_factory(slot) for name, slot in slots.items()}
        self.initial = {
            name: [setting(group, name) for group in optimizer.param_groups] for name in slots
        }
        for name, values in self.initial.items():
            if all(value is None for value in values):
                known = {key for group in optimizer.param_groups for key in settings_of(group)}
                raise ConfigError(
                    f"optim.schedules.{name}: {type(optimizer).__name__} can schedule: "
                    f"{', '.join(sorted(known))}"
                )

    def set(self, optimizer: Optimizer, step: int, n_steps: int) -> None:
        """Let every parameter group go on with what the schedules say."""
        for name, factor in self.factors.items():
            scale = factor(step, n_steps)
            for group, initial in zip(optimizer.param_groups, self.initial[name], strict=True):
                if initial is not None:
                    change_setting(group, name, initial * scale)


BETAS = {"momentum": 0, "beta2": 1}
"""Names of the parts of ``betas``."""


def setting(group: dict[str, Any], name: str) -> float | None:
    """Return a number that a parameter group trains with, None if it has no such thing."""
    return settings_of(group).get(name)


def settings_of(group: dict[str, Any]) -> dict[str, float]:
    """Return all numbers that a parameter group trains with, the rate aside."""
    betas = {name: group["betas"][i] for name, i in BETAS.items() if "betas" in group}
    numbers = {key: value for key, value in group.items() if type(value) in (int, float)}
    return {key: n for key, n in (betas | numbers).items() if key not in ("lr", "lr_scale")}


def change_setting(group: dict[str, Any], name: str, value: float) -> None:
    """Let a parameter group train with another number."""
    if name in group:
        group[name] = value
    else:
        betas = list(group["betas"])
        betas[BETAS[name]] = value
        group["betas"] = tuple(betas)


def load_state(optimizer: Optimizer, state: dict[str, Any]) -> None:
    """Restore an optimiser's ``state_dict``.

    `ConfigError` where it was saved by a version that trained all groups at ``optim.lr``.
    """
    scales = [group["lr_scale"] for group in optimizer.param_groups]
    optimizer.load_state_dict(state)
    for group, scale in zip(optimizer.param_groups, scales, strict=True):
        if "lr_scale" not in group and scale != 1:
            raise ConfigError(
                "the checkpoint was saved by a version that trained every parameter group at "
                f"optim.lr, and one group's lr_scale is {scale:g}: delete the cell's checkpoints "
                "to train it from the start"
            )
        group.setdefault("lr_scale", scale)


def clip_gradients(model: nn.Module, max_norm: float | None) -> torch.Tensor:
    """Return the norm of all gradients together, a scalar; scale them down to `max_norm` if set."""
    if max_norm is not None:
        return nn.utils.clip_grad_norm_(model.parameters(), max_norm)
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    return nn.utils.get_total_norm(gradients)
