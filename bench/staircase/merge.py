"""Writing a latency table: layers measured before in the same session's terms stay in it."""

from __future__ import annotations

import logging
from pathlib import Path

from compress.core.errors import CompressError
from compress.core.files import write_json
from compress.cost import LatencyTable
from compress.cost.latency import Curve, Entry

SAME = ("network", "backend", "device", "threads", "batch", "session", "machine", "versions", "protocol")
"""What two tables must have in common to be one."""

_log = logging.getLogger(__name__)


def onto(path: Path, table: LatencyTable) -> LatencyTable:
    """Return a table with the entries that the file at `path` has besides, where it is of the same kind.

    Where it is not, a warning says what differs: the file will be replaced.
    """
    if not path.exists():
        return table
    try:
        before = LatencyTable.read(path)
    except CompressError as error:
        _log.warning("%s; it is replaced", error.message)
        return table
    differing = [name for name in SAME if getattr(before, name) != getattr(table, name)]
    if differing:
        _log.warning("the table %s was of another %s; it is replaced", path.name, " and ".join(differing))
        return table
    now = {entry.shape: entry for entry in table.entries}
    kept = [_joined(entry, now.pop(entry.shape, None)) for entry in before.entries]
    load = max(before.others_load, table.others_load)
    return table.model_copy(update={"entries": (*kept, *now.values()), "others_load": load})


def _joined(before: Entry, now: Entry | None) -> Entry:
    """One entry of two: curves of now take the place of those of before."""
    if now is None:
        return before
    curves: dict[str, Curve] = {curve.axis: curve for curve in (*before.curves, *now.curves)}
    return now.model_copy(update={"curves": tuple(curves.values())})


def save(table: LatencyTable, path: Path) -> None:
    """Write a table, whole or not at all."""
    write_json(path, table.model_dump(mode="json"))
