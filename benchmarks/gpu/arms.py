"""Stage arms: every intervention's speed and memory against the baseline's."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from benchmarks.gpu.bench import Bench, free_memory
from benchmarks.gpu.stage import Result
from benchmarks.gpu.turns import Meet, Outcome, in_turns
from benchmarks.report import table
from harness.cell.speed import step_timing
from harness.cell.speed.step_timing import Trial
from harness.engine.machine import n_cores
from harness.records.files import CONF_DIR
from interventions.card import read_cards

SLOW = 0.8
"""Of the baseline's speed: an arm below it needs a reason on its card."""
SECONDS = 1.5
"""Of timed steps an arm."""
MOST_AT_ONCE = 12
MEMORY_BYTES = 11e9
"""What an arm takes of a GPU, the larger ones; the baseline takes 8.3 GB."""


def run(bench: Bench) -> Result:
    """Measure the arms that this machine has not measured yet, as many as there is time for."""
    done = {line["arm"]: line for line in bench.kept("arms")}
    arms = ["baseline", *(name for name in catalogue() if name != "baseline")]
    missing = [arm for arm in arms if arm not in done]
    first = missing[: missing[:1] == ["baseline"]]  # it fills the compiler's cache for the others
    for some, at_once in ((first, 1), (missing[len(first) :], places(bench))):
        jobs = [partial(measure, bench, arm) for arm in some]
        for number, outcome in in_turns(jobs, at_once, bench.seconds_left):
            done[some[number]] = {"arm": some[number], **line(outcome)}
            bench.keep("arms", done[some[number]])
    missing = [arm for arm in arms if arm not in done]
    costs = {card.name: card.extra_cost for card in read_cards()}
    text = table(rows([done[arm] for arm in arms if arm in done], costs))
    if missing:
        text += f"\n\nNot measured yet, run the stage again: {', '.join(missing)}."
    return Result(text, failed="tokens_per_second" not in done.get("baseline", {}))


def catalogue() -> list[str]:
    """Return the names of all interventions."""
    return sorted(path.stem for path in (CONF_DIR / "intervention").glob("*.yaml"))


def places(bench: Bench) -> int:
    """Return how many arms this machine makes ready side by side."""
    fit = int(min(free_memory(bench.device) / MEMORY_BYTES, MOST_AT_ONCE))
    return max(1, min(fit, n_cores() - 2))


def measure(bench: Bench, arm: str, meet: Meet) -> Trial | None:
    """Time the arm at the published scale, compiled on a GPU."""
    chosen = [] if arm == "baseline" else [f"+intervention={arm}"]
    compiled = f"hardware.compile={bench.on_gpu}"
    config = bench.config("scale=gpt2_small", "precision=amp_bf16", compiled, *chosen)
    return step_timing.run(config, meet, SECONDS)


def line(outcome: Outcome) -> dict[str, Any]:
    """Return what is kept of an arm's measurement."""
    if isinstance(outcome, str):
        return {"error": outcome}
    return {
        "tokens_per_second": outcome.tokens_per_second,
        "memory_bytes": outcome.memory_bytes,
    }


def rows(lines: list[dict[str, Any]], costs: Mapping[str, str | None]) -> list[dict[str, str]]:
    """Return the table's rows, the slowest arm first behind the baseline.

    A slow one is shown with what its card says of its cost.
    """
    baseline = next((x for x in lines if x["arm"] == "baseline" and "error" not in x), None)
    speed = baseline["tokens_per_second"] if baseline else float("nan")
    measured = [line for line in lines if "error" not in line]
    found = []
    for line in sorted(measured, key=lambda x: (x is not baseline, x["tokens_per_second"])):
        ratio = line["tokens_per_second"] / speed
        cost = costs.get(line["arm"]) or "nothing"
        found.append({
            "arm": line["arm"],
            "tokens/s": f"{line['tokens_per_second']:,.0f}",
            "of the baseline": f"{ratio:.2f}",
            "memory, GB": f"{line['memory_bytes'] / 1e9:.1f}",
            "slow: its card says": cost if ratio < SLOW else "",
        })  # fmt: skip
    empty = {"tokens/s": "", "memory, GB": "", "slow: its card says": ""}
    failed = [x for x in lines if "error" in x]
    found += [{"arm": x["arm"], "of the baseline": x["error"], **empty} for x in failed]
    return found
