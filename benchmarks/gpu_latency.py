"""What a narrow network is worth in latency: dense against compact on every back end, batch and precision.

`python -m benchmarks.gpu_latency`: ResNet-56, VGG-16 and ResNet-50 at the published widths, batches 1 to 256,
FP32, FP16 and INT8, each pair by `bench.bench`. Latency does not depend on what the weights have learned:
without `--dense RUN --compact RUN` the networks are made by a few steps on noise. What is
absent is listed with the reason. On a GPU the open questions about its runtimes are answered first. On a CPU
the small form: ResNet-56, ONNX Runtime and OpenVINO, batches 1 and 8. Results are written after each part,
and the same command goes on where an earlier one on the same machine ended.
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
"""Network to the recipe whose widths it has."""

BATCHES = (1, 8, 32, 128, 256)
PRECISIONS: tuple[Precision, ...] = ("fp32", "fp16", "int8")
SMALL = {"networks": ("resnet56",), "batches": (1, 8), "backends": ("ort-cpu", "openvino")}
CPU_BATCH = 8
"""Largest batch that back ends of the CPU are given beside a GPU."""

ON_CPU = ("ort-cpu", "openvino")
PART = ("network", "precision", "backend")


@dataclass(frozen=True)
class Form:
    """What is measured, and how.

    Attributes:
        name: in words. device: where torch's back ends run.
        batches, precisions, backends: those asked for; no back ends: every one there is.
        pairs: of each comparison. threads: of a back end on the CPU.
    """

    name: str
    device: str
    batches: tuple[int, ...]
    precisions: tuple[Precision, ...]
    backends: tuple[str, ...]
    pairs: int
    threads: int

    def config(self) -> RunConfig:
        """A configuration to ask back ends about."""
        return RunConfig(batch=1, threads=self.threads, device=self.device)  # type: ignore[arg-type]

    def batches_on(self, backend: str) -> list[int]:
        """Batches for a back end."""
        few = self.device == "cuda" and backend in ON_CPU
        return [size for size in self.batches if size <= CPU_BATCH] if few else list(self.batches)


def present(form: Form) -> tuple[list[str], list[dict[str, str]]]:
    """Return the back ends that are measured, and those that are not, with the reason."""
    result, absent = [], []
    for name in all_backends():
        try:
            require_backend(name, form.config())
        except CompressError as error:
            absent.append({"backend": name, "reason": str(error)})
            continue
        if form.backends and name not in form.backends:
            absent.append({"backend": name, "reason": "present, not asked for in this form"})
            continue
        result.append(name)
    return result, absent


def measure(pair: RunPair, backend: str, precision: Precision, form: Form) -> BenchResult:
    """Measure dense against compact in one precision on one back end, at every batch size.

    Raises:
        CompressError: a file cannot be made, or not be run there.
    """
    runtime, batches = all_backends()[backend], form.batches_on(backend)
    how: dict[str, Any] = {
        "batches": batches,
        "threads": form.threads,
        "pairs": form.pairs,
        "backend": backend,
    }
    if FOLDER in runtime.reads:
        return bench(pair.compact, **how, choices=BackendOptions(device=form.device))  # type: ignore[arg-type]
    files = [
        latency_files.exported_file(run, runtime, precision, batches, pair.is_random)
        for run in (pair.dense, pair.compact)
    ]
    return bench(*files, **how)


def rows(result: BenchResult, part: dict[str, str]) -> list[dict[str, Any]]:
    """One row a batch size; milliseconds of a whole batch."""
    (comparison,) = result.comparisons
    sizes = {"dense_bytes": comparison.baseline.bytes, "compact_bytes": comparison.candidate.bytes}
    return [{**part, **sizes, **_row(batch)} for batch in comparison.batches]


def _row(record: BatchRecord) -> dict[str, Any]:
    sides = {"dense": record.baseline, "compact": record.candidate}
    device = record.device_speedup
    return {
        "batch": record.batch,
        **{f"{name}_ms": side.p50_ms for name, side in sides.items()},
        **{f"{name}_device_ms": side.device.p50_ms if side.device else None for name, side in sides.items()},
        **{f"{name}_images_per_s": side.images_per_s for name, side in sides.items()},
        "speedup": record.speedup.ratio,
        "low": record.speedup.low,
        "high": record.speedup.high,
        "device_speedup": None if device is None else [device.ratio, device.low, device.high],
        "floor": record.floor,
        "pairs": record.speedup.pairs,
        "verdict": str(record.verdict),
        "mac_reduction": record.mac_reduction,
        "efficiency": record.efficiency,
        "others_load": record.others_load,
    }


class ProfileSession:
    """A record that grows part by part on the disk, and goes on with an earlier one of the same machine."""

    SAME = ("form", "machine", "versions", "threads", "batches", "pairs")

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
        before = read_json(path, what="earlier result") if path.is_file() and not fresh else {}
        if before and all(before.get(key) == self.record[key] for key in self.SAME):
            for key in ("questions", "networks", "rows", "failures"):
                self.record[key] = before[key]

    def done(self, part: dict[str, str]) -> bool:
        """Return whether a part has been measured, or has failed."""
        return any(
            all(one[key] == part[key] for key in PART)
            for one in (*self.record["rows"], *self.record["failures"])
        )

    def save(self) -> None:
        """Write the record."""
        write_result(self.name, self.record, self.folder)


def measure_network(
    session: ProfileSession, name: str, pair: RunPair, names: Sequence[str], until: float
) -> bool:
    """Measure what is left of a network; False where the time was up first."""
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
        for backend in names:
            part = {"network": name, "precision": precision, "backend": backend}
            if precision not in latency_files.supported_precisions(all_backends()[backend], [precision]):
                continue
            if session.done(part):
                continue
            if time.monotonic() > until:
                return False
            console.print_message(f"{name}, {precision}, {backend}")
            try:
                record["rows"] += rows(measure(pair, backend, precision, form), part)
            except CompressError as error:
                record["failures"].append({**part, "reason": str(error)})
            session.save()
    return True


def table(record: dict[str, Any]) -> Table:
    """The rows, and how much faster the compact network is."""
    shown = Table(title=f"dense against compact, {record['form']}", title_justify="left")
    for column in ("network", "precision", "back end"):
        shown.add_column(column)
    for column in ("batch", "dense ms", "compact ms", "speed-up", "95% interval", "MACs fewer", "efficiency",
                   "verdict"):  # fmt: skip
        shown.add_column(column, justify="right")
    for row in record["rows"]:
        numbers = (f"{row['dense_ms']:.3f}", f"{row['compact_ms']:.3f}", f"{row['speedup']:.2f}x")
        reduction, efficiency = row["mac_reduction"], row["efficiency"]
        shown.add_row(
            row["network"], row["precision"], row["backend"], str(row["batch"]), *numbers,
            f"{row['low']:.2f} to {row['high']:.2f}", "-" if reduction is None else f"{reduction:.2f}x",
            "-" if efficiency is None else f"{efficiency:.2f}", row["verdict"],
        )  # fmt: skip
    return shown


def _form(options: argparse.Namespace) -> Form:
    device = "cuda" if torch.cuda.is_available() else "cpu"
    small = device == "cpu" if options.small is None else options.small
    batches = options.batches.split(",") if options.batches else SMALL["batches"] if small else BATCHES
    named = options.backends.split(",") if options.backends else SMALL["backends"] if small else ()
    return Form(
        name=("small form, " if small else "") + device.replace("cuda", "GPU").replace("cpu", "CPU"),
        device=device,
        batches=tuple(int(size) for size in batches),
        precisions=tuple(options.precisions.split(",")),
        backends=tuple(named),
        pairs=options.pairs or (10 if small else 30),
        threads=options.threads,
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Answer, measure, print and write; return the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--networks", help=f"of {', '.join(NETWORKS)}; or recipes with drop rates")
    parser.add_argument("--dense", type=Path, help="a run of the dense network, instead of making one")
    parser.add_argument("--compact", type=Path, help="a run of the narrow one")
    parser.add_argument("--batches", help=f"default: {','.join(map(str, BATCHES))}")
    parser.add_argument("--precisions", default=",".join(PRECISIONS))
    parser.add_argument("--backends", help="default: every one that can run here")
    parser.add_argument("--small", action=argparse.BooleanOptionalAction, help="default: where no GPU is")
    parser.add_argument("--pairs", type=int)
    parser.add_argument("--threads", type=int, default=default_threads())
    parser.add_argument("--budget-minutes", type=float, help="begin no further part after these")
    parser.add_argument("--questions-only", action="store_true", help="only ask what runs here at all")
    parser.add_argument("--fresh", action="store_true", help="do not go on with an earlier result")
    parser.add_argument("--work", type=Path, default=Path("runs/latency"), help="folder of made networks")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the result")
    options = parser.parse_args(arguments)
    words = list(sys.argv[1:] if arguments is None else arguments)

    def work(_: list[str]) -> int:
        if (options.dense is None) != (options.compact is None):
            raise CompressError("--dense and --compact belong together", hint="give both runs, or none")
        form = _form(options)
        until = time.monotonic() + 60 * options.budget_minutes if options.budget_minutes else float("inf")
        session = ProfileSession(form, options.out, words, options.fresh)
        if not session.record["questions"]:
            session.record["questions"] = [gpu_probe.answer(name) for name in gpu_probe.QUESTIONS]
        result, session.record["absent"] = present(form)
        session.save()
        for one in session.record["questions"]:
            console.print_result(f"{one['question']} {one['answer']}: {one['message']}")
        for one in session.record["absent"]:
            console.print_message(f"{one['backend']}: {one['reason']}")
        if options.questions_only:
            return 0
        names = options.networks.split(",") if options.networks else _default_networks(options, form)
        complete = all(
            measure_network(session, name, _pair(options, name, form), result, until) for name in names
        )
        Console(width=None if sys.stdout.isatty() else 160).print(table(session.record))
        for one in session.record["failures"]:
            console.print_message(f"{one['network']}, {one['precision']}, {one['backend']}: {one['reason']}")
        if not complete:
            console.print_message("the time was up: run the same command again for the rest")
        return 0

    return console.run_command(work, words)


def _default_networks(options: argparse.Namespace, form: Form) -> list[str]:
    if options.dense is not None:
        return [options.dense.resolve().name]
    return list(SMALL["networks"]) if form.name.startswith("small") else list(NETWORKS)


def _pair(options: argparse.Namespace, name: str, form: Form) -> RunPair:
    if options.dense is not None:
        return RunPair(options.dense, options.compact, False)
    return latency_files.train_on_noise(NETWORKS.get(name, name), options.work / Path(name).stem, form.device)


if __name__ == "__main__":
    console.set_up_process(sys.argv[1:])
    sys.exit(main())
