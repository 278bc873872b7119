"""The report as a page that needs nothing beside it, and as Markdown."""

from __future__ import annotations

import re
import shlex

from jinja2 import Environment, PackageLoader, StrictUndefined

from compress.bench.report.figures import LAYER_LIMIT
from compress.bench.report.view import ReportView
from compress.bench.report.words import FILTERS


def html(shown: ReportView) -> str:
    """Return the page: style and figures are in it, every text from outside is escaped."""
    environment = _environment(autoescape=True)
    return environment.get_template("report.html.j2").render(report=shown, layer_limit=LAYER_LIMIT)


def markdown(shown: ReportView) -> str:
    """Return the same facts as GitHub's Markdown, without the figures."""
    environment = _environment(autoescape=False)
    text = environment.get_template("report.md.j2").render(report=shown)
    return re.sub(r"\n{3,}", "\n\n", text).strip() + "\n"


def _environment(autoescape: bool) -> Environment:
    environment = Environment(
        loader=PackageLoader("compress.bench.report"),
        autoescape=autoescape,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {**FILTERS, "command": shlex.join, "plain": plain}
    return environment


def plain(text: object) -> str:
    """Return a text from outside so that Markdown takes no part of it as markup."""
    return re.sub(r"([\\`*_{}\[\]<>#|~])", r"\\\1", " ".join(str(text).split()))
