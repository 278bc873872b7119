"""CPU time of the commands that should answer at once: help, version, lists and shell completion.

`python -m benchmarks.cli_startup [--repeats 9]`. Each command line runs in its own process, whose user and
system time is measured. The limit for ``compress --help`` is 0.5 s.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.common import RESULTS, provenance, write_result

LIMIT_S = 0.5
"""CPU seconds that ``compress --help`` may take."""

COMPLETION = {
    "_COMPRESS_COMPLETE": "complete_bash",
    "COMP_WORDS": "compress train --method ",
    "COMP_CWORD": "3",
}

COMMANDS: Mapping[str, tuple[tuple[str, ...], Mapping[str, str]]] = {
    "--help": (("--help",), {}),
    "--version": (("--version",), {}),
    "train --help": (("train", "--help"), {}),
    "bench run --help": (("bench", "run", "--help"), {}),
    "list methods": (("list", "methods"), {}),
    "--help --json": (("--help", "--json"), {}),
    "completion of --method": ((), COMPLETION),
}
"""Arguments and environment of each command line."""


def cpu_seconds(arguments: Sequence[str], environment: Mapping[str, str]) -> float:
    """Return the user and system time of one run of the command line."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(
        [sys.executable, "-m", "compress", *arguments],
        env={**os.environ, **environment},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        check=not environment,
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return (after.ru_utime - before.ru_utime) + (after.ru_stime - before.ru_stime)


def measure_startup(repeats: int) -> dict[str, dict[str, Any]]:
    """Return the median and the extremes of the CPU seconds of each command line, after one warm-up run."""
    times: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for i in range(repeats + 1):
        for name, command in COMMANDS.items():
            seconds = cpu_seconds(*command)
            if i:
                times[name].append(seconds)
    return {
        name: {"median_s": statistics.median(values), "min_s": min(values), "max_s": max(values)}
        for name, values in times.items()
    }


def render_startup(commands: Mapping[str, Mapping[str, float]]) -> Table:
    """Return the table of the CPU times."""
    table = Table(title="CPU seconds", title_justify="left")
    table.add_column("compress ...")
    for heading in ("median", "min", "max"):
        table.add_column(heading, justify="right")
    for name, row in commands.items():
        table.add_row(name, *(f"{row[key]:.3f}" for key in ("median_s", "min_s", "max_s")))
    return table


def main(arguments: list[str] | None = None, folder: Path = RESULTS) -> dict[str, Any]:
    """Measure all command lines, write the result, and print it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repeats", type=int, default=9, help="measured runs of each command line")
    options = parser.parse_args(arguments)
    commands = measure_startup(options.repeats)
    record = {
        **provenance("benchmarks.cli_startup", arguments),
        "repeats": options.repeats,
        "limit_s": LIMIT_S,
        "within_limit": commands["--help"]["median_s"] < LIMIT_S,
        "commands": commands,
    }
    write_result("cli_startup", record, folder)
    Console(highlight=False).print(render_startup(commands))
    return record


if __name__ == "__main__":
    main()
