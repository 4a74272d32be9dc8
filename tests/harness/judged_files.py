"""Responses of two arms for a judge, and a judge that finds all alike."""

from __future__ import annotations

import json
from pathlib import Path

from benchmarks.scripted_judge import ScriptedJudge
from harness.judge import main
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


def ask(judge: ScriptedJudge, files: list[str], out: Path, *more: str) -> int:
    return main(
        [*files, "--judge", "scripted", "--base-url", judge.base_url, "--out", str(out), *more]
    )


class Faulty(ScriptedJudge):
    """Answers each request with the next fault, then as it should."""

    def __init__(self, *faults: tuple[int, object, dict[str, str]]) -> None:
        super().__init__(flat)
        self.faults = list(faults)

    def reply(self, request, n):
        if n >= len(self.faults):
            return super().reply(request, n)
        status, body, headers = self.faults[n]
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        return status, content, headers
