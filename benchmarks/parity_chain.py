"""The parity chain of a trained ResNet-56: torch, ONNX, FP32, FP16 and INT8, three runtimes.

`python -m benchmarks.parity_chain --weights FILE --data npz:FILE [--steps 150] [--samples 2000]`. The weights
are for CIFAR-10 under the mean and deviation of ImageNet. The network is measured dense, and sliced by l1 to
half its MACs. A cut without training leaves a network that is hardly better than chance, of which nothing
can be learned about precision; so the sliced one is then trained for `--steps` batches of 128. Every
chain is the one that `compress export` runs, with the three formats one after the other.
"""

from __future__ import annotations

import argparse
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch import nn

from compress import models
from compress.core.spec import ModelSpec
from compress.data import ImageData, load, with_preprocess
from compress.export.options import CALIB_IMAGES, Options, Precision
from compress.export.parity.chain import open_chain
from compress.export.pipeline import translate
from compress.export.registry import Job, format_named
from compress.export.source import Broken, onnx_filename, prepare
from compress.graph import trace
from compress.slicing import slice_model, verify

from .common import provenance, write_result

IMAGENET = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
PRECISIONS: tuple[Precision, ...] = ("fp32", "fp16", "int8")
FORMATS = ("onnx", "openvino", "trt-rtx")
TARGETS = (86, 89)
"""GPUs that TensorRT-RTX compiles for."""

SIZE = (3, 32, 32)


@dataclass(frozen=True)
class Subject:
    """A network to export, and what was proven of it before."""

    label: str
    model: nn.Module
    macs: int
    verified: dict[str, Any]


def tune(model: nn.Module, data: ImageData, steps: int) -> float:
    """Train a sliced network for some batches of 128; return the last loss."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.02, momentum=0.9, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, max(steps, 1))
    loss, done, epoch = torch.zeros(()), 0, 0
    model.train()
    while done < steps:
        for images, labels in data.train_batches(epoch=epoch, batch_size=128, seed=0):
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(images), labels)
            loss.backward()
            optimizer.step()
            schedule.step()
            done += 1
            if done == steps:
                break
        epoch += 1
    model.eval()
    return float(loss.detach())


def subjects(weights: Path, data: ImageData, steps: int) -> list[Subject]:
    """The trained network, and the one sliced from it and trained a little."""
    dense = models.build("resnet56", 10, SIZE, weights=weights).eval()
    images = data.test_arrays(64)[0]
    graph = trace(dense, images)
    plan = graph.plan(macs=0.5, criterion="l1")
    narrow = slice_model(dense, plan)
    report = verify(dense, plan, narrow, images)
    tune(narrow, data, steps)
    return [
        Subject("dense", dense, plan.dense.macs, {}),
        Subject(
            "sliced to half the MACs", narrow, plan.narrow.macs, {"sliced_vs_masked_dense": report.to_json()}
        ),
    ]


def run_chain(subject: Subject, precision: Precision, data: ImageData, samples: int) -> list[dict[str, Any]]:
    """Export one network in one precision to every format; return the links of the chain."""
    images, labels = (tensor.numpy() for tensor in data.test_arrays(samples))
    job = Job(
        model=subject.model,
        spec=ModelSpec(name="resnet56", num_classes=10, input_size=SIZE),
        preprocess=data.info.preprocess,
        classes=data.info.classes,
        run="benchmark",
        images=images,
        calibration=lambda: data.train_samples(CALIB_IMAGES, 0).numpy(),
        options=Options(precision=precision),
    )
    chain = open_chain(subject.model, subject.verified, images, labels, precision)
    sizes: dict[str, int] = {}
    with tempfile.TemporaryDirectory() as folder:
        try:
            source = prepare(job, Path(folder), chain)
            sizes = {path.name: path.stat().st_size for path in (source.full, source.path)}
            for name in FORMATS:
                options = replace(job.options, target_sm=TARGETS if name == "trt-rtx" else ())
                target = format_named(name)
                made = replace(job, options=options)
                path, built = translate(target, made, source, Path(folder), chain)
                files = (path, *(path.with_name(other) for other in built.companions))
                sizes[path.name] = sum(file.stat().st_size for file in files)
        except Broken as broken:
            print(f"{subject.label}, {precision}: broken at {broken.link.name}")
    return [link | {"bytes": sizes.get(_file_of(link["name"]))} for link in chain.to_json()]


def _file_of(link: str) -> str:
    """The file that a link is about."""
    precision = link.removeprefix("onnx-")
    if precision == link:
        return link
    return onnx_filename(precision)


def table(rows: list[dict[str, Any]]) -> Table:
    """The links as a table, a line between networks and precisions."""
    shown = Table(
        "network", "precision", "step", "against", "largest difference", "same class", "top-1", "kB", ""
    )
    for row in rows:
        for i, link in enumerate(row["links"]):
            known = link["max_rel"] is not None
            shown.add_row(
                row["network"] if i == 0 else "",
                row["precision"] if i == 0 else "",
                link["name"],
                link["against"],
                f"{link['max_rel']:.1e}" if known else "",
                f"{link['agreement']:.2%}" if link["agreement"] is not None else "",
                f"{link['top1']:.2%}" if link["top1"] is not None else "",
                f"{link['bytes'] / 1e3:,.0f}" if link["bytes"] else "",
                link["status"] if link["status"] != "not run" else f"built, not run: {link['reason']}",
            )
        shown.add_section()
    return shown


def main() -> None:
    """Measure, print, record."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--data", required=True)
    parser.add_argument("--steps", type=int, default=150)
    parser.add_argument("--samples", type=int, default=2000)
    given = parser.parse_args()
    torch.set_num_threads(1)
    raw = load(given.data, input_size=SIZE)
    data = with_preprocess(raw, raw.info.preprocess.model_copy(update=IMAGENET))
    rows = [
        {
            "network": subject.label,
            "macs": subject.macs,
            "precision": precision,
            "links": run_chain(subject, precision, data, given.samples),
        }
        for subject in subjects(given.weights, data, given.steps)
        for precision in PRECISIONS
    ]
    Console(width=150).print(table(rows))
    write_result(
        "parity_chain",
        {
            "schema_version": 1,
            **provenance("benchmarks.parity_chain", _arguments(given)),
            "weights": given.weights.name,
            "data": raw.info.fingerprint,
            "samples": given.samples,
            "steps": given.steps,
            "targets": list(TARGETS),
            "rows": rows,
        },
    )


def _arguments(given: argparse.Namespace) -> list[str]:
    """The command's words, without the folders of this machine."""
    kind, _, path = given.data.partition(":")
    words = ["--weights", given.weights.name, "--data", f"{kind}:{Path(path).name}" if path else kind]
    return [*words, "--steps", str(given.steps), "--samples", str(given.samples)]


if __name__ == "__main__":
    main()
