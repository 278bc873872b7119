"""Choose the widths of a layer to measure: multiples of the runtimes' channel blocks, and their neighbors."""

from __future__ import annotations

from collections.abc import Sequence

from compress.core.errors import CompressError
from compress.cost import LayerShape
from compress.cost.shapes import Axis

ALL_UP_TO = 18
"""Layers with up to this many possible widths are measured at all of them."""

MIN_WIDTHS = 15
"""Fewest widths of the default grid, if the layer has as many."""

MAX_MULTIPLES = 8
"""Most multiples of the block in the default grid."""

BLOCK = 8
"""Smallest channel block of the default grid."""


def width_grid(shape: LayerShape, axis: Axis, requested: Sequence[int] | None = None) -> tuple[int, ...]:
    """Return the widths to measure along an axis, ascending; the last one is the full width.

    The default grid has 15 to 24 widths: up to eight multiples of a power of two (8 or more); at each quarter
    of the full width the neighbors one below and one above, and the next multiple of 8 with the width after
    it. The widths of grouped convolutions are multiples of their groups.

    Args:
        shape: the dense layer.
        axis: the axis to vary.
        requested: measure these instead, besides the full width; impossible ones are left out.

    Raises:
        CompressError: the layer can have none of the requested widths.
    """
    full, unit = shape.full(axis), 1 if axis == "both" else shape.groups
    if requested is None:
        return _default_grid(full, unit)
    possible = {width for width in requested if 0 < width <= full and width % unit == 0}
    if not possible - {full}:
        raise CompressError(
            f"{shape} can have none of the widths {', '.join(map(str, requested))}",
            hint=f"give multiples of {unit} below {full}" if unit > 1 else f"give widths below {full}",
            code="bad-option",
        )
    return tuple(sorted(possible | {full}))


def _default_grid(full: int, unit: int) -> tuple[int, ...]:
    if full // unit <= ALL_UP_TO:
        return tuple(range(unit, full + 1, unit))
    block = BLOCK
    while full / block > MAX_MULTIPLES:
        block *= 2
    widths = {*range(block, full, block), full - BLOCK, full - 1, full}
    for quarter in (1, 2, 3):
        anchor = max(BLOCK, round(quarter * full / 4 / BLOCK) * BLOCK)
        widths |= {anchor - 1, anchor, anchor + 1, anchor + BLOCK, anchor + BLOCK + 1}
    step = BLOCK // 2
    while len(_round_to_unit(widths, full, unit)) < MIN_WIDTHS and step:
        widths |= set(range(step, full, step))
        step //= 2
    return _round_to_unit(widths, full, unit)


def _round_to_unit(widths: set[int], full: int, unit: int) -> tuple[int, ...]:
    """Return the widths rounded to multiples of the layer's groups."""
    snapped = {max(unit, round(width / unit) * unit) for width in widths if width > 0}
    return tuple(sorted(width for width in snapped if width <= full))
