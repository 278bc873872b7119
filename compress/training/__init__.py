"""Training: the loop and what it needs, on one device or several processes.

Enters here: what is the same for every method. What a method does differently it does in its hooks
(`TrainableMethod`); nothing here knows any method by name.
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
