"""Training of a network with any method, on one device or in several processes.

Reading order: `loop` (epochs), `steps` (one optimizer step), `state` (what a checkpoint contains). A method
takes part through the hooks of `TrainableMethod`; nothing here knows a method by name.
"""

from __future__ import annotations

from compress.training.checkpoint import checkpoint_path, load_checkpoint, restore, save_checkpoint
from compress.training.config import TrainConfig
from compress.training.evaluation import EvalResult, evaluate
from compress.training.loop import FitResult, fit
from compress.training.method import PlainMethod, TrainableMethod
from compress.training.metrics import read_metrics
from compress.training.optim import build_optimizer
from compress.training.progress import BarProgress, LineProgress, NoProgress, Progress, progress_for
from compress.training.schedule import learning_rate

__all__ = [
    "BarProgress",
    "EvalResult",
    "FitResult",
    "LineProgress",
    "NoProgress",
    "PlainMethod",
    "Progress",
    "TrainConfig",
    "TrainableMethod",
    "build_optimizer",
    "checkpoint_path",
    "evaluate",
    "fit",
    "learning_rate",
    "load_checkpoint",
    "progress_for",
    "read_metrics",
    "restore",
    "save_checkpoint",
]
