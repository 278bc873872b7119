"""From what a user asks to a run folder: names are resolved, the plan is made, the parts are called in order.

What may enter: the sequence of a command, as a plain function. What a part does stays in that part.
"""

from compress.pipeline.estimate import Estimate, estimate
from compress.pipeline.plan import Planned, parse_target, plan_training
from compress.pipeline.request import Resolved, TrainRequest, resolve
from compress.pipeline.slice import slice_to_run
from compress.pipeline.training import TrainResult, train

__all__ = [
    "Estimate",
    "Planned",
    "Resolved",
    "TrainRequest",
    "TrainResult",
    "estimate",
    "parse_target",
    "plan_training",
    "resolve",
    "slice_to_run",
    "train",
]
