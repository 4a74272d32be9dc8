"""Responses of two arms for a judge, and a judge that finds all alike."""

from __future__ import annotations

from pathlib import Path

from harness.records.responses import Response, write_responses

ORDERS = 2
N = 6
"""Instructions."""


def respond(model: str, seed: int, i: int, text: str) -> Response:
    return Response(
        model=f"{model}/s{seed}",
        arm=model,
        cell="c0ffee",
        train_seed=0,
        seed=seed,
        instruction_id=f"i{i:03}",
        instruction=f"Say {i}.",
        input="" if i % 2 else f"context {i}",
        reference=f"reference {i}",
        response=text,
        truncated=False,
    )


def write_files(folder: Path) -> list[str]:
    """Write the responses of two arms with two seeds each; return the files."""
    paths = []
    for model in ("baseline", "arm"):
        path = folder / f"{model}.jsonl"
        write_responses(
            path, [respond(model, s, i, f"{model} {i}") for s in (0, 1) for i in range(N)]
        )
        paths.append(str(path))
    return paths


def flat(_: str, answers: list[str]) -> list[float]:
    return [50.0 if answer else 0.0 for answer in answers]
