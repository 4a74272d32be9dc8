"""Making the calls: what is already paid for is not asked again, whatever ends the command."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

from harness.evals.judging.calls import Call, Judging
from harness.evals.judging.client import CallFailed, Client, Endpoint, JudgeError
from harness.records.files import flocked
from harness.records.responses import Judgement, Outcome, read_judgements, write_judgement

BYTES_PER_TOKEN = 4.0
"""Of English text, roughly: before the start nobody knows the judge's own tokenizer."""
ANSWER_TOKENS = 12
"""For each candidate: its name and its score."""
SD_OF_A_DIFFERENCE = 25.0
"""Points, of two models' scores for one instruction, as instruction-following judges give them."""
MOST_FAILURES = 10
"""Calls in a row without an answer, or without a readable one, after which the command stops."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """What the calls that are left will take."""

    n_calls: int
    n_paid: int
    """Calls whose answers are there."""
    n_instructions: int
    input_tokens: float
    output_tokens: float

    def usd(self, per_million: tuple[float, float]) -> float:
        """Return the price, given dollars for a million tokens in and out."""
        return (self.input_tokens * per_million[0] + self.output_tokens * per_million[1]) / 1e6

    @property
    def half_width(self) -> float:
        """Points to both sides of a difference of two arms that these instructions leave open."""
        return 1.96 * SD_OF_A_DIFFERENCE / math.sqrt(self.n_instructions)


@dataclass(slots=True)
class Tally:
    """What became of the calls of one command."""

    outcomes: Counter[Outcome] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)
    """Why each call had no answer; it is made again next time."""
    failed_in_a_row: int = 0
    unread_in_a_row: int = 0
    input_tokens: int = 0
    output_tokens: int = 0

    def count(self, judgement: Judgement) -> None:
        """Count an answer."""
        self.outcomes[judgement.outcome] += 1
        self.input_tokens += judgement.input_tokens
        self.output_tokens += judgement.output_tokens
        self.failed_in_a_row = 0
        unread = judgement.outcome in (Outcome.UNPARSED, Outcome.TRUNCATED)
        self.unread_in_a_row = self.unread_in_a_row + 1 if unread else 0

    def fail(self, why: str) -> None:
        """Count a call without an answer."""
        self.failures.append(why)
        self.failed_in_a_row += 1


def call_tokens(call: Call) -> float:
    """Return about how many tokens a call takes in and out."""
    return call.n_bytes / BYTES_PER_TOKEN + ANSWER_TOKENS * len(call.tokens)


def unpaid(calls: Iterable[Call], paid: Iterable[Judgement], *, again: bool) -> list[Call]:
    """Return the calls to make; with `again`, also those whose answer had no scores."""
    done = {j.call for j in paid if not again or j.outcome.has_scores}
    return [call for call in calls if call.key not in done]


def estimate(calls: list[Call], left: list[Call]) -> Estimate:
    """Return what is left to do, and what it buys."""
    return Estimate(
        n_calls=len(left),
        n_paid=len(calls) - len(left),
        n_instructions=len({call.instruction_id for call in calls}),
        input_tokens=sum(call.n_bytes / BYTES_PER_TOKEN for call in left),
        output_tokens=float(sum(ANSWER_TOKENS * len(call.tokens) for call in left)),
    )


def paid_judgements(out: Path) -> list[Judgement]:
    """Return what stands in the file; nothing before it is there."""
    return read_judgements(out) if out.exists() else []


def make_calls(
    calls: list[Call], judging: Judging, endpoint: Endpoint, out: Path, workers: int
) -> Tally:
    """Make the calls, several at a time, and write each answer the moment it is there.

    `JudgeError` where going on is pointless; what was answered until then is kept.
    """
    out.parent.mkdir(parents=True, exist_ok=True)
    busy = JudgeError(f"another process writes to {out}: wait for it")
    with flocked(out.with_name(f".{out.name}.lock"), busy=busy):
        versions = {j.judge_version for j in paid_judgements(out) if j.judge == judging.judge}
        with closing(Client(judging, endpoint)) as client:
            return _ask_all(calls, client, out, workers, versions - {""})


def _ask_all(
    calls: list[Call], client: Client, out: Path, workers: int, versions: set[str]
) -> Tally:
    tally = Tally()
    pool = ThreadPoolExecutor(workers)
    running: set[Future[Judgement]] = set()
    left = iter(calls)
    try:
        while True:
            for call in left:
                running.add(pool.submit(client.ask, call, call_tokens(call)))
                if len(running) == workers:
                    break
            if not running:
                return tally
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                running.discard(future)
                _settle(future, out, tally, versions)
    finally:  # also after an error or Ctrl-C: answers under way are paid for
        client.stop()
        pool.shutdown(wait=True)
        _keep(running, out)


def _settle(future: Future[Judgement], out: Path, tally: Tally, versions: set[str]) -> None:
    try:
        judgement = future.result()
    except CallFailed as error:
        tally.fail(str(error))
        if tally.failed_in_a_row >= MOST_FAILURES:
            raise JudgeError(
                f"{MOST_FAILURES} calls in a row had no answer, the last: {error}; run the "
                "command again when the endpoint is well: nothing is asked twice"
            ) from error
        return
    write_judgement(out, judgement)
    tally.count(judgement)
    if judgement.judge_version:
        versions.add(judgement.judge_version)
    if len(versions) > 1:
        raise JudgeError(
            f"the judge {judgement.judge} answered as {' and '.join(sorted(versions))}: scores of "
            "two versions do not mix; name the version you want with --judge, and another --out"
        )
    if tally.unread_in_a_row >= MOST_FAILURES:
        raise JudgeError(
            f"{MOST_FAILURES} answers in a row could not be read, the last: "
            f"{judgement.outcome} {judgement.answer[:80]!r}; see --no-schema and --max-tokens, "
            "and ask these again with --again"
        )


def _keep(running: set[Future[Judgement]], out: Path) -> None:
    for future in running:
        if future.done() and not future.cancelled() and future.exception() is None:
            write_judgement(out, future.result())
