"""The whole way on the built-in digits: train dense, train narrow, export, measure."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.pipeline import bench
from bench.record import BenchResult
from compress.errors import CompressError
from compress.pipeline import TrainRequest, train
from compress.training import Progress
from export import export

EPOCHS = 8
SETTINGS = {"epochs": EPOCHS, "batch_size": 32, "lr": 0.05}
MODEL, DATA, TARGET = "vgg_small", "digits", "macs=0.5"


@dataclass(frozen=True)
class DemoResult:
    """What the demo found.

    Attributes:
        rows: one a network: MACs, parameters, accuracy, size, latency.
        result: the measurement.
    """

    rows: tuple[dict[str, Any], ...]
    result: BenchResult


def commands(out: Path) -> list[str]:
    """The commands the demo stands for."""
    flags = f"--model {MODEL} --data {DATA} --epochs {EPOCHS} --batch-size 32 --lr 0.05"
    dense, narrow = shlex.quote(str(out / "dense")), shlex.quote(str(out / "dcff"))
    return [
        f"compress train --method dense {flags} --out {dense}",
        f"compress train --method dcff {flags} --target {TARGET} --out {narrow}",
        f"compress export {narrow} --format onnx",
        f"compress bench {narrow}",
    ]


def demo(out: str | Path, *, progress: Progress | None = None, say: Callable[[str], None] = lambda text: None
         ) -> DemoResult:
    """Run the four commands in `out` and gather their results.

    Raises:
        CompressError: (exit 2) `out` already holds a demo; and whatever the parts raise.
    """
    out = Path(out)
    if any((out / name).exists() for name in ("dense", "dcff")):
        raise CompressError(f"the folder {str(out)!r} already holds a demo", code="run-exists",
                            hint="remove it, or choose another with --out")
    lines = commands(out)
    runs = []
    for line, method, target in ((lines[0], "dense", None), (lines[1], "dcff", TARGET)):
        say(line)
        request = TrainRequest(method=method, model=MODEL, data=DATA, target=target, settings=SETTINGS,
                               out=out / method)
        runs.append(train(request, progress=progress, command=shlex.split(line)))
    say(lines[2])
    export(out / "dcff")
    say(lines[3])
    result = bench(out / "dcff", command=shlex.split(lines[3]))
    sides = ((runs[0], result.dense, result.batches[0].dense), (runs[1], result.compact, result.batches[0].compact))
    rows = tuple(
        {"network": name, "macs": file.macs, "params": file.params, "top1": run.top1, "bytes": file.bytes,
         "latency_ms": side.p50_ms}
        for name, (run, file, side) in zip(("dense", "compact"), sides, strict=True)
    )
    return DemoResult(rows, result)
