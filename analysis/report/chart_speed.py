"""Every run's validation curve, the target, and where each run comes down to it."""

from __future__ import annotations

from typing import Any

from analysis.questions.tokens_to_target import Reached, Speed
from analysis.report.charts import LOG, Chart, Rows, layer, layered, mark, on, quantity, told, zoom
from analysis.report.curves import MOST_LINES, by_slot
from analysis.report.theme import DASHES
from analysis.runs.curves import TOKENS

NEAR = 3
"""Points before the first crossing that are drawn: the start of training would flatten the rest."""


def speed_chart(found: Speed) -> Chart:
    """Return the curves of the first arms that come to the target, over the log of the tokens."""
    arms = [arm for arm in found.runs if found.n_reached(arm)][:MOST_LINES]
    datasets: dict[str, Rows] = {
        "runs": _lines(found, arms),
        "target": [{"loss": found.target}],
        "crossings": _crossings(found, arms),
    }
    x = quantity("tokens", "training tokens", LOG, axis={"format": "~s", "labelFlush": True})
    y = quantity("loss", "validation loss, nats per token")
    colour = by_slot([f"$series{i}" for i in range(MOST_LINES)])
    looks = {"color": colour, "strokeDash": by_slot(list(DASHES)), "detail": {"field": "run"}}
    tooltip = [told("arm"), told("run"), told("tokens", form=",d"), told("loss", form=".4f")]
    dots = mark("point", size=70, opacity=1, strokeWidth=0)
    spec = layered(
        datasets,
        zoom(layer("runs", mark("line", strokeWidth=1.5), x=x, y=y, **looks), "x", "y"),
        layer("target", mark("rule", color="$ink", strokeDash=[4, 3]), y=on(y, "loss")),
        layer("crossings", dots, x=x, y=y, fill={**colour, "legend": None}, tooltip=tooltip),
        height=300,
    )
    said = [f"{arm} {found.sentence(arm)}" for arm in list(found.runs)[1:40]]
    key = ("Line: a run. Dashed: the target. Dot: where a run first comes down to it.",)
    return Chart("speed", "Tokens to the target", "; ".join(said), {"log": spec}, datasets, key)


def _lines(found: Speed, arms: list[str]) -> Rows:
    first = min(
        (max(0, int((run.curve.loss > found.target).sum()) - NEAR) for run in _runs(found, arms)),
        default=0,
    )
    return [
        _point(run.curve.run, slot, tokens, loss)
        for slot, arm in enumerate(arms)
        for run in found.runs[arm]
        for tokens, loss in list(zip(run.curve.costs[TOKENS], run.curve.loss, strict=True))[first:]
    ]


def _crossings(found: Speed, arms: list[str]) -> Rows:
    return [
        _point(run.curve.run, slot, tokens, found.target)
        for slot, arm in enumerate(arms)
        for run in found.runs[arm]
        if (tokens := run.cost(TOKENS)) is not None and found.credit is None
    ]


def _runs(found: Speed, arms: list[str]) -> list[Reached]:
    return [run for arm in arms for run in found.runs[arm]]


def _point(run: dict[str, Any], slot: int, tokens: float, loss: float) -> dict[str, Any]:
    return {"arm": run["arm"], "slot": slot, "run": str(run["run_id"]),
            "tokens": float(tokens), "loss": float(loss)}  # fmt: skip
