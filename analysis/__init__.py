"""Records in, evidence out: which interventions are real, how sure, and at what cost.

>>> import analysis
>>> analysis.seeds_needed(delta=0.025, sd=0.015, rho=0.4, n_arms=8)
7

Names are imported when they are first used, so that ``python -m analysis --help`` is quick.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from analysis.audit.verify import verify
    from analysis.comparison.compare import compare, decide
    from analysis.comparison.result import Comparison
    from analysis.comparison.rules import Rules
    from analysis.errors import AnalysisError
    from analysis.questions.batch_size import batch_size
    from analysis.questions.design import design
    from analysis.questions.design_effects import analyse
    from analysis.questions.noise import noise
    from analysis.questions.plan import Pilot, pilot_of, plan
    from analysis.questions.scale import scale
    from analysis.questions.stack import stack
    from analysis.questions.tokens_to_target import speed
    from analysis.runs.tables import read_runs
    from analysis.stats.planning.design import Design, seeds_needed

_HOME = {
    "AnalysisError": "errors",
    "Comparison": "comparison.result",
    "Design": "stats.planning.design",
    "Pilot": "questions.plan",
    "Rules": "comparison.rules",
    "analyse": "questions.design_effects",
    "batch_size": "questions.batch_size",
    "compare": "comparison.compare",
    "decide": "comparison.compare",
    "design": "questions.design",
    "noise": "questions.noise",
    "pilot_of": "questions.plan",
    "plan": "questions.plan",
    "read_runs": "runs.tables",
    "scale": "questions.scale",
    "seeds_needed": "stats.planning.design",
    "speed": "questions.tokens_to_target",
    "stack": "questions.stack",
    "verify": "audit.verify",
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
    "scale",
    "seeds_needed",
    "speed",
    "stack",
    "verify",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'analysis' has no attribute {name!r}")
    return getattr(import_module(f"analysis.{_HOME[name]}"), name)
