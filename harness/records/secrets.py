"""What must never be written: values of settings whose key names a secret."""

from __future__ import annotations

import re
from collections.abc import Iterable

HIDDEN = "***"
_NAMES = {"key", "apikey", "token", "password", "passwd", "secret", "credential", "credentials"}
_ENVIRONMENT = "hydra.job.env_set"
_PAIR = re.compile(r"([\w.]+)(\s*:\s*)([^,}\]]+)")


def masked(command: Iterable[str]) -> list[str]:
    """Return a command line with the values of its secrets hidden.

    >>> masked(["python", "+tracking.api_key=abc", "train.tokens=10", "x={auth_token:abc,n:1}"])
    ['python', '+tracking.api_key=***', 'train.tokens=10', 'x={auth_token:***,n:1}']
    """
    return [_masked(word) for word in command]


def _masked(word: str) -> str:
    key, equals, value = word.partition("=")
    if not equals:
        return word
    if _is_secret(key):
        return f"{key}={HIDDEN}"
    return f"{key}={_PAIR.sub(_hide, value)}"


def _hide(pair: re.Match[str]) -> str:
    name, colon, value = pair.groups()
    return f"{name}{colon}{HIDDEN if _is_secret(name) else value}"


def _is_secret(key: str) -> bool:
    words = re.split(r"[^a-z0-9]+", key.lower())
    return _ENVIRONMENT in key or not _NAMES.isdisjoint(words)
