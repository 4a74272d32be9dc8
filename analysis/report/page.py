"""The page: sections from evidence, a template, and data that stay data."""

from __future__ import annotations

import base64
import hashlib
import json
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from analysis.report import theme as palette
from analysis.report.bundle import javascript
from analysis.report.cells import current, details, samples
from analysis.report.chart_curves import MOST_LINES, tops
from analysis.report.curves import METRICS
from analysis.report.evidence import Evidence
from analysis.report.sections import Section, sections, unknowns
from analysis.report.summary import headline, tiles
from analysis.text import plain, unit
from harness.records.files import now

if TYPE_CHECKING:
    from jinja2 import Environment


@dataclass(frozen=True, slots=True)
class Page:
    """What the template is filled with."""

    title: str
    headline: str
    tiles: list[dict[str, str]]
    sections: list[Section]
    unknowns: list[str]
    created: str
    unit: str
    themes: dict[str, dict[str, str]] = field(default_factory=lambda: palette.THEMES)


def render(evidence: Evidence, *, live: bool = False) -> str:
    """Return the whole report as one HTML file that needs nothing else.

    Parameters
    ----------
    evidence
        From `analysis.report.evidence.gather`.
    live
        Served by ``watch``: the page asks its server whether it is out of date.
    """
    shown, note = samples(current(evidence.cells))
    parts = sections(evidence)
    notes = [text for text in (evidence.curves.note, note) if text]
    page = Page(
        title=evidence.title,
        headline=headline(evidence),
        tiles=tiles(evidence),
        sections=parts,
        unknowns=unknowns(evidence) + notes,
        created=f"{now()[:16].replace('T', ' ')} UTC",
        unit="Losses in nats per token. " if evidence.cells or unit(evidence.rules) else "",
    )
    names = ("charts.js", "page.js", "cells.js", *(("live.js",) if live else ()))
    scripts = [*(_asset(name) for name in names), javascript()]
    return _environment().get_template("page.html").render(
        page=page,
        data=embed(_data(evidence, parts, shown)),
        scripts=scripts,
        style=_asset("page.css"),
        policy=_policy(scripts, live=live),
        has_samples=bool(shown),
    )  # fmt: skip


def embed(value: Any) -> str:
    r"""Return JSON that is safe inside a ``<script>`` element: no ``<`` is left in it.

    Examples
    --------
    >>> embed({"a": "</script>"})
    '{"a":"\\u003c/script>"}'
    """
    text = json.dumps(plain(value), separators=(",", ":"), allow_nan=False, ensure_ascii=False)
    for character in ("<", "\u2028", "\u2029"):
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


def _data(evidence: Evidence, parts: list[Section], shown: list[dict[str, Any]]) -> dict[str, Any]:
    charts = {part.chart.name: asdict(part.chart) for part in parts if part.chart}
    curves = {
        metric: [asdict(curve) for curve in found]
        for metric, found in evidence.curves.by_metric.items()
    }
    return {
        "themes": palette.THEMES,
        "charts": charts,
        "curves": {
            "metrics": METRICS,
            "by_metric": curves,
            "most": MOST_LINES,
            "tops": tops(evidence),
        },
        "arms": evidence.arms,
        "samples": shown,
        **details(evidence.cells),
    }


def _policy(scripts: list[str], *, live: bool) -> str:
    """Return the content policy: only these very scripts run, and nothing is fetched."""
    hashes = " ".join(
        f"'sha256-{base64.b64encode(hashlib.sha256(s.encode()).digest()).decode()}'"
        for s in scripts
    )
    connect = "'self'" if live else "'none'"
    return (
        f"default-src 'none'; script-src {hashes}; style-src 'unsafe-inline'; img-src data: blob:; "
        f"connect-src {connect}; base-uri 'none'; form-action 'none'"
    )


def _asset(name: str) -> str:
    return (files("analysis.report") / "assets" / name).read_text(encoding="utf-8")


@lru_cache(maxsize=1)
def _environment() -> Environment:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    return Environment(
        loader=PackageLoader("analysis.report", "assets"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
