"""What every benchmark records beside its numbers, and where it writes them."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bench.asked import versions_here
from bench.machine import cpu_state
from compress.artifact.machine import this_machine
from compress.files import write_json

RESULTS = Path(__file__).parent / "results"
"""Folder of the recorded results."""


def provenance(module: str, arguments: list[str] | None = None) -> dict[str, Any]:
    """Command, date, versions, machine and its load now, for a run of `python -m MODULE ARGUMENTS`."""
    given = sys.argv[1:] if arguments is None else arguments
    return {
        "command": " ".join(["python", "-m", module, *given]),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": versions_here(),
        "machine": this_machine().model_dump(mode="json"),
        "cpu": cpu_state().model_dump(mode="json"),
    }


def write_result(name: str, record: dict[str, Any], folder: Path = RESULTS) -> Path:
    """Write `record` to `NAME.json` in the folder of results, whole or not at all; return the path."""
    path = folder / f"{name}.json"
    write_json(path, record)
    return path
