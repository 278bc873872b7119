"""Small networks, one for each way in which an operator moves, joins, mixes or reduces channels.

`CASES` maps the name of a network to its `Case`. A network is added with the decorator `@case(...)` in the
module of its operator family.
"""

from families import (  # noqa: F401  (each module registers its networks)
    attention,
    computed_weights,
    concatenation,
    convolution,
    elementwise,
    indexing,
    movement,
    norms,
    outputs,
    padding,
    pooling,
    reductions,
    residual,
)
from families.base import CASES, Case, Net, block, case, conv
from families.computed_weights import StandardizedConv

__all__ = ["CASES", "Case", "Net", "StandardizedConv", "block", "case", "conv"]
