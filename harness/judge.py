"""Let an LLM score models' responses: ``python -m harness.judge RESPONSES... --judge MODEL``.

All models' responses to an instruction are shown together, without names, in several orders, with
anchors between them. Without --yes nothing is asked: the price and the precision are said.
"""

from __future__ import annotations

import argparse
import signal
import sys
from pathlib import Path

from harness.evals.judging.calls import Judging, plan_calls
from harness.evals.judging.client import Endpoint
from harness.evals.judging.run import (
    BYTES_PER_TOKEN,
    SD_OF_A_DIFFERENCE,
    Estimate,
    Tally,
    estimate,
    make_calls,
    paid_judgements,
    unpaid,
)
from harness.records.files import printable
from harness.records.numbers import number
from harness.records.responses import JUDGEMENTS_FILE, read_responses
from harness.records.terminal import Parser, complain, printing


@printing()
def main(arguments: list[str] | None = None) -> int:
    """Judge, and return the exit code: 2 the input was refused, 1 calls are left to make."""
    options = _parser().parse_args(arguments)
    try:
        return _judge(options)
    except (ValueError, OSError) as error:
        complain(error)
        return 2
    except KeyboardInterrupt:
        print("stopped: what was answered is kept, the same command goes on", file=sys.stderr)
        return 130


def _judge(options: argparse.Namespace) -> int:
    responses = [r for path in options.responses for r in read_responses(path)]
    judging = Judging(
        judge=options.judge,
        orders=options.orders,
        seed=options.seed,
        temperature=options.temperature,
        schema=not options.no_schema,
    )
    calls = plan_calls(responses, judging)
    left = unpaid(calls, paid_judgements(options.out), again=options.again)
    expected = estimate(calls, left)
    print(_said_before(expected, options))
    if not left:
        return 0
    if not options.yes:
        print("Nothing was sent. Add --yes to send the calls.")
        return 0
    tally = make_calls(left, judging, _endpoint(options), options.out, options.workers)
    print(_said_after(tally, options))
    return 1 if tally.failures else 0


def _endpoint(options: argparse.Namespace) -> Endpoint:
    return Endpoint(
        base_url=options.base_url,
        retries=options.retries,
        timeout_seconds=options.timeout,
        requests_per_minute=options.requests_per_minute,
        tokens_per_minute=options.tokens_per_minute,
        max_tokens=options.max_tokens,
    )


def _said_before(expected: Estimate, options: argparse.Namespace) -> str:
    price = (
        f"about ${expected.usd(options.price):.2f}"
        if options.price
        else "price unknown (give --price IN OUT, dollars for a million tokens)"
    )
    return (
        f"{expected.n_calls} calls to {options.judge}, {expected.n_paid} already answered in "
        f"{options.out}.\n"
        f"About {expected.input_tokens:,.0f} tokens in and {expected.output_tokens:,.0f} out "
        f"({BYTES_PER_TOKEN:g} bytes a token): {price}.\n"
        f"{expected.n_instructions} instructions tell two arms apart to about "
        f"±{expected.half_width:.1f} points, where the difference of two scores has an sd of "
        f"{SD_OF_A_DIFFERENCE:g}; the noise of the fine-tuning seeds comes on top."
    )


def _said_after(tally: Tally, options: argparse.Namespace) -> str:
    found = ", ".join(f"{n} {outcome}" for outcome, n in sorted(tally.outcomes.items())) or "none"
    text = f"Answers: {found}; {tally.input_tokens:,} tokens in, {tally.output_tokens:,} out"
    if options.price:
        spent = tally.input_tokens * options.price[0] + tally.output_tokens * options.price[1]
        text += f", ${spent / 1e6:.2f}"
    if tally.failures:
        text += (
            f".\n{len(tally.failures)} calls got no answer, the last: "
            f"{printable(tally.failures[-1])}; the same command repeats them"
        )
    return f"{text}.\nNext: python -m analysis judged {options.out}"


def _url(text: str) -> str:
    if not text.startswith(("http://", "https://")):
        raise argparse.ArgumentTypeError(f"{text!r} is no address that begins with http")
    return text


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="python -m harness.judge",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("responses", nargs="+", type=Path, metavar="RESPONSES", help="files of harness.finetune")
    add(
        "--judge", required=True, metavar="MODEL", help="model name, with its version if it has one"
    )
    add(
        "--base-url",
        type=_url,
        metavar="URL",
        help="any compatible endpoint (default: OPENAI_BASE_URL)",
    )
    add(
        "--out",
        type=Path,
        default=Path(JUDGEMENTS_FILE),
        help="default: %(default)s; the report of a study shows what lies in its folder",
    )
    count, seed = number(int, at_least=1, at_most=10**6), number(int, at_least=0, at_most=2**63 - 1)
    amount = number(float, at_least=0, at_most=10**6)
    positive = number(float, above=0, at_most=10**9)
    add("--yes", action="store_true", help="ask; without it only the price is said")
    add("--price", nargs=2, type=amount, metavar=("IN", "OUT"), help="dollars per million tokens")
    add("--orders", type=count, default=2, help="orders an instruction is shown in (%(default)s)")
    add("--seed", type=seed, default=0, help="of orders, names and anchors (%(default)s)")
    add("--temperature", type=amount, help="default: the endpoint's")
    add("--max-tokens", type=count, help="longest answer; default: the endpoint's")
    add("--no-schema", action="store_true", help="for endpoints that know JSON, but no schema")
    add("--again", action="store_true", help="ask once more where an answer had no scores")
    add("--workers", type=count, default=8, help="calls at a time (%(default)s)")
    add("--retries", type=seed, default=6, help="of a call, with growing pauses (%(default)s)")
    add("--timeout", type=positive, default=120.0, help="seconds for an answer (%(default)s)")
    add("--requests-per-minute", type=positive, metavar="N")
    add("--tokens-per-minute", type=positive, metavar="N")
    return parser


def _stop_as_ctrl_c_does() -> None:
    """Let a scheduler's stop and a closed terminal keep the answers under way: they are paid."""
    for asked in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(asked) is not signal.SIG_IGN:  # nohup's
            signal.signal(asked, signal.default_int_handler)


if __name__ == "__main__":
    _stop_as_ctrl_c_does()
    sys.exit(main())
