"""Which tensor dimensions must be cut together, and by what rule.

`trace` reads a network through `torch.export`; the `ChannelGraph` it returns knows the groups, what is
protected and why, and makes plans. Operators are described in `rules/`; nothing in here knows a module type.
"""

from compress.graph.channels import ChannelGraph, trace
from compress.graph.groups import ChannelGroup, Protected
from compress.planning.plan import Criterion, SlicePlan

__all__ = ["ChannelGraph", "ChannelGroup", "Criterion", "Protected", "SlicePlan", "trace"]
