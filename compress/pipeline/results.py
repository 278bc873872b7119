"""Result objects in notebooks: a small HTML table of costs."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape

from compress.core.formatting import format_count
from compress.core.spec import Costs


def html_table(title: str, costs: Mapping[str, Costs], note: str = "") -> str:
    """Return a table with a row of MACs and parameters for each network."""
    rows = "".join(
        f"<tr><th>{escape(name)}</th><td>{format_count(c.macs)}</td><td>{format_count(c.params)}</td></tr>"
        for name, c in costs.items()
    )
    header = "<tr><th></th><th>MACs</th><th>parameters</th></tr>"
    return f"<p><b>{escape(title)}</b></p><table>{header}{rows}</table><p>{escape(note)}</p>"
