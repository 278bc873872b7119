"""What each layer of a network costs, dense and narrow."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor, nn

from compress.graph.computed_weights import find_computed_weights
from compress.graph.program import as_inputs, export_program
from compress.graph.propagation import run_dense_pass
from compress.graph.rule_context import LayerTerm


@dataclass(frozen=True)
class LayerCosts:
    """One convolution, linear layer or product with a weight.

    Attributes:
        name: its path in the network, such as ``layer1.0.conv1``.
        width, narrow_width: channels (or features) that it makes.
        macs, narrow_macs: multiply-accumulates of one image.
    """

    name: str
    width: int
    narrow_width: int
    macs: int
    narrow_macs: int


def layer_costs(
    dense: nn.Module, narrow: Mapping[str, Tensor], image: Tensor, *, free_pads: bool = False
) -> list[LayerCosts]:
    """Return the layers in the order in which they compute; one whose weight is itself computed is left out.

    A layer multiplies each element of its weight as often in the narrow network as in the dense one (a cut
    changes no feature map's height or width), so its MACs shrink as its weight does.

    Args:
        dense: the dense network; it is only read.
        narrow: the narrow network's state dict: its tensors by the same names.
        image: `[N, C, H, W]`, of which only the shape matters.
        free_pads: as in `compress.trace`.

    Raises:
        CompressError: (exit 4) the network cannot be exported.
        KeyError: `narrow` lacks the weight of a layer.
    """
    program = export_program(dense, as_inputs(image))
    facts, _ = run_dense_pass(program, free_pads, find_computed_weights(program))
    weights = {**dict(dense.named_parameters(remove_duplicate=False)), **dict(dense.named_buffers())}
    return [
        _costs(term, weights[term.weight], narrow[term.weight], _transposed(dense, term))
        for term in facts.terms
        if term.weight in weights
    ]


def _costs(term: LayerTerm, whole: Tensor, cut: Tensor, transposed: bool) -> LayerCosts:
    inputs = 1.0 if term.groups == 0 else term.inputs.size / term.groups
    macs = term.factor * inputs * term.outputs.size
    side = 1 if transposed else 0  # dimension of the weight that counts outputs
    return LayerCosts(
        name=term.weight.removesuffix(".weight"),
        width=term.outputs.size,
        narrow_width=term.outputs.size * cut.shape[side] // whole.shape[side],
        macs=round(macs),
        narrow_macs=round(macs * cut.numel() / whole.numel()),
    )


def _transposed(network: nn.Module, term: LayerTerm) -> bool:
    """Return whether the layer is a transposed convolution with weight `[inputs, outputs, ...]`."""
    modules = dict(network.named_modules(remove_duplicate=False))
    layer = modules.get(term.weight.removesuffix(".weight"))
    return term.groups == 1 and isinstance(layer, nn.modules.conv._ConvTransposeNd)
