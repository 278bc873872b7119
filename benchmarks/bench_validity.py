"""Rate of false verdicts of `compress bench` on a machine under load.

`python -m benchmarks.bench_validity [--repeats 20 --halves 4 --backend ort-cpu,openvino --threads 1,2]`:
ResNet-20 is compared with a copy of its own file, where FASTER and SLOWER are false, and with its slice of
half the width, where everything but FASTER is false. `--load` other processes compute meanwhile, steadily in
every other repeat and intermittently in the rest. Exits with 1 if there are more false verdicts than allowed.
`--resume` continues the record of an interrupted run.
"""

from __future__ import annotations

import argparse
import json
import math
import shutil
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch import nn

from benchmarks.busy import FORMS, loaded
from benchmarks.common import RESULTS, provenance, write_result
from compress.bench import BenchResult, Verdict, bench
from compress.bench.protocol.paired import PAIRS
from compress.bench.protocol.stats import Interval, verdict
from compress.bench.results.record import SessionRecord
from compress.export.onnx.exporter import to_onnx
from compress.graph import trace
from compress.models import build
from compress.planning import make_plan
from compress.slicing import slice_model

MODEL = "resnet20"
SIZE = (3, 32, 32)
ALLOWED = 0.1
"""Largest share of false verdicts on equal files: 2 of 20."""

FIXED_OPTIONS = ("repeats", "halves", "backend", "threads", "load", "sessions", "pairs", "model")
"""Options that must be unchanged to resume a run."""


def networks(folder: Path, model: str = MODEL, size: tuple[int, int, int] = SIZE) -> tuple[Path, Path, Path]:
    """Return ONNX files of a random network, a copy and its slice of half the width; create missing files."""
    paths = folder / "full.onnx", folder / "copy.onnx", folder / "half.onnx"
    if all(path.exists() for path in paths):
        return paths
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    full = _with_batch_statistics(build(model, 10, size), size)
    plan = make_plan(trace(full, torch.zeros(2, *size)), keep=0.5)
    half = slice_model(full, plan).eval()
    to_onnx(full, torch.zeros(1, *size), paths[0])
    shutil.copyfile(paths[0], paths[1])
    to_onnx(half, torch.zeros(1, *size), paths[2])
    return paths


def _with_batch_statistics(model: nn.Module, size: tuple[int, int, int]) -> nn.Module:
    """Return the network with batch norm statistics of noise, which keep its activations in range."""
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = None
    with torch.no_grad():
        model.train()(torch.randn(8, *size))
    return model.eval()


def measure_verdicts(
    files: Sequence[Path],
    repeat: int,
    *,
    backends: str,
    threads: int,
    load: int = 1,
    sessions: int | None = None,
    pairs: int = PAIRS,
) -> list[dict[str, Any]]:
    """Compare the first file with each other file on each back end, once, under load."""
    form, start = FORMS[repeat % len(FORMS)], time.monotonic()
    with loaded(load, form, repeat):
        result = bench(
            *files, backend=backends, threads=threads, pairs=pairs, sessions=sessions, seed=repeat, command=[]
        )
    seconds = (time.monotonic() - start) / len(result.comparisons)
    return [{"repeat": repeat, "load": form, "seconds": seconds, **row} for row in rows_of(result)]


def rows_of(result: BenchResult) -> list[dict[str, Any]]:
    """Return a row of the record for each comparison of a result."""
    return [
        {
            "backend": comparison.backend,
            "threads": result.threads,
            "candidate": Path(comparison.candidate.label).stem,
            **entry.model_dump(mode="json", include={"verdict", "speedup", "noise", "floor", "others_load"}),
            "sessions": [
                [session.noise.ratio, session.speedup.ratio, str(session_verdict(session))]
                for session in entry.sessions
            ],
        }
        for comparison in result.comparisons
        for entry in comparison.batches
    ]


def session_verdict(session: SessionRecord) -> Verdict:
    """Return the verdict of a single session, from the interval over its pairs."""
    speedup, noise = session.speedup, session.noise
    ratio = Interval(
        *(math.log(value) for value in (speedup.ratio, speedup.low, speedup.high)), speedup.pairs
    )
    floor = max(abs(math.log(noise.low)), abs(math.log(noise.high)))
    return verdict(ratio, floor)


def is_false(candidate: str, verdict: str) -> bool:
    """Whether a verdict is false: a difference between equal files, or the slice not called faster."""
    return (verdict in ("FASTER", "SLOWER")) if candidate == "copy" else verdict != "FASTER"


def summarize(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Count the verdicts by back end, threads and candidate, and compare them with the allowed number.

    For equal files the share `ALLOWED` of the verdicts may be false, for the slice none.
    """
    summaries = []
    for key in dict.fromkeys((row["backend"], row["threads"], row["candidate"]) for row in rows):
        own = [row for row in rows if (row["backend"], row["threads"], row["candidate"]) == key]
        wrong = sum(is_false(key[2], row["verdict"]) for row in own)
        allowed = math.floor(ALLOWED * len(own)) if key[2] == "copy" else 0
        by_session = [verdict for row in own for _, _, verdict in row["sessions"]]
        summaries.append(
            {
                "backend": key[0],
                "threads": key[1],
                "candidate": key[2],
                "comparisons": len(own),
                "verdicts": dict(Counter(row["verdict"] for row in own)),
                "false": wrong,
                "allowed": allowed,
                "holds": wrong <= allowed,
                "sessions": len(by_session),
                "false_alone": sum(is_false(key[2], verdict) for verdict in by_session),
                "speedup": statistics.median(row["speedup"]["ratio"] for row in own),
                "floor": statistics.median(row["floor"] for row in own),
                "others_load": statistics.fmean(row["others_load"] for row in own),
                "seconds": statistics.fmean(row["seconds"] for row in own),
            }
        )
    return summaries


def render_verdict_counts(summaries: Sequence[dict[str, Any]]) -> Table:
    """Return the counts as a table."""
    names = ("back end", "threads", "full against", *Verdict, "false", "allowed")
    table = Table(*names, "single sessions", "speed-up", "floor", "others", "s per comparison")
    for row in summaries:
        table.add_row(
            row["backend"],
            str(row["threads"]),
            row["candidate"],
            *(str(row["verdicts"].get(verdict, 0)) for verdict in Verdict),
            str(row["false"]),
            str(row["allowed"]),
            f"{row['false_alone']} of {row['sessions']}",
            f"{row['speedup']:.2f}x",
            f"{row['floor']:.1%}",
            f"{row['others_load']:.0%}",
            f"{row['seconds']:.1f}",
        )
    return table


def run_benchmark(args: argparse.Namespace) -> dict[str, Any]:
    """Measure all comparisons, writing the record after each measurement; return it."""
    record: dict[str, Any] = {
        "schema_version": 1,
        **provenance("benchmarks.bench_validity", args.arguments),
        "asked": {name: getattr(args, name) for name in FIXED_OPTIONS},
        "input": [1, *SIZE],
        "minutes": 0.0,
        "rows": [],
    }
    if args.resume and args.out.exists():
        record = _load_interrupted(record, args.out)
    with tempfile.TemporaryDirectory() as folder:
        files = networks(args.networks or Path(folder), args.model)
        for repeat in range(args.repeats):
            for threads in map(int, args.threads.split(",")):
                if any((row["repeat"], row["threads"]) == (repeat, threads) for row in record["rows"]):
                    continue
                start = time.monotonic()
                measured = measure_verdicts(
                    files if repeat < args.halves else files[:2],
                    repeat,
                    backends=args.backend,
                    threads=threads,
                    load=args.load,
                    sessions=args.sessions,
                    pairs=args.pairs,
                )
                record["rows"] += measured
                record["minutes"] += (time.monotonic() - start) / 60
                record["summary"] = summarize(record["rows"])
                record["holds"] = all(row["holds"] for row in record["summary"])
                write_result(args.out.stem, record, args.out.parent)
                for row in measured:
                    line = f"{row['backend']}, {threads} threads, {row['candidate']}: {row['verdict']}"
                    print(f"{record['minutes']:5.1f} min  {repeat + 1:2}  {line}", file=sys.stderr)
    return record


def _load_interrupted(record: dict[str, Any], path: Path) -> dict[str, Any]:
    """Return the record of an interrupted run, if it had the same options."""
    earlier: dict[str, Any] = json.loads(path.read_text("utf-8"))
    if earlier["asked"] != record["asked"]:
        raise SystemExit(f"{path} was measured with other options ({earlier['asked']}): choose another --out")
    return earlier


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark and print the counts; return 1 if there are more false verdicts than allowed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--repeats", type=int, default=20, help="comparisons of the network with its copy")
    parser.add_argument(
        "--halves", type=int, default=4, help="repeats that also compare the network with its slice"
    )
    parser.add_argument("--backend", default="ort-cpu,openvino")
    parser.add_argument("--threads", default="1,2")
    parser.add_argument("--load", type=int, default=1, help="number of other processes that compute")
    parser.add_argument("--sessions", type=int, help="as for compress bench")
    parser.add_argument("--pairs", type=int, default=PAIRS, help="as for compress bench")
    parser.add_argument("--model", default=MODEL)
    parser.add_argument("--networks", type=Path, help="folder of the ONNX files, created if missing")
    parser.add_argument("--resume", action="store_true", help="resume an interrupted run")
    parser.add_argument("--out", type=Path, default=RESULTS / "bench_validity.json")
    args = parser.parse_args(arguments)
    args.arguments = sys.argv[1:] if arguments is None else list(arguments)
    record = run_benchmark(args)
    Console(width=130).print(render_verdict_counts(record["summary"]))
    return 0 if record["holds"] else 1


if __name__ == "__main__":
    sys.exit(main())
