"""Which layers of a network are measured: by name, by pattern, or all that have a width to choose."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase

from compress.core.errors import CompressError, did_you_mean
from compress.cost import LayerShape, ShapedLayer

ALL = "all"


def choose(layers: Sequence[ShapedLayer], asked: str) -> list[ShapedLayer]:
    """Return the layers that are asked for, in the network's order.

    Args:
        layers: those of the network.
        asked: names or patterns (``layer1.*.conv1``) with commas between, or ``all``, which leaves out the
            layers without a width to choose.

    Raises:
        CompressError: no layer has such a name, or one that is named has no width to choose; with the
            reason.
    """
    open_ones = [layer for layer in layers if layer.axes]
    if asked == ALL:
        if not open_ones:
            raise CompressError("no layer of this network has a width to choose", code="no-width")
        return open_ones
    found: dict[str, ShapedLayer] = {}
    for word in asked.split(","):
        named = [layer for layer in layers if fnmatchcase(layer.name, word)]
        if not named:
            raise _unknown(word, layers)
        closed = [layer for layer in named if not layer.axes]
        if len(closed) == len(named):
            raise CompressError(
                f"the layer {closed[0].name!r} has no width to choose: {closed[0].why}",
                hint=f"name another one, such as {open_ones[0].name}" if open_ones else "",
                code="no-width",
                details={"layer": closed[0].name, "why": closed[0].why},
            )
        found |= {layer.name: layer for layer in named if layer.axes}
    return [layer for layer in layers if layer.name in found]


def by_shape(
    chosen: Sequence[ShapedLayer], every: Sequence[ShapedLayer]
) -> dict[LayerShape, list[ShapedLayer]]:
    """Group layers by their shape; to each shape all layers of the network that have it."""
    shapes = dict.fromkeys(layer.shape for layer in chosen if layer.shape is not None)
    return {shape: [layer for layer in every if layer.shape == shape and layer.axes] for shape in shapes}


def _unknown(word: str, layers: Sequence[ShapedLayer]) -> CompressError:
    names = [layer.name for layer in layers]
    known = ", ".join(names[:8]) + (", ..." if len(names) > 8 else "")
    return CompressError(
        f"the network has no layer {word!r}",
        hint=f"{did_you_mean(word, names)} all, or one of: {known}".strip(),
        code="unknown-layer",
        details={"layer": word, "known": names},
    )
