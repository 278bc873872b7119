"""What a network costs, as numbers and as functions of what is kept.

What may enter: a cost is computed from the channel graph for any network, never from a formula per network;
or it was measured, and is read from a table.
"""

from compress.cost.latency import LatencyTable
from compress.cost.layers import LayerCosts, layer_costs
from compress.cost.macs import CostModel, cost_model, dense_costs
from compress.cost.shapes import LayerShape, ShapedLayer, shaped_layers

__all__ = [
    "CostModel",
    "LatencyTable",
    "LayerCosts",
    "LayerShape",
    "ShapedLayer",
    "cost_model",
    "dense_costs",
    "layer_costs",
    "shaped_layers",
]
