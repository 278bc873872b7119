"""Layout of Rich tables for a given width without breaking words.

Rich shrinks the widest columns first, even below the length of their longest word. Here each column gets at
least its longest word; a table that does not fit even so is printed as one block of lines for each row.
"""

from __future__ import annotations

from typing import Any

from rich.console import Console, Group, RenderableType
from rich.measure import Measurement
from rich.padding import Padding
from rich.table import Table
from rich.text import Text


def fit_to_width(part: RenderableType, console: Console) -> RenderableType:
    """Return a table (or a group of tables) that fits the width of the console; anything else as it is.

    Args:
        part: what is to be printed; a table's column widths are set in place.
        console: on which it is printed.
    """
    if isinstance(part, Group):
        return Group(*(fit_to_width(item, console) for item in part.renderables))
    if not isinstance(part, Table) or not part.columns:
        return part
    unlimited = console.options.update(max_width=100_000)
    cells = [[*([column.header] if part.show_header else []), *column.cells] for column in part.columns]
    sizes = [[Measurement.get(console, unlimited, cell) for cell in column] for column in cells]
    widest = [max((size.maximum for size in column), default=1) for column in sizes]
    narrowest = [
        wide if column.no_wrap else max((size.minimum for size in sizes[i]), default=1)
        for i, (column, wide) in enumerate(zip(part.columns, widest, strict=True))
    ]
    borders = Measurement.get(console, unlimited, part).maximum - sum(widest)
    space = console.width - borders
    if sum(widest) <= space:
        return part
    if sum(narrowest) > space:
        return _rows_as_blocks(part)
    for column, width in zip(part.columns, _share(space, narrowest, widest), strict=True):
        column.width = width
    return part


def _share(space: int, narrowest: list[int], widest: list[int]) -> list[int]:
    """Return a width between its bounds for each column, `space` in all; the narrowest columns grow first."""
    widths = list(narrowest)
    for _ in range(space - sum(widths)):
        growing = [i for i, width in enumerate(widths) if width < widest[i]]
        widths[min(growing, key=lambda i: widths[i])] += 1
    return widths


def _rows_as_blocks(table: Table) -> Group:
    """Return the rows of a table as blocks of lines ``heading: cell``, all but the first line indented."""
    headings = [_plain(column.header) for column in table.columns]
    columns = [list(column.cells) for column in table.columns]
    parts: list[RenderableType] = [] if table.title is None else [Text(_plain(table.title))]
    for row in zip(*columns, strict=True):
        cells = [(heading, _plain(cell)) for heading, cell in zip(headings, row, strict=True)]
        lines = [f"{heading}: {text}" if heading else text for heading, text in cells if text]
        parts += [Padding(Text(line), (0, 0, 0, 2 if i else 0)) for i, line in enumerate(lines)]
    return Group(*parts)


def _plain(cell: Any) -> str:
    if isinstance(cell, Text):
        return cell.plain
    return Text.from_markup(cell).plain if isinstance(cell, str) else str(cell)
