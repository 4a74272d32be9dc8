"""What overlays may do to their baseline: change something, agree, and leave alone what is shared.

Changes are dotted key -> [the baseline's value, the overlay's].
"""

from __future__ import annotations

from typing import Any

from harness.config import CardConfig, Config, ConfigError, Flat

Changes = dict[str, list[Any]]

PROTECTED = ("data", "eval", "seeds", "hardware")
"""What an intervention may touch only if its card declares it."""


def changes(baseline: Flat, other: Flat) -> Changes:
    """Return the keys in which two configs differ, with both values; None: it is not there."""
    keys = sorted(baseline.keys() | other.keys())
    pairs = {key: [baseline.get(key), other.get(key)] for key in keys}
    return {key: pair for key, pair in pairs.items() if pair[0] != pair[1]}


def check_effects(config: Config) -> None:
    """Refuse an intervention that does nothing, or more than it may."""
    for name, card in config.interventions.items():
        if card.event and not card.fn:
            raise ConfigError(
                f"intervention {name!r} names the event {card.event.name}, but no function to "
                "call there: add fn to its card"
            )
        if not card.changes and card.fn is None and not card.control:
            raise ConfigError(
                f"intervention {name!r} changes nothing here: scale={config.scale_name} has its "
                "values already, or the command line overrides them; leave it out"
            )
        others = [c for other, c in config.interventions.items() if other != name]
        if card.changes and card.fn is None and _all_in(card, others):
            raise ConfigError(
                f"intervention {name!r} adds nothing to this stack: the others set all of its "
                "values already; leave it out"
            )
        _check_combination(config, name, card)
        _check_protected(name, card)
        _check_one_test(config, name, card)


def _all_in(card: CardConfig, others: list[CardConfig]) -> bool:
    rest = [item for other in others for item in other.changes.items()]
    return all(item in rest for item in card.changes.items())


def _check_combination(config: Config, name: str, card: CardConfig) -> None:
    """Refuse a stack with what a card says that it does not combine with."""
    for other in sorted(config.interventions.keys() - {name}):
        theirs = config.interventions[other]
        what = (other, str((theirs.fn or {}).get("_target_", "")), *theirs.changes)
        for word, reason in card.not_with.items():
            if any(f"{item}.".startswith(f"{word}.") for item in what):
                raise ConfigError(
                    f"{name!r} does not combine with {other!r} ({word}): {reason}; leave one out"
                )


CORPUS = ("name", "source", "path", "repo", "revision", "config", "split", "text_column")
"""The fields of ``data`` that say which texts are read."""


def _check_one_test(config: Config, name: str, card: CardConfig) -> None:
    """Refuse an arm that trains on another corpus and would therefore be tested on another."""
    moved = [key for key in card.changes if key.split(".")[0] == "data" and key[5:] in CORPUS]
    if moved and config.eval.test_set is None:
        raise ConfigError(
            f"intervention {name!r} sets {moved[0]} and would be tested on that corpus, the "
            "baseline on another: give all arms one test set, e.g. "
            "'+data@eval.data.fineweb=fineweb' eval.test_set=fineweb"
        )


def _check_protected(name: str, card: CardConfig) -> None:
    for key in card.changes:
        group = key.split(".")[0]
        if group in PROTECTED and group not in card.declares:
            raise ConfigError(
                f"intervention {name!r} sets {key}, but an intervention may not touch {group}: "
                f"declare it in the card (declares: [{group}]) if it has to"
            )


def check_agreement(config: Config, baseline: Flat, stacks: list[Flat]) -> None:
    """Hold a stack, composed in either order, to the baseline plus every overlay's own changes."""
    setter: dict[str, tuple[str, Any]] = {}
    for name, card in config.interventions.items():
        for key, (_, value) in card.changes.items():
            other, theirs = setter.setdefault(key, (name, value))
            if theirs != value:
                raise ConfigError(
                    f"{other!r} and {name!r} set {key} differently ({theirs} and {value}): "
                    "leave one out"
                )
    union = baseline | {key: value for key, (_, value) in setter.items()}
    for stack in stacks:
        for key, (wanted, found) in changes(union, stack).items():
            raise ConfigError(
                f"the overlays {sorted(config.interventions)} set {key} differently ({wanted} and "
                f"{found}): leave one out"
            )
