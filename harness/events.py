"""Where interventions hook into the loop; each event is a place in `harness.loop`.

=================  ==========================  ==================================================
event              called with                 when
=================  ==========================  ==================================================
model_built        (model)                     after initialisation, before the optimiser exists
loss               (loss, logits_BTV, y_BT,    returns the loss to differentiate; y_BT are the
                   model)                      next tokens, ``loss`` their cross-entropy; one that
                                               names ``ctx`` gets the pass's `Context`, too
gradients_ready    (model, step)               gradients accumulated and unscaled, before the clip
step_done          (model, step)               after the optimiser's step
before_eval        (model)                     before each validation and the test
after_eval         (model)                     after it
metrics            (model)                     whenever a line is logged; returns {name: figure},
                                               logged as ``INTERVENTION/name``
=================  ==========================  ==================================================

A card with an ``event`` names a function, whose other arguments are the card's::

    def smooth(loss, logits_BTV, y_BT, model, eps):
        return cross_entropy(logits_BTV.flatten(0, 1), y_BT.flatten(), label_smoothing=eps)

A card with only ``fn`` names an object whose methods carry the events' names, for ideas that need
more than one (and ``state_dict``/``load_state_dict`` if they hold state that a resumed run needs).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from inspect import signature
from numbers import Real
from typing import Any

import torch
from hydra.errors import InstantiationException
from hydra.utils import instantiate
from torch import Tensor, nn

from harness.config import CardConfig, ConfigError, Event
from harness.engine.randomness import seed_global


class Events:
    """The functions of a cell's interventions, by event, in the order of the arm's name."""

    def __init__(self, cards: Mapping[str, CardConfig]) -> None:
        self.objects: dict[str, Any] = {}
        self._by_event: dict[Event, list[tuple[str, Callable[..., Any]]]] = {e: [] for e in Event}
        for name in sorted(cards):
            if cards[name].fn is not None:
                self._add(name, cards[name])

    def _add(self, name: str, card: CardConfig) -> None:
        hook = _made(name, card)
        if card.event is not None:
            self._by_event[card.event].append((name, hook))
            return
        self.objects[name] = hook
        methods = {event: getattr(hook, event.name, None) for event in Event}
        if not any(methods.values()):
            allowed = ", ".join(event.name for event in Event)
            raise TypeError(f"intervention {name!r} hooks no event; name one of: {allowed}")
        for event, method in methods.items():
            if method is not None:
                self._by_event[event].append((name, method))

    def model_built(self, model: nn.Module, init_seed: int) -> None:
        """Let interventions change the fresh model; each draws from a stream of its own."""
        for name, hook in self._by_event[Event.model_built]:
            seed_global(init_seed, "model_built", name)
            hook(model)

    @property
    def reads_logits(self) -> bool:
        """Whether an intervention wants the logits; without one they are never held whole."""
        return bool(self._by_event[Event.loss])

    @property
    def reads_ctx(self) -> bool:
        """Whether an intervention's loss wants what the forward pass knew."""
        return any(map(_asks_ctx, self._by_event[Event.loss]))

    def loss(self, loss: Tensor, logits_BTV: Tensor, y_BT: Tensor, model: nn.Module) -> Tensor:
        """Return the loss to differentiate."""
        for name, hook in self._by_event[Event.loss]:
            known = {"ctx": _kept_ctx(name, model)} if _asks_ctx((name, hook)) else {}
            loss = hook(loss, logits_BTV, y_BT, model, **known)
            if not isinstance(loss, Tensor) or loss.numel() != 1:
                what = f"shape {[*loss.shape]}" if isinstance(loss, Tensor) else f"{loss!r:.40}"
                raise ConfigError(
                    f"interventions.{name}.fn returned {what}: a function of the event loss "
                    "returns the loss to differentiate, a tensor of one number"
                )
        return loss

    def gradients_ready(self, model: nn.Module, step: int) -> None:
        """Let interventions see or change the gradients."""
        for _, hook in self._by_event[Event.gradients_ready]:
            hook(model, step)

    def step_done(self, model: nn.Module, step: int) -> None:
        """Tell interventions that the weights moved."""
        for _, hook in self._by_event[Event.step_done]:
            hook(model, step)

    def before_eval(self, model: nn.Module) -> None:
        """Let interventions prepare the weights that are evaluated."""
        for _, hook in self._by_event[Event.before_eval]:
            hook(model)

    def after_eval(self, model: nn.Module) -> None:
        """Let interventions undo `before_eval`."""
        for _, hook in self._by_event[Event.after_eval]:
            hook(model)

    def metrics(self, model: nn.Module) -> dict[str, Tensor]:
        """Return the figures that interventions report; NaN is one."""
        found: dict[str, Tensor] = {}
        for name, hook in self._by_event[Event.metrics]:
            figures = hook(model)
            if not isinstance(figures, Mapping) or not all(map(_is_figure, figures.items())):
                raise ConfigError(
                    f"interventions.{name}.fn returned {figures!r:.60}: a function of the event "
                    "metrics returns {name: figure}, names being text and figures numbers"
                )
            found |= {f"{name}/{key}": torch.as_tensor(value) for key, value in figures.items()}
        return found

    def state_dict(self) -> dict[str, Any]:
        """Return the state of every intervention that holds one."""
        held = {name: item for name, item in self.objects.items() if hasattr(item, "state_dict")}
        return {name: item.state_dict() for name, item in held.items()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        for name, value in state.items():
            self.objects[name].load_state_dict(value)


def _asks_ctx(item: tuple[str, Callable[..., Any]]) -> bool:
    return "ctx" in signature(item[1]).parameters


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
