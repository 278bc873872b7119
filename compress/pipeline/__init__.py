"""From a request to a run folder: `request -> stages [dense?, method] -> prepare, fit, finish, save`.

Reading order: `request` (names become objects), `stages` (what is trained, in which order), `training` (the
journey), `verification` (what must hold before a model is saved). `train`, `slice` and `inspect` are the
functions for Python; the command line calls the same ones.
"""

from compress.pipeline.api import train
from compress.pipeline.estimation import Estimate, estimate
from compress.pipeline.inspection import Inspection, inspect
from compress.pipeline.plan import PlannedNetwork, plan_request, plan_training
from compress.pipeline.request import ResolvedRequest, TrainRequest, method_of, resolve
from compress.pipeline.resume import resolve_or_resume
from compress.pipeline.slicing import SliceResult, slice
from compress.pipeline.stages import dense_epochs, needs_dense, prepare_run
from compress.pipeline.targets import Target, parse_target
from compress.pipeline.training import TrainResult, run_training

__all__ = [
    "Estimate",
    "Inspection",
    "PlannedNetwork",
    "ResolvedRequest",
    "SliceResult",
    "Target",
    "TrainRequest",
    "TrainResult",
    "dense_epochs",
    "estimate",
    "inspect",
    "method_of",
    "needs_dense",
    "parse_target",
    "plan_request",
    "plan_training",
    "prepare_run",
    "resolve",
    "resolve_or_resume",
    "run_training",
    "slice",
    "train",
]
