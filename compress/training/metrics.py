"""The log of a training: `metrics.jsonl`, a line an epoch, and the same numbers for TensorBoard."""

from __future__ import annotations

import contextlib
import json
import logging
import math
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from compress.core.files import explain_write_errors, write_text

if TYPE_CHECKING:
    from torch.utils.tensorboard.writer import SummaryWriter

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
    """Appends epochs to a log, after dropping those a resumed training will do again.

    Args:
        path: `metrics.jsonl`.
        finished: epochs already done; later lines of the log are removed.
        tensorboard: folder for event files; None for none.
    """

    def __init__(self, path: Path, finished: int, tensorboard: Path | None) -> None:
        self._path = path
        self._finished = finished
        self._tensorboard = tensorboard
        self._writer: SummaryWriter | None = None
        self.rows = [row for row in read_metrics(path) if row["epoch"] <= finished]
        write_text(path, "".join(_line(row) for row in self.rows))

    def append(self, row: Row) -> None:
        """Add an epoch's line and make sure it is on the disk; the whole line or none of it.

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
        self._plot(clean)

    def close(self) -> None:
        """Close the event files."""
        if self._writer is not None:
            with contextlib.suppress(OSError):  # every epoch was flushed; a full disk has been told
                self._writer.close()
            self._writer = None

    def _plot(self, row: Row) -> None:
        if self._tensorboard is None:
            return
        if self._writer is None:
            try:
                from torch.utils.tensorboard.writer import SummaryWriter
            except ImportError:
                logger.warning("no TensorBoard files: the package tensorboard is not installed")
                self._tensorboard = None
                return
            with explain_write_errors(self._tensorboard):
                self._writer = SummaryWriter(str(self._tensorboard), purge_step=self._finished + 1)
        with explain_write_errors(self._tensorboard):
            for key, value in row.items():
                if key != "epoch" and isinstance(value, (int, float)):
                    self._writer.add_scalar(key, value, row["epoch"])
            self._writer.flush()


def _line(row: Row) -> str:
    return json.dumps(row, allow_nan=False) + "\n"


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value
