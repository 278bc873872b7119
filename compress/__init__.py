"""Train, slice, export and benchmark compact convolutional networks.

The names below are imported on first use, so that importing the package is fast.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from compress.core.lazy import lazy_attributes

if TYPE_CHECKING:  # export and bench build on this package; nothing below imports them at run time
    from compress.artifact import load
    from compress.bench import compare, list_backends
    from compress.core.errors import CompressError
    from compress.data import list_datasets
    from compress.export import list_formats
    from compress.graph import ChannelGraph, ChannelGroup, SlicePlan, trace
    from compress.methods import ABP, DCFF, KDFS, L1, Dense, Random, Scratch, list_methods
    from compress.models import build, list_models
    from compress.pipeline import (
        Inspection,
        SliceResult,
        TrainRequest,
        TrainResult,
        inspect,
        slice,
        train,
    )
    from compress.planning import list_criteria, make_plan
    from compress.recipes import list_recipes
    from compress.slicing import apply_plan, mask_model, slice_model, verify

__version__ = "0.1.0"

_HOMES = {
    "ABP": "methods",
    "ChannelGraph": "graph",
    "ChannelGroup": "graph",
    "CompressError": "core.errors",
    "DCFF": "methods",
    "Dense": "methods",
    "Inspection": "pipeline",
    "KDFS": "methods",
    "L1": "methods",
    "Random": "methods",
    "Scratch": "methods",
    "SlicePlan": "graph",
    "SliceResult": "pipeline",
    "TrainRequest": "pipeline",
    "TrainResult": "pipeline",
    "apply_plan": "slicing",
    "build": "models",
    "compare": "bench",
    "inspect": "pipeline",
    "list_backends": "bench",
    "list_criteria": "planning",
    "list_datasets": "data",
    "list_formats": "export",
    "list_methods": "methods",
    "list_models": "models",
    "list_recipes": "recipes",
    "load": "artifact",
    "make_plan": "planning",
    "mask_model": "slicing",
    "slice": "pipeline",
    "slice_model": "slicing",
    "trace": "graph",
    "train": "pipeline",
    "verify": "slicing",
}

__all__ = [
    "ABP",
    "DCFF",
    "KDFS",
    "L1",
    "ChannelGraph",
    "ChannelGroup",
    "CompressError",
    "Dense",
    "Inspection",
    "Random",
    "Scratch",
    "SlicePlan",
    "SliceResult",
    "TrainRequest",
    "TrainResult",
    "__version__",
    "apply_plan",
    "build",
    "compare",
    "inspect",
    "list_backends",
    "list_criteria",
    "list_datasets",
    "list_formats",
    "list_methods",
    "list_models",
    "list_recipes",
    "load",
    "make_plan",
    "mask_model",
    "slice",
    "slice_model",
    "trace",
    "train",
    "verify",
]

__getattr__ = lazy_attributes(__name__, _HOMES)
