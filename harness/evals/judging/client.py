"""A judge behind any OpenAI-compatible endpoint, through the client of the package `openai`."""

from __future__ import annotations

import os
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from harness.evals.judging.calls import Call, Judging
from harness.evals.judging.prompt import read_scores, response_format
from harness.extras import installation
from harness.records.files import now
from harness.records.responses import Entry, Judgement, Outcome

if TYPE_CHECKING:
    from openai.types.chat import ChatCompletion

KEY_VARIABLE = "OPENAI_API_KEY"
FILTERED = ("content_filter", "content_policy_violation")
"""Codes by which an endpoint refuses one request for what it says."""


class CallFailed(Exception):  # noqa: N818 - no error of ours: the call is made again next time
    """No answer after all retries."""


class JudgeError(ValueError):
    """Every call would fail like this one; the message says what to change."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where the judge is, and how hard it may be pressed."""

    base_url: str | None = None
    """None: OPENAI_BASE_URL, else OpenAI's own."""
    retries: int = 6
    """After a lost connection, a timeout, status 408, 409, 429 or 5xx; with growing pauses."""
    timeout_seconds: float = 120.0
    requests_per_minute: float | None = None
    tokens_per_minute: float | None = None
    max_tokens: int | None = None
    """Longest answer; None: not sent."""


class Pace:
    """Spaces the calls' starts so that neither requests nor tokens exceed their rate."""

    def __init__(self, endpoint: Endpoint) -> None:
        per_request, per_token = endpoint.requests_per_minute, endpoint.tokens_per_minute
        self._request_seconds = 60 / per_request if per_request else 0.0
        self._token_seconds = 60 / per_token if per_token else 0.0
        self._next = time.monotonic()
        self._lock = threading.Lock()
        self.stopped = threading.Event()

    def wait(self, tokens: float) -> None:
        """Return when a call of so many tokens may start; `CallFailed` once stopped."""
        with self._lock:
            start = max(self._next, time.monotonic())
            self._next = start + max(self._request_seconds, tokens * self._token_seconds)
        if self.stopped.wait(max(0.0, start - time.monotonic())):
            raise CallFailed("not asked: the command was stopped")


class Client:
    """Asks one judge; safe to use from several threads."""

    def __init__(self, judging: Judging, endpoint: Endpoint) -> None:
        try:
            from openai import OpenAI
        except ImportError as error:
            raise JudgeError(f"a judge needs openai: {installation('openai')}") from error
        key = os.environ.get(KEY_VARIABLE)
        if not key:
            raise JudgeError(
                f"{KEY_VARIABLE} is not set: export the endpoint's key (any text for a server "
                "that asks for none)"
            )
        self.judging, self.endpoint = judging, endpoint
        self._pace = Pace(endpoint)
        self._client = OpenAI(
            api_key=key,
            base_url=endpoint.base_url,
            max_retries=endpoint.retries,
            timeout=endpoint.timeout_seconds,
        )

    def stop(self) -> None:
        """Start no more calls; those under way go on."""
        self._pace.stopped.set()

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def ask(self, call: Call, tokens: float) -> Judgement:
        """Make one call of about so many tokens, and read the answer.

        `CallFailed` if there was none, `JudgeError` if there can be none.
        """
        import openai

        self._pace.wait(tokens)
        try:
            done = self._complete(call)
        except (
            openai.BadRequestError, openai.PermissionDeniedError, openai.UnprocessableEntityError,
        ) as error:  # fmt: skip
            if error.code in FILTERED:
                return self._judgement(call, Outcome.REFUSED, str(error))
            raise JudgeError(
                f"{self.judging.judge} refuses the request: {error}; see --no-schema (for a server "
                "that binds no schema), --temperature and --max-tokens"
            ) from error
        except (openai.AuthenticationError, openai.NotFoundError) as error:
            raise JudgeError(
                f"{self.judging.judge}: {error}; see {KEY_VARIABLE}, --judge and --base-url"
            ) from error
        except (openai.OpenAIError, ValueError) as error:  # a body that is no JSON is a ValueError
            raise CallFailed(f"{type(error).__name__}: {error}") from error
        outcome, answer, scores = _read(done, call.tokens)
        return self._judgement(call, outcome, answer, scores, done)

    def _complete(self, call: Call) -> ChatCompletion:
        optional = {
            "temperature": self.judging.temperature,
            "max_completion_tokens": self.endpoint.max_tokens,
        }
        settings: dict[str, Any] = {k: v for k, v in optional.items() if v is not None}
        settings["messages"] = call.messages
        settings["response_format"] = response_format(call.tokens, schema=self.judging.schema)
        done: ChatCompletion = self._client.chat.completions.create(
            model=self.judging.judge, **settings
        )
        return done

    def _judgement(
        self,
        call: Call,
        outcome: Outcome,
        answer: str,
        scores: list[float | None] | None = None,
        done: ChatCompletion | None = None,
    ) -> Judgement:
        usage = getattr(done, "usage", None)
        return Judgement(
            call=call.key,
            judge=self.judging.judge,
            judge_version=getattr(done, "model", None) or "",
            fingerprint=getattr(done, "system_fingerprint", None),
            instruction_id=call.instruction_id,
            order=call.order,
            outcome=outcome,
            entries=_entries(call, scores or [None] * len(call.tokens)),
            answer=answer,
            input_tokens=getattr(usage, "prompt_tokens", None) or 0,
            output_tokens=getattr(usage, "completion_tokens", None) or 0,
            time=now(),
        )


def _read(
    done: ChatCompletion, tokens: list[str]
) -> tuple[Outcome, str, list[float | None] | None]:
    """Return what an answer is, its text, and its scores."""
    choices = getattr(done, "choices", None)
    if not choices:
        return Outcome.UNPARSED, "", None
    message, finish = choices[0].message, choices[0].finish_reason
    if message.refusal or finish == "content_filter":
        return Outcome.REFUSED, message.refusal or message.content or "", None
    answer = message.content or ""
    if finish == "length":
        return Outcome.TRUNCATED, answer, None
    scores = read_scores(answer, tokens)
    if scores is None or all(score is None for score in scores):
        return Outcome.UNPARSED, answer, None
    return Outcome.PARTIAL if None in scores else Outcome.SCORED, answer, scores


def _entries(call: Call, scores: list[float | None]) -> list[Entry]:
    return [
        Entry(
            slot=slot,
            token=token,
            kind=candidate.kind,
            model=candidate.response.model if candidate.response else "",
            arm=candidate.response.arm if candidate.response else "",
            train_seed=candidate.response.train_seed if candidate.response else None,
            seed=candidate.response.seed if candidate.response else None,
            n_characters=len(candidate.text),
            score=score,
        )
        for slot, (candidate, token, score) in enumerate(
            zip(call.candidates, call.tokens, scores, strict=True)
        )
    ]
