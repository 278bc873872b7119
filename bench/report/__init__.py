"""The report: everything a run folder holds on one page, for people who were not there.

Enters here: reading a run folder, arranging what it says, drawing it. Nothing here measures or judges anew.
"""

from __future__ import annotations

from compress.bench.report.facts import ReportFacts
from compress.bench.report.pipeline import Report, report

__all__ = ["Report", "ReportFacts", "report"]
