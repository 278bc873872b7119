"""Write the report of one or more runs as one HTML page and as Markdown."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from compress.bench.protocol.stats import Verdict
from compress.bench.report.facts import ReportFacts
from compress.bench.report.figures import MAX_LAYERS
from compress.bench.report.gather import gather_facts
from compress.bench.report.view import VERDICT_TEXT, ReportView, arrange
from compress.bench.scenarios.sentences import format_rate
from compress.core import formatting
from compress.core.errors import CompressError
from compress.core.files import write_text

FILENAME = "report.html"


@dataclass(frozen=True)
class Report:
    """Result of `report`.

    Attributes:
        html, markdown: the written files.
        facts: everything that the report shows.
    """

    html: Path
    markdown: Path
    facts: ReportFacts

    def __str__(self) -> str:
        """Return the paths of both files."""
        return f"{self.html}\n{self.markdown}"

    def _repr_markdown_(self) -> str:
        """Return the report as Markdown, for notebooks."""
        return self.markdown.read_text("utf-8")

    def to_json(self) -> dict[str, Any]:
        """Return the result as a JSON object."""
        return {
            "html": str(self.html),
            "markdown": str(self.markdown),
            "facts": self.facts.model_dump(mode="json"),
        }


def report(*runs: str | Path, out: str | Path | None = None) -> Report:
    """Write a report on one or more runs.

    Results that a run folder does not contain are listed with the command that creates them.

    Args:
        runs: run folders; all are shown in one table, in this order.
        out: the HTML file; None: `bench/report.html` of the first run. The Markdown file is written next to
            it.

    Raises:
        CompressError: no run is given, a folder is not a run, or `out` does not end in ``.html`` (USAGE); a
            file cannot be read or written (MISSING).
    """
    target = None if out is None else Path(out)
    if target is not None and (target.suffix != ".html" or target.is_dir()):
        raise CompressError(
            f"the report cannot be written to {str(out)!r}",
            hint="give a file ending in .html; the Markdown file is written next to it",
            code="bad-option",
        )
    facts = gather_facts(runs)
    view = arrange(facts)
    target = target or Path(runs[0]) / "bench" / FILENAME
    result = Report(target, target.with_suffix(".md"), facts)
    html, markdown = render_html(view), render_markdown(view)  # both before a file is written
    write_text(result.html, html)
    write_text(result.markdown, markdown)
    return result


def render_html(view: ReportView) -> str:
    """Return the report as one HTML page with embedded style and figures; all text is escaped."""
    environment = _environment(autoescape=True)
    return environment.get_template("report.html.j2").render(report=view, layer_limit=MAX_LAYERS)


def render_markdown(view: ReportView) -> str:
    """Return the report as GitHub Markdown, without figures."""
    text = _environment(autoescape=False).get_template("report.md.j2").render(report=view)
    return re.sub(r"\n{3,}", "\n\n", text).strip() + "\n"


def _environment(autoescape: bool) -> Environment:
    environment = Environment(
        loader=PackageLoader("compress.bench.report"),
        autoescape=autoescape,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {**FILTERS, "command": shlex.join, "plain": escape_markdown}
    return environment


def escape_markdown(text: object) -> str:
    """Return a text with Markdown markup escaped, on one line."""
    return re.sub(r"([\\`*_{}\[\]<>#|~])", r"\\\1", " ".join(str(text).split()))


def _format_verdict(verdict: Verdict | None) -> str:
    return formatting.NO_VALUE if verdict is None else VERDICT_TEXT[verdict]


def _format_share(value: float | None) -> str:
    return formatting.format_percent(value, 0)


FILTERS = {
    "rate": format_rate,
    "count": formatting.format_count,
    "millions": formatting.format_millions,
    "size": formatting.format_bytes,
    "memory": formatting.format_megabytes,
    "moment": formatting.format_timestamp,
    "ms": formatting.format_ms,
    "percent": formatting.format_percent,
    "share": _format_share,
    "times": formatting.format_ratio,
    "decimals": formatting.format_decimal,
    "small": formatting.format_difference,
    "verdict": _format_verdict,
}
"""Filters of the templates."""
