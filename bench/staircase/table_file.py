"""Write a latency table, keeping layers of an earlier measurement with the same settings."""

from __future__ import annotations

import logging
from pathlib import Path

from compress.core.errors import CompressError
from compress.core.files import write_json
from compress.cost import LatencyTable
from compress.cost.latency import Curve, Entry

MERGE_KEYS = (
    "network",
    "backend",
    "device",
    "threads",
    "batch",
    "session",
    "machine",
    "versions",
    "protocol",
)
"""Fields that must be equal for two tables to be merged."""

_log = logging.getLogger(__name__)


def merge_with_file(table: LatencyTable, path: Path) -> LatencyTable:
    """Return the table with the additional entries of the file at `path`, if `MERGE_KEYS` are equal.

    Otherwise a warning says what differs, and the file will be replaced.
    """
    if not path.exists():
        return table
    try:
        stored = LatencyTable.read(path)
    except CompressError as error:
        _log.warning("%s; the file is replaced", error.message)
        return table
    differing = [name for name in MERGE_KEYS if getattr(stored, name) != getattr(table, name)]
    if differing:
        _log.warning("%s was measured with another %s; it is replaced", path.name, " and ".join(differing))
        return table
    new = {entry.shape: entry for entry in table.entries}
    merged = [_merge_entry(entry, new.pop(entry.shape, None)) for entry in stored.entries]
    load = max(stored.others_load, table.others_load)
    return table.model_copy(update={"entries": (*merged, *new.values()), "others_load": load})


def _merge_entry(stored: Entry, new: Entry | None) -> Entry:
    """Return the entry with the curves of both; new curves replace stored ones of the same axis."""
    if new is None:
        return stored
    curves: dict[str, Curve] = {curve.axis: curve for curve in (*stored.curves, *new.curves)}
    return new.model_copy(update={"curves": tuple(curves.values())})


def save_table(table: LatencyTable, path: Path) -> None:
    """Write a table atomically."""
    write_json(path, table.model_dump(mode="json"))
