"""Which widths of a layer are measured: multiples of what runtimes work in, and their neighbours."""

from __future__ import annotations

from collections.abc import Sequence

from compress.core.errors import CompressError
from compress.cost import LayerShape
from compress.cost.shapes import Axis

EVERY = 18
"""Up to this many possible widths, each is measured."""

LEAST = 15
"""Fewest widths of the default grid, where a layer has as many."""

ANCHORS = 8
"""Most multiples of the block that the default grid has."""

BLOCK = 8
"""Smallest block of channels the default grid looks at."""


def widths(shape: LayerShape, axis: Axis, asked: Sequence[int] | None = None) -> tuple[int, ...]:
    """Return the widths to measure along a side, ascending; the last one is the full width.

    By default 15 to 24: up to eight multiples of a power of two (8 or more); at each quarter of the full
    width the neighbours one below and one above, and the next multiple of 8 with the width after it.
    Grouped convolutions take multiples of their groups.

    Args:
        asked: exactly these, besides the full width; those that the layer cannot have are left out.

    Raises:
        CompressError: none of the widths asked for is one the layer can have.
    """
    full, unit = shape.full(axis), 1 if axis == "both" else shape.groups
    if asked is None:
        return _default(full, unit)
    possible = {width for width in asked if 0 < width <= full and width % unit == 0}
    if not possible - {full}:
        raise CompressError(
            f"none of the widths {', '.join(map(str, asked))} is one of {shape}",
            hint=f"give multiples of {unit} below {full}" if unit > 1 else f"give widths below {full}",
            code="bad-option",
        )
    return tuple(sorted(possible | {full}))


def _default(full: int, unit: int) -> tuple[int, ...]:
    if full // unit <= EVERY:
        return tuple(range(unit, full + 1, unit))
    block = BLOCK
    while full / block > ANCHORS:
        block *= 2
    found = {*range(block, full, block), full - BLOCK, full - 1, full}
    for quarter in (1, 2, 3):
        anchor = max(BLOCK, round(quarter * full / 4 / BLOCK) * BLOCK)
        found |= {anchor - 1, anchor, anchor + 1, anchor + BLOCK, anchor + BLOCK + 1}
    step = BLOCK // 2
    while len(_possible(found, full, unit)) < LEAST and step:
        found |= set(range(step, full, step))
        step //= 2
    return _possible(found, full, unit)


def _possible(found: set[int], full: int, unit: int) -> tuple[int, ...]:
    """The widths a layer can have: multiples of its groups, of the others the next one."""
    snapped = {max(unit, round(width / unit) * unit) for width in found if width > 0}
    return tuple(sorted(width for width in snapped if width <= full))
