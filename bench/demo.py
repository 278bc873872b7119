"""Demo on the built-in digits: train a dense and a compact network, export, and measure."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.table import Table

from compress.bench.pipeline import bench
from compress.bench.results.record import BenchResult
from compress.bench.results.table import SummaryRow, summary_row
from compress.core.errors import CompressError
from compress.export import export
from compress.pipeline import TrainRequest, run_training
from compress.training import Progress

SETTINGS = {"epochs": 8, "batch_size": 32, "lr": 0.05}
MODEL, DATA, TARGET = "vgg_small", "digits", "macs=0.5"


@dataclass(frozen=True)
class DemoResult:
    """Result of the demo.

    Attributes:
        out: folder of the two runs.
        rows: one for each network: MACs, parameters, accuracy, size, latency.
        result: the measurement.
    """

    out: Path
    rows: tuple[dict[str, Any], ...]
    result: BenchResult

    @property
    def summary(self) -> SummaryRow:
        """Summary row of the measurement."""
        return summary_row(self.result)

    def to_json(self) -> dict[str, Any]:
        """Return a JSON object."""
        row = self.summary
        return {
            "out": str(self.out),
            "rows": list(self.rows),
            "speedup": row.speedup,
            "interval": [row.low, row.high],
            "mac_reduction": row.mac_reduction,
            "efficiency": row.efficiency,
            "verdict": str(row.verdict),
        }

    def parts(self) -> tuple[Table, str]:
        """Return a table of the networks and a line with the speed-up."""
        table = Table(title="digits, small VGG, ONNX Runtime on this CPU", title_justify="left")
        for column in ("", "MACs", "parameters", "top-1", "size", "latency"):
            table.add_column(column, justify="right" if column else "left")
        for entry in self.rows:
            table.add_row(
                entry["network"],
                f"{entry['macs']:,}",
                f"{entry['params']:,}",
                f"{entry['top1']:.2%}",
                f"{entry['bytes'] / 1e3:,.0f} kB",
                f"{entry['latency_ms']:.3f} ms",
            )
        row = self.summary
        return table, (
            f"speed-up {row.speedup:.2f}x (95%: {row.low:.2f} to {row.high:.2f}), {row.verdict}; "
            f"MACs {row.mac_reduction:.2f}x fewer; speed-up efficiency {row.efficiency:.2f}"
        )


def commands(out: Path) -> list[str]:
    """Return the commands that the demo runs."""
    settings = " ".join(f"--{name.replace('_', '-')} {value}" for name, value in SETTINGS.items())
    flags = f"--model {MODEL} --data {DATA} {settings}"
    dense, compact = shlex.quote(str(out / "dense")), shlex.quote(str(out / "dcff"))
    return [
        f"compress train --method dense {flags} --out {dense}",
        f"compress train --method dcff {flags} --target {TARGET} --out {compact}",
        f"compress export {compact} --format onnx",
        f"compress bench {compact}",
    ]


def demo(
    out: str | Path | None = None,
    *,
    progress: Progress | None = None,
    say: Callable[[str], None] = lambda text: None,
    measuring: Callable[[str, float], None] | None = None,
) -> DemoResult:
    """Run the four commands and gather their results.

    Args:
        out: folder for the two runs; None: the first free one of ``runs/demo``, ``runs/demo-2``, ...
        progress: progress of the trainings.
        say: called with each command before it is run.
        measuring: progress of the benchmark.

    Raises:
        CompressError: ``run-exists`` (exit 2) if `out` already contains a demo; any error of a command.
    """
    out = _free_folder() if out is None else Path(out)
    if _is_taken(out):
        raise CompressError(
            f"the folder {str(out)!r} already contains a demo",
            hint="remove it, or choose another with --out",
            code="run-exists",
        )
    lines = commands(out)
    runs = []
    for line, method, target in ((lines[0], "dense", None), (lines[1], "dcff", TARGET)):
        say(line)
        request = TrainRequest(
            method=method, model=MODEL, data=DATA, target=target, settings=SETTINGS, out=out / method
        )
        runs.append(run_training(request, progress=progress, command=shlex.split(line)))
    say(lines[2])
    export(out / "dcff")
    say(lines[3])
    result = bench(out / "dcff", command=shlex.split(lines[3]), progress=measuring)
    comparison = result.comparisons[0]
    first = comparison.batches[0]
    sides = ((runs[0], comparison.baseline, first.baseline), (runs[1], comparison.candidate, first.candidate))
    rows = tuple(
        {
            "network": file.label,
            "macs": file.macs,
            "params": file.params,
            "top1": run.top1,
            "bytes": file.bytes,
            "latency_ms": side.p50_ms,
        }
        for run, file, side in sides
    )
    return DemoResult(out, rows, result)


def _is_taken(out: Path) -> bool:
    return any((out / name).exists() for name in ("dense", "dcff"))


def _free_folder() -> Path:
    """Return the first of ``runs/demo``, ``runs/demo-2``, ... that contains no demo."""
    out, count = Path("runs/demo"), 1
    while _is_taken(out):
        count += 1
        out = Path(f"runs/demo-{count}")
    return out
