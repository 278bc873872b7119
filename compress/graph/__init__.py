"""Facts about a network: which channels must be cut together, which cannot be cut, and why.

In reading order:

- `labels`: every index of every parameter dimension is a label; a labeled tensor knows the label of each
  element.
- `operators`: the operator table; `rules/`: what operators do to labels, through a `rule_context`.
- `program`: a module as an exported program; `propagation`: runs the rules over it, in the `dense_pass`.
- `computed_weights`: weights that the network computes from a parameter, such as standardized ones.
- `channels`, `groups`, `width_choices`: labels that are cut together become channels, channels with the same
  members become groups, and ties of counts become choices.
- `channel_graph`: all of it as one object, made by `trace`.
- `cut`: from a mask to the indices that stay, by a `narrow_pass`; `feasibility`: one trial cut.
- `slice_plan`: a cut as a record; `rewrite`: the copy of a network whose own code has widths baked in.
- `placement`, `stages`: where masks act, and where stages end.

Nothing here chooses what to keep; that is `compress.planning`.
"""

from compress.graph.channel_graph import ChannelGraph, trace
from compress.graph.groups import ChannelGroup, Protected
from compress.graph.slice_plan import SlicePlan

__all__ = ["ChannelGraph", "ChannelGroup", "Protected", "SlicePlan", "trace"]
