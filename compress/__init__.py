"""Make a CNN narrow, exactly, and keep it an ordinary network.

What may enter: everything that makes, trains, cuts, saves and loads a network. Exporting is in `export`,
measuring in `bench`; both build on this package and it knows neither.

The names below are loaded when they are first used, so that importing the package is quick.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from compress.core.lazy import lazy_attributes

if TYPE_CHECKING:
    from compress.artifact import load
    from compress.core.errors import CompressError
    from compress.data import list_datasets
    from compress.graph import ChannelGraph, ChannelGroup, SlicePlan, trace
    from compress.models import build, list_models
    from compress.pipeline import TrainRequest, TrainResult, train
    from compress.recipes import list_recipes
    from compress.slicing import apply_plan, mask_model, slice_model, verify

__version__ = "0.1.0"

_HOMES = {
    "ChannelGraph": "graph",
    "ChannelGroup": "graph",
    "CompressError": "core.errors",
    "SlicePlan": "graph",
    "TrainRequest": "pipeline",
    "TrainResult": "pipeline",
    "apply_plan": "slicing",
    "build": "models",
    "list_datasets": "data",
    "list_models": "models",
    "list_recipes": "recipes",
    "load": "artifact",
    "mask_model": "slicing",
    "slice_model": "slicing",
    "trace": "graph",
    "train": "pipeline",
    "verify": "slicing",
}

__all__ = [
    "ChannelGraph",
    "ChannelGroup",
    "CompressError",
    "SlicePlan",
    "TrainRequest",
    "TrainResult",
    "__version__",
    "apply_plan",
    "build",
    "list_datasets",
    "list_models",
    "list_recipes",
    "load",
    "mask_model",
    "slice_model",
    "trace",
    "train",
    "verify",
]

__getattr__ = lazy_attributes(__name__, _HOMES)
