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
    from analysis.batch_fit import batch_size
    from analysis.comparison import Comparison, Rules, compare
    from analysis.errors import AnalysisError
    from analysis.main_effects import analyse
    from analysis.noise_report import noise
    from analysis.planning import Pilot, pilot_of, plan
    from analysis.power import Design, seeds_needed
    from analysis.screening import design
    from analysis.sequential import decide
    from analysis.sources import read_runs
    from analysis.stacking import stack
    from analysis.verification import verify

_HOME = {
    "AnalysisError": "errors",
    "Comparison": "comparison",
    "Design": "power",
    "Pilot": "planning",
    "Rules": "comparison",
    "analyse": "main_effects",
    "batch_size": "batch_fit",
    "compare": "comparison",
    "decide": "sequential",
    "design": "screening",
    "noise": "noise_report",
    "pilot_of": "planning",
    "plan": "planning",
    "read_runs": "sources",
    "seeds_needed": "power",
    "stack": "stacking",
    "verify": "verification",
}
__all__ = [
    "AnalysisError",
    "Comparison",
    "Design",
    "Pilot",
    "Rules",
    "analyse",
    "batch_size",
    "compare",
    "decide",
    "design",
    "noise",
    "pilot_of",
    "plan",
    "read_runs",
    "seeds_needed",
    "stack",
    "verify",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'analysis' has no attribute {name!r}")
    return getattr(import_module(f"analysis.{_HOME[name]}"), name)
