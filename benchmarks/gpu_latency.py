"""Latency of dense and compact networks on every back end, in every precision and at every batch size.

`python -m benchmarks.gpu_latency`: ResNet-56, VGG-16 and ResNet-50 at the published widths, batches 1 to 256,
FP32, FP16 and INT8, each pair by `bench.bench`. Latency does not depend on the values of the weights: without
`--dense RUN --compact RUN` the networks are trained for a few steps on noise. Back ends that are not measured
are listed with the reason. `gpu_probe` first checks the GPU runtimes. On a CPU the default is the small form:
ResNet-56, ONNX Runtime and OpenVINO, batches 1 and 8. Results are written after each part, and the same
command resumes an interrupted run on the same machine.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from benchmarks import gpu_probe, latency_files
from benchmarks.common import RESULTS, provenance, write_result
from benchmarks.latency_files import RunPair
from compress.bench import BackendOptions, bench
from compress.bench.backends import FOLDER, RunConfig, all_backends, require_backend
from compress.bench.protocol.machine import default_threads
from compress.bench.results.record import BatchRecord, BenchResult
from compress.core import console
from compress.core.errors import CompressError
from compress.core.files import read_json
from compress.export.options import Precision

SCHEMA_VERSION = 1
NETWORKS = {
    "resnet56": "dcff-resnet56-cifar10",
    "vgg16": "dcff-vgg16-cifar10",
    "resnet50": "dcff-resnet50-imagenet-step-63.8",
}
"""Recipe that gives each network its widths."""

BATCHES = (1, 8, 32, 128, 256)
PRECISIONS: tuple[Precision, ...] = ("fp32", "fp16", "int8")
SMALL = {"networks": ("resnet56",), "batches": (1, 8), "backends": ("ort-cpu", "openvino")}
CPU_BATCH = 8
"""Largest batch of CPU back ends on a machine with a GPU."""

ON_CPU = ("ort-cpu", "openvino")
PART = ("network", "precision", "backend")


@dataclass(frozen=True)
class Form:
    """Size and settings of the benchmark.

    Attributes:
        name: description for the record. device: device of torch's back ends.
        batches, precisions: values to measure. backends: back ends to measure; empty: all.
        pairs: number of pairs of each comparison. threads: number of threads of CPU back ends.
    """

    name: str
    device: str
    batches: tuple[int, ...]
    precisions: tuple[Precision, ...]
    backends: tuple[str, ...]
    pairs: int
    threads: int

    def config(self) -> RunConfig:
        """Return the configuration with which the availability of back ends is checked."""
        return RunConfig(batch=1, threads=self.threads, device=self.device)  # type: ignore[arg-type]

    def batches_on(self, backend: str) -> list[int]:
        """Return the batch sizes to measure on a back end."""
        is_limited = self.device == "cuda" and backend in ON_CPU
        return [size for size in self.batches if size <= CPU_BATCH] if is_limited else list(self.batches)


def available_backends(form: Form) -> tuple[list[str], list[dict[str, str]]]:
    """Return the back ends to measure, and the other ones with the reason."""
    available, absent = [], []
    for name in all_backends():
        try:
            require_backend(name, form.config())
        except CompressError as error:
            absent.append({"backend": name, "reason": str(error)})
            continue
        if form.backends and name not in form.backends:
            absent.append({"backend": name, "reason": "available, but not part of this form"})
            continue
        available.append(name)
    return available, absent


def compare_pair(pair: RunPair, backend: str, precision: Precision, form: Form) -> BenchResult:
    """Measure dense against compact in one precision on one back end, at every batch size.

    Raises:
        CompressError: a file cannot be exported, or the back end cannot run it.
    """
    runtime, batches = all_backends()[backend], form.batches_on(backend)
    options: dict[str, Any] = {
        "batches": batches,
        "threads": form.threads,
        "pairs": form.pairs,
        "backend": backend,
    }
    if FOLDER in runtime.reads:
        return bench(pair.compact, **options, choices=BackendOptions(device=form.device))  # type: ignore[arg-type]
    files = [
        latency_files.exported_file(run, runtime, precision, batches, pair.is_random)
        for run in (pair.dense, pair.compact)
    ]
    return bench(*files, **options)


def result_rows(result: BenchResult, part: dict[str, str]) -> list[dict[str, Any]]:
    """Return one row per batch size; times are milliseconds of a whole batch."""
    (comparison,) = result.comparisons
    sizes = {"dense_bytes": comparison.baseline.bytes, "compact_bytes": comparison.candidate.bytes}
    return [{**part, **sizes, **_row(batch)} for batch in comparison.batches]


def _row(batch: BatchRecord) -> dict[str, Any]:
    sides = {"dense": batch.baseline, "compact": batch.candidate}
    device = batch.device_speedup
    return {
        "batch": batch.batch,
        **{f"{name}_ms": side.p50_ms for name, side in sides.items()},
        **{f"{name}_device_ms": side.device.p50_ms if side.device else None for name, side in sides.items()},
        **{f"{name}_images_per_s": side.images_per_s for name, side in sides.items()},
        "speedup": batch.speedup.ratio,
        "low": batch.speedup.low,
        "high": batch.speedup.high,
        "device_speedup": None if device is None else [device.ratio, device.low, device.high],
        "floor": batch.floor,
        "pairs": batch.speedup.pairs,
        "verdict": str(batch.verdict),
        "mac_reduction": batch.mac_reduction,
        "efficiency": batch.efficiency,
        "others_load": batch.others_load,
    }


class ProfileSession:
    """Record that is saved after each part and continues an earlier record of the same machine."""

    RESUME_KEYS = ("form", "machine", "versions", "threads", "batches", "pairs")

    def __init__(self, form: Form, folder: Path, arguments: list[str] | None, fresh: bool) -> None:
        self.form, self.folder = form, folder
        self.name = "gpu_latency" if form.device == "cuda" else "gpu_latency_cpu"
        self.record: dict[str, Any] = {
            "schema_version": SCHEMA_VERSION,
            **provenance("benchmarks.gpu_latency", arguments),
            "form": form.name,
            "threads": form.threads,
            "batches": list(form.batches),
            "pairs": form.pairs,
            "questions": [],
            "absent": [],
            "networks": {},
            "rows": [],
            "failures": [],
        }
        path = folder / f"{self.name}.json"
        earlier = read_json(path, what="earlier result") if path.is_file() and not fresh else {}
        if earlier and all(earlier.get(key) == self.record[key] for key in self.RESUME_KEYS):
            for key in ("questions", "networks", "rows", "failures"):
                self.record[key] = earlier[key]

    def done(self, part: dict[str, str]) -> bool:
        """Return whether a part has been measured or has failed."""
        return any(
            all(entry[key] == part[key] for key in PART)
            for entry in (*self.record["rows"], *self.record["failures"])
        )

    def save(self) -> None:
        """Write the record."""
        write_result(self.name, self.record, self.folder)


def measure_network(
    session: ProfileSession, name: str, pair: RunPair, backends: Sequence[str], deadline: float
) -> bool:
    """Measure the remaining parts of a network; return False if `deadline` passes before all are measured."""
    record, form = session.record, session.form
    dense, compact = pair.costs
    record["networks"][name] = {
        "input": list(dense.model.input_size),
        "classes": dense.model.num_classes,
        "dense": dense.compact.model_dump(),
        "compact": compact.compact.model_dump(),
        "weights": "a few steps on noise" if pair.is_random else "trained",
    }
    for precision in form.precisions:
        for backend in backends:
            part = {"network": name, "precision": precision, "backend": backend}
            if precision not in latency_files.supported_precisions(all_backends()[backend], [precision]):
                continue
            if session.done(part):
                continue
            if time.monotonic() > deadline:
                return False
            console.print_message(f"{name}, {precision}, {backend}")
            try:
                record["rows"] += result_rows(compare_pair(pair, backend, precision, form), part)
            except CompressError as error:
                record["failures"].append({**part, "reason": str(error)})
            session.save()
    return True


def render_latency_table(record: dict[str, Any]) -> Table:
    """Return a table of the rows with latencies, speed-ups and verdicts."""
    table = Table(title=f"dense against compact, {record['form']}", title_justify="left")
    for column in ("network", "precision", "back end"):
        table.add_column(column)
    for column in ("batch", "dense ms", "compact ms", "speed-up", "95% interval", "MAC reduction",
                   "efficiency", "verdict"):  # fmt: skip
        table.add_column(column, justify="right")
    for row in record["rows"]:
        numbers = (f"{row['dense_ms']:.3f}", f"{row['compact_ms']:.3f}", f"{row['speedup']:.2f}x")
        reduction, efficiency = row["mac_reduction"], row["efficiency"]
        table.add_row(
            row["network"], row["precision"], row["backend"], str(row["batch"]), *numbers,
            f"{row['low']:.2f} to {row['high']:.2f}", "-" if reduction is None else f"{reduction:.2f}x",
            "-" if efficiency is None else f"{efficiency:.2f}", row["verdict"],
        )  # fmt: skip
    return table


def _form(args: argparse.Namespace) -> Form:
    device = "cuda" if torch.cuda.is_available() else "cpu"
    small = device == "cpu" if args.small is None else args.small
    batches = args.batches.split(",") if args.batches else SMALL["batches"] if small else BATCHES
    backends = args.backends.split(",") if args.backends else SMALL["backends"] if small else ()
    return Form(
        name=("small form, " if small else "") + device.replace("cuda", "GPU").replace("cpu", "CPU"),
        device=device,
        batches=tuple(int(size) for size in batches),
        precisions=tuple(args.precisions.split(",")),
        backends=tuple(backends),
        pairs=args.pairs or (10 if small else 30),
        threads=args.threads,
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark, print the table and write the record; return the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--networks", help=f"names of {', '.join(NETWORKS)}, or recipes with drop rates")
    parser.add_argument("--dense", type=Path, help="run of the dense network; default: train one on noise")
    parser.add_argument("--compact", type=Path, help="run of the compact network; requires --dense")
    parser.add_argument("--batches", help=f"default: {','.join(map(str, BATCHES))}")
    parser.add_argument("--precisions", default=",".join(PRECISIONS))
    parser.add_argument("--backends", help="default: all that can run on this machine")
    parser.add_argument(
        "--small", action=argparse.BooleanOptionalAction, help="default: on a machine without a GPU"
    )
    parser.add_argument("--pairs", type=int)
    parser.add_argument("--threads", type=int, default=default_threads())
    parser.add_argument("--budget-minutes", type=float, help="start no further part after this time")
    parser.add_argument("--questions-only", action="store_true", help="only check which back ends run")
    parser.add_argument("--fresh", action="store_true", help="do not resume an earlier result")
    parser.add_argument(
        "--work", type=Path, default=Path("runs/latency"), help="folder of networks trained on noise"
    )
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the result")
    args = parser.parse_args(arguments)
    command_line = list(sys.argv[1:] if arguments is None else arguments)

    def run(_: list[str]) -> int:
        if (args.dense is None) != (args.compact is None):
            raise CompressError(
                "--dense and --compact must be given together", hint="give both runs or neither"
            )
        form = _form(args)
        deadline = time.monotonic() + 60 * args.budget_minutes if args.budget_minutes else float("inf")
        session = ProfileSession(form, args.out, command_line, args.fresh)
        if not session.record["questions"]:
            session.record["questions"] = [gpu_probe.answer(name) for name in gpu_probe.QUESTIONS]
        backends, session.record["absent"] = available_backends(form)
        session.save()
        for entry in session.record["questions"]:
            console.print_result(f"{entry['question']} {entry['answer']}: {entry['message']}")
        for entry in session.record["absent"]:
            console.print_message(f"{entry['backend']}: {entry['reason']}")
        if args.questions_only:
            return 0
        names = args.networks.split(",") if args.networks else _default_networks(args, form)
        complete = all(
            measure_network(session, name, _pair(args, name, form), backends, deadline) for name in names
        )
        Console(width=None if sys.stdout.isatty() else 160).print(render_latency_table(session.record))
        for entry in session.record["failures"]:
            console.print_message(
                f"{entry['network']}, {entry['precision']}, {entry['backend']}: {entry['reason']}"
            )
        if not complete:
            console.print_message(
                "the time budget is used up: run the same command again to measure the rest"
            )
        return 0

    return console.run_command(run, command_line)


def _default_networks(args: argparse.Namespace, form: Form) -> list[str]:
    if args.dense is not None:
        return [args.dense.resolve().name]
    return list(SMALL["networks"]) if form.name.startswith("small") else list(NETWORKS)


def _pair(args: argparse.Namespace, name: str, form: Form) -> RunPair:
    if args.dense is not None:
        return RunPair(args.dense, args.compact, False)
    return latency_files.train_on_noise(NETWORKS.get(name, name), args.work / Path(name).stem, form.device)


if __name__ == "__main__":
    console.set_up_process(sys.argv[1:])
    sys.exit(main())
