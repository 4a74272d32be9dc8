"""Stage arms: every intervention's speed and memory against the baseline's."""

from __future__ import annotations

import json
from typing import Any

from benchmarks.gpu.bench import Bench
from benchmarks.gpu.stage import Result
from benchmarks.report import table
from harness.config import ConfigError
from harness.records.files import CONF_DIR, append_json_lines
from harness.records.reading import read_json_lines
from harness.study.side_by_side import measure

FILE = "gpu_arms.jsonl"
"""Beside the page: what was measured so far, so that the next call goes on."""
SLOW = 0.8
"""Of the baseline's speed: an arm below it needs a reason on its card."""


def run(bench: Bench) -> Result:
    """Measure the arms that this machine has not measured yet, as many as there is time for."""
    file, machine = bench.out / FILE, bench.machine()
    arms = ["baseline", *(name for name in catalogue() if name != "baseline")]
    done = _measured(bench, machine)
    for arm in arms:
        if arm not in done and (bench.in_time or not done):
            done[arm] = {"machine": machine, "arm": arm, **_measure(bench, arm)}
            bench.out.mkdir(parents=True, exist_ok=True)
            append_json_lines(file, [done[arm]])
            print(json.dumps(done[arm]), flush=True)
    missing = [arm for arm in arms if arm not in done]
    text = table(rows([done[arm] for arm in arms if arm in done]))
    if missing:
        text += f"\n\nNot measured yet, run the stage again: {', '.join(missing)}."
    return Result(text, failed="tokens_per_second" not in done.get("baseline", {}))


def catalogue() -> list[str]:
    """Return the names of all interventions."""
    return sorted(path.stem for path in (CONF_DIR / "intervention").glob("*.yaml"))


def _measured(bench: Bench, machine: str) -> dict[str, dict[str, Any]]:
    if not (bench.out / FILE).exists():
        return {}
    lines = read_json_lines(bench.out / FILE, skip_torn=True)
    return {line["arm"]: line for line in lines if line["machine"] == machine}


def _measure(bench: Bench, arm: str) -> dict[str, Any]:
    chosen = [] if arm == "baseline" else [f"+intervention={arm}"]
    compiled = [f"hardware.compile={bench.on_gpu}"]
    try:
        config = bench.config("scale=gpt2_small", "precision=amp_bf16", *compiled, *chosen)
        trials = measure(config)
    except ConfigError as error:
        return {"error": str(error)}
    except Exception as error:  # one arm must not cost the others
        return {"error": f"{type(error).__name__}: {str(error).splitlines()[0][:80]}"}
    if not trials:
        return {"error": "out of memory"}
    return {
        "tokens_per_second": trials[0].tokens_per_second,
        "memory_bytes": trials[0].memory_bytes,
    }


def rows(lines: list[dict[str, Any]]) -> list[dict[str, str]]:
    """Return the table's rows, the slowest arm first behind the baseline."""
    baseline = next((x for x in lines if x["arm"] == "baseline" and "error" not in x), None)
    speed = baseline["tokens_per_second"] if baseline else float("nan")
    measured = [line for line in lines if "error" not in line]
    found = []
    for line in sorted(measured, key=lambda x: (x is not baseline, x["tokens_per_second"])):
        ratio = line["tokens_per_second"] / speed
        found.append({
            "arm": line["arm"],
            "tokens/s": f"{line['tokens_per_second']:,.0f}",
            "of the baseline": f"{ratio:.2f}" + " (slow)" * (ratio < SLOW),
            "memory, GB": f"{line['memory_bytes'] / 1e9:.1f}",
        })  # fmt: skip
    empty = {"tokens/s": "", "memory, GB": ""}
    failed = [x for x in lines if "error" in x]
    found += [{"arm": x["arm"], "of the baseline": x["error"], **empty} for x in failed]
    return found
