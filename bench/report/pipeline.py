"""From run folders to report.html and report.md."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from compress.bench.report import page
from compress.bench.report.facts import ReportFacts
from compress.bench.report.gather import gather
from compress.bench.report.view import view
from compress.core.errors import CompressError
from compress.core.files import write_text

FILENAME = "report.html"


@dataclass(frozen=True)
class Report:
    """What was written.

    Attributes:
        html, markdown: the two files. facts: what they are made of.
    """

    html: Path
    markdown: Path
    facts: ReportFacts

    def to_json(self) -> dict[str, Any]:
        """A JSON object."""
        return {
            "html": str(self.html),
            "markdown": str(self.markdown),
            "facts": self.facts.model_dump(mode="json"),
        }


def report(*runs: str | Path, out: str | Path | None = None) -> Report:
    """Write a report on one or more runs.

    What a run folder does not hold is said in the report with the command that makes it.

    Args:
        runs: run folders; a later one's artefacts stand below an earlier one's in the same table.
        out: the page, a file ending in ``.html``; None takes `bench/report.html` of the first run. The same
            as Markdown is written beside it.

    Raises:
        CompressError: no run, a folder that is none, another ending (USAGE), or a file that cannot be read
            or written (MISSING).
    """
    target = None if out is None else Path(out)
    if target is not None and (target.suffix != ".html" or target.is_dir()):
        raise CompressError(
            f"the report cannot be written to {str(out)!r}",
            hint="give a file ending in .html; the Markdown is written beside it",
            code="bad-option",
        )
    facts = gather(runs)
    shown = view(facts)
    target = target or Path(runs[0]) / "bench" / FILENAME
    found = Report(target, target.with_suffix(".md"), facts)
    texts = page.html(shown), page.markdown(shown)  # both are made before one is written
    write_text(found.html, texts[0])
    write_text(found.markdown, texts[1])
    return found
