"""Are the verdicts of `compress bench` right on a machine that does other things?

`python -m benchmarks.bench_validity [--repeats 20 --halves 4 --backend ort-cpu,openvino --threads 1,2]`:
ResNet-20 against a copy of its own file, where FASTER and SLOWER are false, and against itself cut to half
its width, where anything but FASTER is. Meanwhile `--load` processes compute: all the time in every other
repeat, in the rest for a while and not for a while. Ends with 1 where the claim fails; `--resume` goes on
with the record of a run that was stopped.
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
"""False verdicts on equal files, as a share of the repeats: 2 of 20."""

ASKED = ("repeats", "halves", "backend", "threads", "load", "sessions", "pairs", "model")
"""Options that must be the same for a run to go on."""


def networks(folder: Path, model: str = MODEL, size: tuple[int, int, int] = SIZE) -> tuple[Path, Path, Path]:
    """Return ONNX files of a network with fresh weights, a copy of it, and its half, made if not there."""
    result = folder / "full.onnx", folder / "copy.onnx", folder / "half.onnx"
    if all(path.exists() for path in result):
        return result
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    full = _settled(build(model, 10, size), size)
    plan = make_plan(trace(full, torch.zeros(2, *size)), keep=0.5)
    half = slice_model(full, plan).eval()
    to_onnx(full, torch.zeros(1, *size), result[0])
    shutil.copyfile(result[0], result[1])
    to_onnx(half, torch.zeros(1, *size), result[2])
    return result


def _settled(model: nn.Module, size: tuple[int, int, int]) -> nn.Module:
    """The network with the norm statistics of noise, so that its activations are of a trained one's size."""
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = None
    with torch.no_grad():
        model.train()(torch.randn(8, *size))
    return model.eval()


def measure(
    files: Sequence[Path],
    repeat: int,
    *,
    backends: str,
    threads: int,
    load: int = 1,
    sessions: int | None = None,
    pairs: int = PAIRS,
) -> list[dict[str, Any]]:
    """Run the benchmark once under load: the first file against each other one, on each back end."""
    form, start = FORMS[repeat % len(FORMS)], time.monotonic()
    with loaded(load, form, repeat):
        result = bench(
            *files, backend=backends, threads=threads, pairs=pairs, sessions=sessions, seed=repeat, command=[]
        )
    seconds = (time.monotonic() - start) / len(result.comparisons)
    return [{"repeat": repeat, "load": form, "seconds": seconds, **row} for row in rows_of(result)]


def rows_of(result: BenchResult) -> list[dict[str, Any]]:
    """What a result says of each comparison."""
    return [
        {
            "backend": comparison.backend,
            "threads": result.threads,
            "candidate": Path(comparison.candidate.label).stem,
            **entry.model_dump(mode="json", include={"verdict", "speedup", "noise", "floor", "others_load"}),
            "sessions": [[one.noise.ratio, one.speedup.ratio, str(alone(one))] for one in entry.sessions],
        }
        for comparison in result.comparisons
        for entry in comparison.batches
    ]


def alone(one: SessionRecord) -> Verdict:
    """What a session would have said by itself, from the interval over its pairs."""
    result = one.speedup
    ratio = Interval(*(math.log(value) for value in (result.ratio, result.low, result.high)), result.pairs)
    floor = max(abs(math.log(one.noise.low)), abs(math.log(one.noise.high)))
    return verdict(ratio, floor)


def is_false(candidate: str, verdict: str) -> bool:
    """Whether a verdict is wrong: a difference between equal files, or half a network not called faster."""
    return (verdict in ("FASTER", "SLOWER")) if candidate == "copy" else verdict != "FASTER"


def summarise(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Count the verdicts of each back end, number of threads and candidate, and say whether the claim holds.

    Of equal files `ALLOWED` of the verdicts may be false, of half a network none.
    """
    results = []
    for key in dict.fromkeys((row["backend"], row["threads"], row["candidate"]) for row in rows):
        own = [row for row in rows if (row["backend"], row["threads"], row["candidate"]) == key]
        wrong = sum(is_false(key[2], row["verdict"]) for row in own)
        allowed = math.floor(ALLOWED * len(own)) if key[2] == "copy" else 0
        by_session = [verdict for row in own for _, _, verdict in row["sessions"]]
        results.append(
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
    return results


def table(rows: Sequence[dict[str, Any]]) -> Table:
    """The counts as a table."""
    names = ("back end", "threads", "full against", *Verdict, "false", "allowed")
    shown = Table(*names, "sessions alone", "speed-up", "floor", "others", "s each")
    for row in rows:
        shown.add_row(
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
    return shown


def run(given: argparse.Namespace) -> dict[str, Any]:
    """Measure everything, and write the record after each measurement; return it."""
    record: dict[str, Any] = {
        "schema_version": 1,
        **provenance("benchmarks.bench_validity", given.arguments),
        "asked": {name: getattr(given, name) for name in ASKED},
        "input": [1, *SIZE],
        "minutes": 0.0,
        "rows": [],
    }
    if given.resume and given.out.exists():
        record = _stopped(record, given.out)
    with tempfile.TemporaryDirectory() as folder:
        files = networks(given.networks or Path(folder), given.model)
        for repeat in range(given.repeats):
            for threads in map(int, given.threads.split(",")):
                if any((row["repeat"], row["threads"]) == (repeat, threads) for row in record["rows"]):
                    continue
                start = time.monotonic()
                measured = measure(
                    files if repeat < given.halves else files[:2],
                    repeat,
                    backends=given.backend,
                    threads=threads,
                    load=given.load,
                    sessions=given.sessions,
                    pairs=given.pairs,
                )
                record["rows"] += measured
                record["minutes"] += (time.monotonic() - start) / 60
                record["summary"] = summarise(record["rows"])
                record["holds"] = all(row["holds"] for row in record["summary"])
                write_result(given.out.stem, record, given.out.parent)
                for row in measured:
                    message = f"{row['backend']}, {threads} threads, {row['candidate']}: {row['verdict']}"
                    print(f"{record['minutes']:5.1f} min  {repeat + 1:2}  {message}", file=sys.stderr)
    return record


def _stopped(record: dict[str, Any], path: Path) -> dict[str, Any]:
    """The record of a run that was stopped, if the same was asked for there."""
    result: dict[str, Any] = json.loads(path.read_text("utf-8"))
    if result["asked"] != record["asked"]:
        raise SystemExit(f"{path} was measured otherwise ({result['asked']}): choose another --out")
    return result


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, record; return 1 where the claim fails."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--repeats", type=int, default=20, help="full against its copy")
    parser.add_argument("--halves", type=int, default=4, help="repeats with full against half as well")
    parser.add_argument("--backend", default="ort-cpu,openvino")
    parser.add_argument("--threads", default="1,2")
    parser.add_argument("--load", type=int, default=1, help="processes that compute meanwhile")
    parser.add_argument("--sessions", type=int, help="as for compress bench")
    parser.add_argument("--pairs", type=int, default=PAIRS, help="as for compress bench")
    parser.add_argument("--model", default=MODEL)
    parser.add_argument("--networks", type=Path, help="folder of the networks, made where it has none")
    parser.add_argument("--resume", action="store_true", help="go on with a run that was stopped")
    parser.add_argument("--out", type=Path, default=RESULTS / "bench_validity.json")
    given = parser.parse_args(arguments)
    given.arguments = sys.argv[1:] if arguments is None else list(arguments)
    record = run(given)
    Console(width=130).print(table(record["summary"]))
    return 0 if record["holds"] else 1


if __name__ == "__main__":
    sys.exit(main())
