"""What a stage gives back, and how one configuration becomes a row."""

from __future__ import annotations

from dataclasses import dataclass

from harness.cell.speed.step_timing import Trial


@dataclass(frozen=True, slots=True)
class Result:
    """A part of the page; `failed` where something was wrong, not merely slow."""

    text: str
    failed: bool = False


def figures(trial: Trial, against: float) -> dict[str, str]:
    """Return what was measured, beside the speed that it is held against, tokens/s."""
    return {
        "tokens/s": f"{trial.tokens_per_second:,.0f}",
        "ratio": f"{trial.tokens_per_second / against:.2f}",
        "MFU": f"{trial.mfu:.0%}",
        "memory, GB": f"{trial.memory_bytes / 1e9:.1f}",
        "first step, s": f"{trial.first_step_seconds:.1f}",
    }


def nothing(why: str) -> dict[str, str]:
    """Return the same columns where nothing was measured."""
    return {"tokens/s": why, **dict.fromkeys(("ratio", "MFU", "memory, GB", "first step, s"), "")}
