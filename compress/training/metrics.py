"""Metrics of a training: `metrics.jsonl`, one line per epoch, and the same numbers for a tracker."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import logging
import math
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from compress.artifact import RunFolder
from compress.core.errors import CompressError, Exit
from compress.core.files import explain_write_errors, write_text
from compress.training.config import TrainConfig

if TYPE_CHECKING:
    from accelerate.tracking import GeneralTracker

logger = logging.getLogger(__name__)

Row = dict[str, Any]
"""A line of `metrics.jsonl`: `epoch` (from 1) and numbers; null where one is not finite."""


def read_metrics(path: Path) -> list[Row]:
    """Return the complete lines of a log; a last line that was cut off is left out."""
    if not path.exists():
        return []
    rows: list[Row] = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            row = json.loads(line)
        except ValueError:
            break
        if not isinstance(row, dict) or "epoch" not in row:
            break
        rows.append(row)
    return rows


class MetricsLog:
    """Appends epochs to a log, after dropping those that a resumed training will repeat.

    Args:
        path: `metrics.jsonl`.
        finished: epochs already done; later lines of the log are removed.
        tracker: receives the same numbers (see `open_tracker`); None for none.
    """

    def __init__(self, path: Path, finished: int, tracker: GeneralTracker | None = None) -> None:
        self._path = path
        self._tracker = tracker
        self.rows = [row for row in read_metrics(path) if row["epoch"] <= finished]
        write_text(path, "".join(_line(row) for row in self.rows))

    def append(self, row: Row) -> None:
        """Add an epoch's line and make sure that it is on disk; the whole line or none of it.

        Raises:
            CompressError: ``disk-full`` or ``not-writable``.
        """
        clean = {key: _finite(value) for key, value in row.items()}
        with explain_write_errors(self._path):
            before = self._path.stat().st_size
            try:
                with self._path.open("a", encoding="utf-8") as file:
                    file.write(_line(clean))
                    file.flush()
                    os.fsync(file.fileno())
            except OSError:
                os.truncate(self._path, before)
                raise
        self.rows.append(clean)
        if self._tracker is not None:
            numbers = {key: v for key, v in clean.items() if key != "epoch" and isinstance(v, int | float)}
            with explain_write_errors(self._path.parent):
                self._tracker.log(numbers, step=clean["epoch"])

    def close(self) -> None:
        """Close the tracker."""
        if self._tracker is not None:
            with contextlib.suppress(OSError):  # every epoch was flushed; a full disk has been reported
                self._tracker.finish()
            self._tracker = None


_PACKAGES = {"tensorboard": "tensorboard", "wandb": "wandb", "mlflow": "mlflow"}


def open_tracker(config: TrainConfig, run: RunFolder, finished: int) -> GeneralTracker | None:
    """Return the tracker of Accelerate that `config.track` names, on the first process; None for none.

    TensorBoard writes to `tensorboard/` in the run folder, the others where their own settings say; the run
    is called after the run folder.

    Args:
        config: settings of the training.
        run: the run folder.
        finished: epochs already done; TensorBoard drops later ones.

    Raises:
        CompressError: (exit 3) ``missing-package``: the package of wandb or mlflow is not installed.
    """
    name = config.track
    if name == "none" or (name == "tensorboard" and not config.tensorboard):
        return None
    if importlib.util.find_spec(_PACKAGES[name]) is None:
        if name == "tensorboard":
            logger.warning("no TensorBoard files: the package tensorboard is not installed")
            return None
        raise CompressError(
            f"--track {name} needs the package {name}",
            hint=f"pip install {_PACKAGES[name]}, or use --track tensorboard",
            code="missing-package",
            exit=Exit.MISSING,
        )
    from accelerate.tracking import MLflowTracker, TensorBoardTracker, WandBTracker

    tracker: GeneralTracker
    if name == "tensorboard":
        tracker = TensorBoardTracker(run.tensorboard.name, str(run.path), purge_step=finished + 1)
    elif name == "wandb":
        tracker = WandBTracker("compress", name=run.path.name, dir=str(run.path))
    else:
        tracker = MLflowTracker("compress", run_name=run.path.name)
    with explain_write_errors(run.path):
        tracker.start()
    return tracker


def _line(row: Row) -> str:
    return json.dumps(row, allow_nan=False) + "\n"


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value
