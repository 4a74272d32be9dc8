"""The plotting library's JavaScript (Vega-Embed, Vega-Lite, Vega) from the vl-convert package.

The package bundles it on request, which takes seconds; the result depends only on the package's
version and is kept in the user's cache folder.
"""

from __future__ import annotations

import os
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path

from harness.records.files import write_atomic

SNIPPET = "window.vegaEmbed = vegaEmbed;"
VEGA_LITE = "6.4"
SCHEMA = "https://vega.github.io/schema/vega-lite/v6.json"
"""Names the grammar's version; nothing is fetched from it."""


@lru_cache(maxsize=1)
def javascript() -> str:
    """Return the library as one script without imports."""
    file = _cache() / f"vega-{version('vl-convert-python')}-{VEGA_LITE}.js"
    if file.exists():
        return file.read_text(encoding="utf-8")
    import vl_convert

    script = vl_convert.javascript_bundle(SNIPPET, VEGA_LITE).replace("</script", r"<\/script")
    try:
        write_atomic(file, script)
    except OSError:
        return script  # a read-only home costs seconds, nothing else
    return script


def _cache() -> Path:
    home = os.environ.get("XDG_CACHE_HOME")
    return (Path(home) if home else Path("~/.cache").expanduser()) / "llm-interventions"
