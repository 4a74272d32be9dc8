"""Where interventions hook into the loop; each event is a place in `harness.loop`.

=================  ==========================  ==================================================
event              called with                 when
=================  ==========================  ==================================================
model_built        (model)                     after initialisation, before the optimiser exists
batch              (x_BT, y_BT, step)          returns a step's tokens, changed; on the CPU, the
                                               same for all devices, draws keyed by data seed, step
loss               (loss, logits_BTV, y_BT,    returns the loss to differentiate; y_BT are the
                   model)                      next tokens, ``loss`` their cross-entropy
gradients_ready    (model, step)               gradients accumulated and unscaled, before the clip
step_done          (model, step)               after the optimiser's step
before_eval        (model)                     puts in the weights that are evaluated: by validation
                                               and test, in samples, saved weights and final hash
after_eval         (model)                     after it; the harness puts the weights that train
                                               back itself, bit for bit
metrics            (model)                     whenever a line is logged; returns {name: figure},
                                               logged as ``INTERVENTION/name``
=================  ==========================  ==================================================

A function that names ``ctx`` (the `Context` of the last pass), ``optimizer``, ``progress`` (the
fraction of all steps that were taken) or ``training`` (the whole `harness.loop.Training`) among its
arguments gets it, too. In ``step_done``, ``progress`` does not count the step just taken.

Functions of one event are called in the order of their interventions' names. In ``step_done``,
those of objects with a ``before_eval`` come last: an average is of the weights as all others left
them.

A card with an ``event`` names a function, whose other arguments are the card's::

    def smooth(loss, logits_BTV, y_BT, model, eps):
        return cross_entropy(logits_BTV.flatten(0, 1), y_BT.flatten(), label_smoothing=eps)

A card with only ``fn`` names an object whose methods carry the events' names, for ideas that need
more than one, and ``state_dict``/``load_state_dict`` if its attributes change in training.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from inspect import signature
from numbers import Real
from typing import Any

import torch
from hydra.errors import InstantiationException
from hydra.utils import instantiate
from torch import Tensor, nn

from harness.config import CardConfig, ConfigError, Event
from harness.engine import checkpoint
from harness.engine.randomness import seed_global

ASKED_FOR = ("ctx", "optimizer", "progress", "training")
"""What a function gets if it names it among its arguments."""


@dataclass(frozen=True, slots=True)
class _Hook:
    name: str
    """The intervention's."""
    function: Callable[..., Any]
    asks: tuple[str, ...]
    """Of `ASKED_FOR`."""


class Events:
    """The functions of a cell's interventions, by event, in the order that they are called in."""

    def __init__(self, cards: Mapping[str, CardConfig]) -> None:
        self.objects: dict[str, Any] = {}
        self.training: Any = None
        """Set once it exists; `harness.loop.Training` does that."""
        self._by_event: dict[Event, list[_Hook]] = {event: [] for event in Event}
        for name in sorted(cards):
            if cards[name].fn is not None:
                self._add(name, cards[name])
        evaluated = {hook.name for hook in self._by_event[Event.before_eval]}
        self._by_event[Event.step_done].sort(key=lambda hook: hook.name in evaluated)
        self._fresh = self._attributes(None)

    def _add(self, name: str, card: CardConfig) -> None:
        hook = _made(name, card)
        if card.event is not None:
            self._hook(card.event, name, hook)
            return
        self.objects[name] = hook
        if hasattr(hook, "state_dict") and not hasattr(hook, "load_state_dict"):
            raise ConfigError(
                f"interventions.{name}.fn has state_dict and no load_state_dict, with which a "
                "resumed run goes on: add it"
            )
        methods = {event: getattr(hook, event.name, None) for event in Event}
        if not any(methods.values()):
            allowed = ", ".join(event.name for event in Event)
            raise TypeError(f"intervention {name!r} hooks no event; name one of: {allowed}")
        for event, method in methods.items():
            if method is not None:
                self._hook(event, name, method)

    def _hook(self, event: Event, name: str, function: Callable[..., Any]) -> None:
        asks = _asks(function)
        if asks and event is Event.model_built:
            raise ConfigError(
                f"interventions.{name}.fn asks for {asks[0]}, which does not exist yet when the "
                "model is built: hook a later event"
            )
        self._by_event[event].append(_Hook(name, function, asks))

    def _call(self, hook: _Hook, *args: Any) -> Any:
        return hook.function(*args, **{name: self._asked(hook, name) for name in hook.asks})

    def _asked(self, hook: _Hook, name: str) -> Any:
        if name == "ctx":
            return _kept_ctx(hook.name, self.training.model)
        return self.training if name == "training" else getattr(self.training, name)

    def model_built(self, model: nn.Module, init_seed: int) -> None:
        """Let interventions change the fresh model; each draws from a stream of its own."""
        for hook in self._by_event[Event.model_built]:
            seed_global(init_seed, "model_built", hook.name)
            hook.function(model)
        self._fresh = self._attributes(model)

    def _attributes(self, model: nn.Module | None) -> dict[str, dict[str, str | None]]:
        """Return the attributes' contents of every intervention object without ``state_dict``."""
        silent = [name for name, item in self.objects.items() if not hasattr(item, "state_dict")]
        return {name: checkpoint.contents(self.objects[name], model) for name in silent}

    def batch(self, x_BT: Tensor, y_BT: Tensor, data_seed: int, step: int) -> tuple[Tensor, Tensor]:
        """Return a step's x_BT and y_BT as interventions change them."""
        for hook in self._by_event[Event.batch]:
            seed_global(data_seed, "batch", hook.name, step)
            before = x_BT  # copies below: x_BT and y_BT are views of the same tokens
            x_BT, y_BT = self._call(hook, x_BT.clone(), y_BT.clone(), step)
            if not all(_is_like(before, tokens) for tokens in (x_BT, y_BT)):
                raise ConfigError(
                    f"interventions.{hook.name}.fn: a function of the event batch returns x_BT and "
                    f"y_BT as it got them, int64 {[*before.shape]}"
                )
        return x_BT, y_BT

    @property
    def reads_logits(self) -> bool:
        """Whether an intervention wants the logits; without one they are never held whole."""
        return bool(self._by_event[Event.loss])

    @property
    def reads_ctx(self) -> bool:
        """Whether an intervention asks for the `Context` of the forward pass."""
        return any("ctx" in hook.asks for hooks in self._by_event.values() for hook in hooks)

    def loss(self, loss: Tensor, logits_BTV: Tensor, y_BT: Tensor, model: nn.Module) -> Tensor:
        """Return the loss to differentiate."""
        for hook in self._by_event[Event.loss]:
            loss = self._call(hook, loss, logits_BTV, y_BT, model)
            if not isinstance(loss, Tensor) or loss.numel() != 1:
                what = f"shape {[*loss.shape]}" if isinstance(loss, Tensor) else f"{loss!r:.40}"
                raise ConfigError(
                    f"interventions.{hook.name}.fn returned {what}: a function of the event loss "
                    "returns the loss to differentiate, a tensor of one number"
                )
        return loss

    def gradients_ready(self, model: nn.Module, step: int) -> None:
        """Let interventions see or change the gradients."""
        for hook in self._by_event[Event.gradients_ready]:
            self._call(hook, model, step)

    def step_done(self, model: nn.Module, step: int) -> None:
        """Tell interventions that the weights moved."""
        for hook in self._by_event[Event.step_done]:
            self._call(hook, model, step)

    @contextmanager
    def evaluated_weights(self, model: nn.Module) -> Iterator[None]:
        """Hold the weights that are evaluated; afterwards those that train are back, bit for bit.

        Whatever the weights train in, they are evaluated in float32.
        """
        before, after = self._by_event[Event.before_eval], self._by_event[Event.after_eval]
        held = [*model.parameters(), *model.buffers()]
        if not (before or after or any(_is_short(tensor) for tensor in held)):
            yield
            return
        trained = [tensor.data for tensor in held]
        for tensor in held:
            tensor.data = tensor.data.clone()
        try:
            for hook in before:
                self._call(hook, model)
            for tensor in filter(_is_short, held):
                tensor.data = tensor.data.float()
            yield
        finally:
            for tensor, data in zip(held, trained, strict=True):
                tensor.data = tensor.data.to(data.dtype)
            for hook in after:
                self._call(hook, model)
            for tensor, data in zip(held, trained, strict=True):
                tensor.data = data

    def metrics(self, model: nn.Module) -> dict[str, Tensor]:
        """Return the figures that interventions report; NaN is a figure, too."""
        found: dict[str, Tensor] = {}
        for hook in self._by_event[Event.metrics]:
            figures = self._call(hook, model)
            if not isinstance(figures, Mapping) or not all(map(_is_figure, figures.items())):
                raise ConfigError(
                    f"interventions.{hook.name}.fn returned {figures!r:.60}: a function of the "
                    "event metrics returns {name: figure}, names being text and figures numbers"
                )
            found |= {
                f"{hook.name}/{key}": torch.as_tensor(value) for key, value in figures.items()
            }
        return found

    def state_dict(self) -> dict[str, Any]:
        """Return every intervention's state; `ConfigError` where a resumed run would lose some."""
        for name, now in self._attributes(self.training.model).items():
            fresh = self._fresh[name]
            if lost := [key for key in now if _differs(fresh.get(key, ""), now[key])]:
                raise ConfigError(
                    f"interventions.{name}.fn: {' and '.join(sorted(lost))} changes in training, "
                    "which a resumed run would not know: add state_dict and load_state_dict "
                    "(returning {}, if nothing depends on it)"
                )
        held = {name: item for name, item in self.objects.items() if hasattr(item, "state_dict")}
        return {name: item.state_dict() for name, item in held.items()}

    def load_state_dict(self, state: Mapping[str, Any], device: torch.device) -> None:
        """Restore what `state_dict` returned, tensors of numbers on the device that trains."""
        for name, value in state.items():
            self.objects[name].load_state_dict(_moved(value, device))


def _differs(fresh: str | None, now: str | None) -> bool:
    """Tell whether what an attribute holds changed; None is what cannot be told."""
    return fresh is not None and now is not None and fresh != now


def _asks(function: Callable[..., Any]) -> tuple[str, ...]:
    """Return what a function asks for by name, and its card does not set."""
    is_set = function.keywords if isinstance(function, partial) else {}
    parameters = signature(function).parameters
    return tuple(name for name in ASKED_FOR if name in parameters and name not in is_set)


def _moved(value: Any, device: torch.device) -> Any:
    """Move the floating-point tensors of nested lists and dictionaries."""
    if isinstance(value, Tensor):
        return value.to(device) if value.is_floating_point() else value
    if isinstance(value, dict):
        return {key: _moved(item, device) for key, item in value.items()}
    return [_moved(item, device) for item in value] if isinstance(value, list) else value


def _is_like(one: Tensor, other: object) -> bool:
    """Tell whether the other is a tensor of the same shape and type."""
    return isinstance(other, Tensor) and other.shape == one.shape and other.dtype == one.dtype


def _is_short(tensor: Tensor) -> bool:
    """Tell whether a tensor holds floating-point numbers of fewer than 32 bits."""
    return tensor.is_floating_point() and tensor.element_size() < 4


def _kept_ctx(name: str, model: nn.Module) -> Any:
    """Return the `Context` of the training pass that was just made."""
    if getattr(model, "ctx", None) is None:
        raise ConfigError(
            f"interventions.{name}.fn asks for ctx, which {type(model).__name__} does not keep: "
            "let model.architecture set self.ctx, as harness.model.GPT does"
        )
    return model.ctx


def _is_figure(item: tuple[Any, Any]) -> bool:
    name, value = item
    number = value.numel() == 1 if isinstance(value, Tensor) else isinstance(value, Real)
    return isinstance(name, str) and number


def _made(name: str, card: CardConfig) -> Any:
    """Return what a card's ``fn`` describes: the event's function, or an object with methods."""
    if card.event is None or (card.fn or {}).get("_partial_"):
        return instantiate(card.fn)
    hint = "; add `_partial_: true`, so that the loop calls it"
    try:
        hook = instantiate(card.fn)
    except InstantiationException as error:
        cause = str(error.__cause__ or error).splitlines()[0]
        raise ConfigError(f"interventions.{name}.fn cannot be made: {cause}{hint}") from error
    if not callable(hook):
        raise ConfigError(f"interventions.{name}.fn is {hook!r:.40}, not a function{hint}")
    return hook
