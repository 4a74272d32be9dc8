"""A judge without a model: an OpenAI-compatible endpoint on 127.0.0.1 that scores by a function.

The default function compares character trigrams with the reference answer, so that the same
responses always get the same scores. Tests plant faults and biases in it.
"""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any, cast

from benchmarks.local_server import Handler, LocalServer

Score = Callable[[str, list[str]], list[float]]
"""The instruction with its input, and the answers in slot order -> their scores, 0 to 100."""
VERSION = "scripted-2026-01-01"


class ScriptedJudge(LocalServer):
    """Context manager around the endpoint; `base_url` is what `harness.judge` is given."""

    def __init__(self, score: Score) -> None:
        super().__init__(_Handler)
        self.score, self.lock = score, threading.Lock()
        self.requests: list[dict[str, Any]] = []
        """Everything that was asked."""
        self.headers: list[dict[str, str]] = []

    @property
    def base_url(self) -> str:
        return f"{self.url}/v1"

    def reply(self, request: dict[str, Any], n: int) -> tuple[int, bytes, dict[str, str]]:
        """Return status, body and headers of the n-th request from 0; tests plant faults here."""
        return 200, json.dumps(completion(self.answer(request))).encode(), {}

    def answer(self, request: dict[str, Any]) -> str:
        """Return what the judge says."""
        asked, candidates = read_data(request)
        question = asked["instruction"] + asked.get("input", "")
        scores = self.score(question, list(candidates.values()))
        rounded = [round(min(100.0, max(0.0, score))) for score in scores]
        return json.dumps(dict(zip(candidates, rounded, strict=True)))


class _Handler(Handler):
    def answer(self) -> None:
        judge = cast(ScriptedJudge, self.server.owner)
        request = json.loads(self.body())
        with judge.lock:
            n = len(judge.requests)
            judge.requests.append(request)
            judge.headers.append({k.lower(): v for k, v in self.headers.items()})
        status, body, headers = judge.reply(request, n)
        self.send_response(status)
        shown = {"Content-Type": "application/json", "Content-Length": str(len(body))}
        for name, value in {**shown, **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)
        self.close_connection = "Content-Length" in headers


def read_data(request: dict[str, Any]) -> tuple[dict[str, str], dict[str, str]]:
    """Return what was asked, and candidate -> answer in slot order."""
    lines = request["messages"][1]["content"].splitlines()[1:-1]
    asked, *answers = map(json.loads, lines)
    return asked, {line["candidate"]: line["answer"] for line in answers}


def completion(content: str | None, **changes: Any) -> dict[str, Any]:
    """Return an endpoint's answer; `changes` are of its message or its choice."""
    message = {"role": "assistant", "content": content, "refusal": changes.get("refusal")}
    choice = {
        "index": 0,
        "message": message,
        "finish_reason": changes.get("finish_reason", "stop"),
    }
    return {
        "id": "scripted",
        "object": "chat.completion",
        "created": 0,
        "model": changes.get("model", VERSION),
        "system_fingerprint": "fp_scripted",
        "choices": [choice],
        "usage": {"prompt_tokens": 100, "completion_tokens": 20, "total_tokens": 120},
    }


def by_trigrams(references: Mapping[str, str]) -> Score:
    """Return a score by the trigrams shared with the instruction's reference answer (F1)."""
    return lambda instruction, answers: [
        100 * overlap(answer, references[instruction]) for answer in answers
    ]


def overlap(text: str, reference: str) -> float:
    """Return the F1 of the two texts' character trigrams, 0 to 1."""
    ours, theirs = trigrams(text), trigrams(reference)
    total = ours.total() + theirs.total()
    return 2 * (ours & theirs).total() / total if total else 0.0


def trigrams(text: str) -> Counter[str]:
    """Count the trigrams of a text, spaces around it."""
    padded = f" {text.lower().strip()} "
    return Counter(padded[i : i + 3] for i in range(len(padded) - 2)) if text.strip() else Counter()
