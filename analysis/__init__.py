"""Records in, evidence out: which interventions are real, how sure, and at what cost.

>>> import analysis
>>> analysis.seeds_needed(delta=0.025, sd=0.015, rho=0.4, n_arms=8)
6

Names are imported when they are first used, so that ``python -m analysis --help`` is quick.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from analysis.comparison import Comparison, Rules, compare
    from analysis.errors import AnalysisError
    from analysis.power import seeds_needed
    from analysis.sources import read_runs

_HOME = {
    "AnalysisError": "analysis.errors",
    "Comparison": "analysis.comparison",
    "Rules": "analysis.comparison",
    "compare": "analysis.comparison",
    "read_runs": "analysis.sources",
    "seeds_needed": "analysis.power",
}
__all__ = ["AnalysisError", "Comparison", "Rules", "compare", "read_runs", "seeds_needed"]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'analysis' has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)
