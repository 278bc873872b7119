"""What a run leaves behind: its folder, its record, and the compact model.

Enters here: reading and writing of the run folder and of `compact/`. Nothing here trains, exports or
measures, and nothing here unpickles.
"""

from __future__ import annotations

from compress.artifact.compact import CompactInfo, build_dense, compact_info, load, save_compact
from compress.artifact.run import RunFolder, RunRecord, new_record
from compress.core.machine import Machine, this_machine, versions

__all__ = [
    "CompactInfo",
    "Machine",
    "RunFolder",
    "RunRecord",
    "build_dense",
    "compact_info",
    "load",
    "new_record",
    "save_compact",
    "this_machine",
    "versions",
]
