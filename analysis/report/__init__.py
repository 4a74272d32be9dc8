"""The report: one self-contained HTML file, its tables and its figures as files.

>>> from analysis.report import write_report  # doctest: +SKIP
>>> write_report("runs/demo")  # doctest: +SKIP
"""

from __future__ import annotations

from analysis.report.write import Written, write_report

__all__ = ["Written", "write_report"]
