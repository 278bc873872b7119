"""Run folders and compact models on disk.

`RunFolder` is the folder of one training, `RunRecord` its ``run.json``. `load` reads the compact model in
it as an ordinary module; nothing is unpickled.

Example:
    >>> import compress
    >>> model = compress.load("runs/small")            # doctest: +SKIP
    >>> logits = model(images)                         # doctest: +SKIP
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
