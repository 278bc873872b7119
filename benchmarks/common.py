"""Provenance that every benchmark records, and the folder of the results."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from compress.bench.bench_setup import versions_here
from compress.bench.protocol.machine import cpu_state
from compress.core.files import write_json
from compress.core.machine import this_machine

RESULTS = Path(__file__).parent / "results"
"""Folder of the recorded results."""


def provenance(module: str, arguments: list[str] | None = None) -> dict[str, Any]:
    """Return command, date, versions, machine and its current load for `python -m MODULE ARGUMENTS`."""
    given = sys.argv[1:] if arguments is None else arguments
    return {
        "command": " ".join(["python", "-m", module, *given]),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": versions_here(),
        "machine": this_machine().model_dump(mode="json"),
        "cpu": cpu_state().model_dump(mode="json"),
    }


def write_result(name: str, record: dict[str, Any], folder: Path = RESULTS) -> Path:
    """Write `record` to `NAME.json` in the folder of results atomically; return the path."""
    path = folder / f"{name}.json"
    write_json(path, record)
    return path
