"""What a network costs, as numbers and as functions of what is kept.

What may enter: a cost is computed from the channel graph for any network, never from a formula per network.
"""

from .layers import LayerCosts, layer_costs
from .macs import CostModel

__all__ = ["CostModel", "LayerCosts", "layer_costs"]
