"""Select the layers to measure: by name, by pattern, or all whose width can be reduced."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase

from compress.core.errors import CompressError, did_you_mean
from compress.cost import LayerShape, ShapedLayer

ALL = "all"


def select_layers(layers: Sequence[ShapedLayer], selection: str) -> list[ShapedLayer]:
    """Return the selected layers in the order of the network.

    Args:
        layers: all layers of the network.
        selection: names or patterns (``layer1.*.conv1``), comma-separated; or ``all`` for every layer whose
            width can be reduced.

    Raises:
        CompressError: a name or pattern matches no layer, or only layers whose width cannot be reduced.
    """
    reducible = [layer for layer in layers if layer.axes]
    if selection == ALL:
        if not reducible:
            raise CompressError(
                "the network has no layer whose width can be reduced",
                hint="`compress inspect MODEL` lists the layers and why they are protected",
                code="no-width",
            )
        return reducible
    names: set[str] = set()
    for pattern in selection.split(","):
        matching = [layer for layer in layers if fnmatchcase(layer.name, pattern)]
        if not matching:
            raise _unknown_layer(pattern, layers)
        fixed = [layer for layer in matching if not layer.axes]
        if len(fixed) == len(matching):
            raise CompressError(
                f"the width of the layer {fixed[0].name!r} cannot be reduced: {fixed[0].why}",
                hint=f"choose another layer, such as {reducible[0].name}" if reducible else "",
                code="no-width",
                details={"layer": fixed[0].name, "why": fixed[0].why},
            )
        names |= {layer.name for layer in matching if layer.axes}
    return [layer for layer in layers if layer.name in names]


def group_by_shape(
    selected: Sequence[ShapedLayer], layers: Sequence[ShapedLayer]
) -> dict[LayerShape, list[ShapedLayer]]:
    """Return the shapes of the selected layers, each with all layers of the network that have it."""
    shapes = dict.fromkeys(layer.shape for layer in selected if layer.shape is not None)
    return {shape: [layer for layer in layers if layer.shape == shape and layer.axes] for shape in shapes}


def _unknown_layer(pattern: str, layers: Sequence[ShapedLayer]) -> CompressError:
    names = [layer.name for layer in layers]
    known = ", ".join(names[:8]) + (", ..." if len(names) > 8 else "")
    return CompressError(
        f"the network has no layer {pattern!r}",
        hint=f"{did_you_mean(pattern, names)} Give all, or one of: {known}".strip(),
        code="unknown-layer",
        details={"layer": pattern, "known": names},
    )
