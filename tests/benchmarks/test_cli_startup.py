"""The benchmark of the command line's start-up records every command line."""

from __future__ import annotations

import json
from pathlib import Path

from benchmarks import cli_startup


def test_every_command_line_is_measured_and_recorded(tmp_path: Path) -> None:
    cli_startup.main(["--repeats", "1"], tmp_path)
    record = json.loads((tmp_path / "cli_startup.json").read_text())
    assert list(record["commands"]) == list(cli_startup.COMMANDS)
    assert all(row["min_s"] > 0 for row in record["commands"].values())
    assert record["command"] == "python -m benchmarks.cli_startup --repeats 1"
