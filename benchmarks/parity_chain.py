"""Parity of a trained ResNet-56 along its export: torch to ONNX, FP32, FP16 and INT8, in three runtimes.

`python -m benchmarks.parity_chain --weights FILE --data npz:FILE [--steps 150] [--samples 2000]`. The weights
are for CIFAR-10 images normalized with the mean and standard deviation of ImageNet. The dense network and
its slice by l1 with half of the MACs are exported. A slice's accuracy is near chance, where the effect of
precision is invisible, so it is first fine-tuned for `--steps` batches of 128. The comparisons are those of
`compress export`, for three formats.
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
from compress.export.formats import get_format
from compress.export.onnx import onnx_filename
from compress.export.options import CALIB_IMAGES, Options, Precision
from compress.export.parity.chain import ParityChain
from compress.export.pipeline import build_checked
from compress.export.source import OnnxSources, ParityFailure
from compress.export.types import ExportInputs
from compress.graph import trace
from compress.planning import make_plan
from compress.slicing import slice_model, verify

from .common import provenance, write_result

IMAGENET = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
PRECISIONS: tuple[Precision, ...] = ("fp32", "fp16", "int8")
FORMATS = ("onnx", "openvino", "trt-rtx")
TARGETS = (86, 89)
"""Compute capabilities that TensorRT-RTX compiles for: 8.6 and 8.9."""

SIZE = (3, 32, 32)


@dataclass(frozen=True)
class BenchmarkNetwork:
    """Network to export.

    Attributes:
        verified: comparison of the sliced with the masked dense network; empty for the dense network.
    """

    label: str
    model: nn.Module
    macs: int
    verified: dict[str, Any]


def fine_tune(model: nn.Module, data: ImageData, steps: int) -> float:
    """Train a sliced network for some batches of 128; return the last loss."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.02, momentum=0.9, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, max(steps, 1))
    loss, step, epoch = torch.zeros(()), 0, 0
    model.train()
    while step < steps:
        for images, labels in data.train_batches(epoch=epoch, batch_size=128, seed=0):
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(images), labels)
            loss.backward()
            optimizer.step()
            schedule.step()
            step += 1
            if step == steps:
                break
        epoch += 1
    model.eval()
    return float(loss.detach())


def networks(weights: Path, data: ImageData, steps: int) -> list[BenchmarkNetwork]:
    """Return the trained network, and a fine-tuned slice of it with half of the MACs."""
    dense = models.build("resnet56", 10, SIZE, weights=weights).eval()
    images = data.test_arrays(64)[0]
    graph = trace(dense, images)
    plan = make_plan(graph, macs=0.5, criterion="l1")
    compact = slice_model(dense, plan)
    report = verify(dense, plan, compact, images)
    fine_tune(compact, data, steps)
    return [
        BenchmarkNetwork("dense", dense, plan.dense.macs, {}),
        BenchmarkNetwork(
            "sliced to half the MACs", compact, plan.narrow.macs, {"sliced_vs_masked_dense": report.to_json()}
        ),
    ]


def run_chain(
    network: BenchmarkNetwork, precision: Precision, data: ImageData, samples: int
) -> list[dict[str, Any]]:
    """Export one network in one precision to every format; return the comparisons."""
    images, labels = (tensor.numpy() for tensor in data.test_arrays(samples))
    inputs = ExportInputs(
        model=network.model,
        spec=ModelSpec(name="resnet56", num_classes=10, input_size=SIZE),
        preprocess=data.info.preprocess,
        classes=data.info.classes,
        run="benchmark",
        images=images,
        calibration=lambda: data.train_samples(CALIB_IMAGES, 0).numpy(),
        options=Options(precision=precision),
    )
    chain = ParityChain.start(network.model, network.verified, images, labels, precision)
    sizes: dict[str, int] = {}
    with tempfile.TemporaryDirectory() as folder:
        try:
            source, chain = OnnxSources(inputs, Path(folder), chain).get(inputs.options)
            sizes = {path.name: path.stat().st_size for path in (source.full, source.path)}
            for name in FORMATS:
                options = replace(inputs.options, target_sm=TARGETS if name == "trt-rtx" else ())
                format_inputs = replace(inputs, options=options)
                path, built = build_checked(get_format(name), format_inputs, source, Path(folder), chain)
                files = (path, *(path.with_name(other) for other in built.companions))
                sizes[path.name] = sum(file.stat().st_size for file in files)
        except ParityFailure as failure:
            chain = failure.chain
            print(f"{network.label}, {precision}: failed at {failure.link.name}")
    return [link | {"bytes": sizes.get(_file_of(link["name"]))} for link in chain.to_json()]


def _file_of(link: str) -> str:
    """Return the name of the file that a step of the chain compares."""
    precision = link.removeprefix("onnx-")
    if precision == link:
        return link
    return onnx_filename(precision)


def render_chains(rows: list[dict[str, Any]]) -> Table:
    """Return a table of all comparisons, grouped by network and precision."""
    table = Table(
        "network", "precision", "step", "against", "largest difference", "same class", "top-1", "kB", ""
    )
    for row in rows:
        for i, link in enumerate(row["links"]):
            table.add_row(
                row["network"] if i == 0 else "",
                row["precision"] if i == 0 else "",
                link["name"],
                link["against"],
                f"{link['max_rel']:.1e}" if link["max_rel"] is not None else "",
                f"{link['agreement']:.2%}" if link["agreement"] is not None else "",
                f"{link['top1']:.2%}" if link["top1"] is not None else "",
                f"{link['bytes'] / 1e3:,.0f}" if link["bytes"] else "",
                link["status"] if link["status"] != "not run" else f"built, not run: {link['reason']}",
            )
        table.add_section()
    return table


def main() -> None:
    """Run all chains, print the table and write the record."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--data", required=True)
    parser.add_argument("--steps", type=int, default=150)
    parser.add_argument("--samples", type=int, default=2000)
    args = parser.parse_args()
    torch.set_num_threads(1)
    raw = load(args.data, input_size=SIZE)
    data = with_preprocess(raw, raw.info.preprocess.model_copy(update=IMAGENET))
    rows = [
        {
            "network": network.label,
            "macs": network.macs,
            "precision": precision,
            "links": run_chain(network, precision, data, args.samples),
        }
        for network in networks(args.weights, data, args.steps)
        for precision in PRECISIONS
    ]
    Console(width=150).print(render_chains(rows))
    write_result(
        "parity_chain",
        {
            "schema_version": 1,
            **provenance("benchmarks.parity_chain", _arguments(args)),
            "weights": args.weights.name,
            "data": raw.info.fingerprint,
            "samples": args.samples,
            "steps": args.steps,
            "targets": list(TARGETS),
            "rows": rows,
        },
    )


def _arguments(args: argparse.Namespace) -> list[str]:
    """Return the command's arguments with file names instead of full paths."""
    kind, _, path = args.data.partition(":")
    arguments = ["--weights", args.weights.name, "--data", f"{kind}:{Path(path).name}" if path else kind]
    return [*arguments, "--steps", str(args.steps), "--samples", str(args.samples)]


if __name__ == "__main__":
    main()
