"""The report of one or more runs: everything their folders contain on one page, as HTML and Markdown.

The report only reads run folders; it measures nothing.
"""

from __future__ import annotations

from compress.bench.report.facts import ReportFacts
from compress.bench.report.pipeline import Report, report

__all__ = ["Report", "ReportFacts", "report"]
