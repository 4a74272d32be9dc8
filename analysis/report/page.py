"""The page: sections from evidence, a template, and data that stay data."""

from __future__ import annotations

import base64
import hashlib
import json
import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import lru_cache
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from analysis.comparison.result import Comparison, footnote, text_sentence
from analysis.comparison.table import percent
from analysis.comparison.verdict import Kind
from analysis.report import theme
from analysis.report.cells import About, about, current, details, samples
from analysis.report.charts import MOST_LINES
from analysis.report.curves import METRICS
from analysis.report.evidence import Evidence, headline, tiles
from analysis.report.sections import Section, sections, with_content
from analysis.table import Item
from analysis.text import plain
from harness.records.files import expanded, now, write_atomic

if TYPE_CHECKING:
    from jinja2 import Environment

VEGA_LITE = "6.4"
SCRIPTS = ("charts.js", "page.js", "picture.js", "cells.js", "tokens.js")
APART = {theme.css_class(kind) for kind in (Kind.BASELINE, Kind.REFERENCE)}
"""What is not compared with the baseline."""
MOST_AT_A_GLANCE = 8
"""Arms that a phone's first screen has room for; the rest stand in the table."""
SYMBOLS = {theme.css_class(kind): symbol for kind, symbol in theme.SYMBOLS.items()}


def render(evidence: Evidence, *, live: bool = False) -> str:
    """Return the whole report as one HTML file that needs nothing else.

    `live` is the page that ``watch`` serves: it asks its server whether it is out of date.
    """
    shown, left_out = samples(current(evidence.cells))
    parts = with_content(sections(evidence), has_samples=bool(shown))
    known = about(evidence.cells, evidence.arms)
    names = [*SCRIPTS, "live.js"] if live else SCRIPTS
    scripts = [*map(_asset, names), javascript()]
    return _environment().get_template("page.html").render(
        title=evidence.title,
        headline=headline(evidence),
        about=known,
        tiles=tiles(evidence),
        glance=glance(evidence.comparison, parts),
        sections=parts,
        left_out=left_out,
        created=f"{now()[:16].replace('T', ' ')} UTC",
        unit="Losses in nats per token. " if evidence.cells or evidence.rules.unit() else "",
        themes=theme.THEMES,
        symbols=SYMBOLS | theme.STATUS_SYMBOLS,
        data=embed(_data(evidence, parts, shown) | {"picture": _caption(evidence, known)}),
        scripts=scripts,
        style=_asset("page.css"),
        policy=_policy(scripts, live=live),
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Glance:
    """What a phone's first screen shows of the verdicts."""

    heading: str
    arms: list[tuple[str, Item, str]]
    """Arm, verdict, difference with its interval."""
    n_arms: int


def glance(result: Comparison | None, parts: Sequence[Section]) -> Glance | None:
    """Return the first rows of the table of verdicts; None where nothing was compared."""
    if result is None:
        return None
    table = next(part.tables[0] for part in parts if part.name == "verdicts")
    ci, places = percent(result.alpha), {c.label: i for i, c in enumerate(table.columns)}
    shown = [places[label] for label in ("delta", ci) if label in places]
    arms = [
        (row[0].text, verdict, " ".join(row[i].text for i in shown))
        for row in table.rows
        if (verdict := row[places["verdict"]]).kind not in APART
    ]
    rules, with_ci = result.rules, f" [{ci}]" if ci in places else ""
    heading = f"Difference from {rules.baseline}{with_ci}{rules.unit(', ')}"
    return Glance(heading, arms[:MOST_AT_A_GLANCE], len(arms)) if arms else None


def embed(value: Any) -> str:
    r"""Return JSON that is safe inside a ``<script>`` element: no ``<`` is left in it.

    >>> embed({"a": "</script>"})
    '{"a":"\\u003c/script>"}'
    """
    text = json.dumps(plain(value), separators=(",", ":"), allow_nan=False, ensure_ascii=False)
    for character in ("<", "\u2028", "\u2029"):
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


@lru_cache(maxsize=1)
def javascript() -> str:
    """Return Vega-Embed, Vega-Lite and Vega as one script without imports.

    The package vl-convert bundles them on request, which takes seconds; the result depends only on
    the package's version and is kept in the user's cache folder.
    """
    home = Path(os.environ.get("XDG_CACHE_HOME") or expanded("~/.cache"))
    name = f"vega-{version('vl-convert-python')}-{VEGA_LITE}.js"
    file = home / "llm-interventions" / name
    if file.exists():
        return file.read_text(encoding="utf-8")
    import vl_convert

    bundle = vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;", VEGA_LITE)
    script = bundle.replace("</script", r"<\/script")
    if home.is_absolute():
        with suppress(OSError):  # a read-only home, or none, costs seconds, nothing else
            write_atomic(file, script)
    return script


def _data(evidence: Evidence, parts: list[Section], shown: list[dict[str, Any]]) -> dict[str, Any]:
    curves = evidence.curves
    return {
        "charts": {chart.name: asdict(chart) for part in parts for chart in part.charts},
        "curves": {
            "metrics": METRICS,
            "by_metric": {
                metric: [asdict(curve) for curve in found]
                for metric, found in curves.by_metric.items()
            },
            "most": MOST_LINES,
            "tops": {metric: curves.top(metric) for metric in curves.by_metric},
        },
        "arms": evidence.arms,
        "samples": shown,
        "texts": [asdict(text) for text in evidence.texts],
        **details(evidence.cells),
    }


def _caption(evidence: Evidence, known: About | None) -> list[str]:
    """Return what stands under the picture: corpus, scale, tokens, test text and method."""
    result = evidence.comparison
    if result is None:
        return []
    tested = [f"Tested on {text_sentence(result.text)}."] if result.text else []
    return [*([known.what] if known else []), *tested, footnote(result)]


def _policy(scripts: list[str], *, live: bool) -> str:
    """Return the content policy: only these very scripts run, and nothing is fetched."""
    digests = [hashlib.sha256(script.encode()).digest() for script in scripts]
    hashes = " ".join(f"'sha256-{base64.b64encode(digest).decode()}'" for digest in digests)
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
