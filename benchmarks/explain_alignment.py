"""Whether `--explain` blames the width where the width is to blame.

`python -m benchmarks.explain_alignment [--blocks 30]`: torchvision's ResNet-18 at 224 x 224, cut from
64/128/256/512 to 32/64/128/256 channels and to 33/65/129/257, of fresh weights; ONNX Runtime and OpenVINO on
one thread. Both have nearly the same MACs.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from compress import artifact, models
from compress.artifact import RunFolder
from compress.bench.explain import Cause, Explanation, explain, table
from compress.core.spec import DataInfo, Preprocess
from compress.graph import trace
from compress.slicing import slice_model

from .common import provenance, write_result

NETWORK = "torchvision/resnet18"
SIZE = (3, 224, 224)
CLASSES = 1000
BACKENDS = ("ort-cpu", "openvino")
EXTRA = {"32/64/128/256": 0, "33/65/129/257": 1}
"""Widths to how many channels more than half of each are kept."""

ASIDE = (Cause.REMAINDER, Cause.NOISE)
"""Causes that are no explanation."""


def make_run(path: Path, extra: int) -> Path:
    """Make a run of the network with half the channels of every group and `extra` more; return its folder."""
    torch.manual_seed(0)
    dense = models.build(NETWORK, CLASSES, SIZE).eval()
    graph = trace(dense, torch.rand(2, *SIZE))
    plan = graph.plan(keep={group.name: group.width // 2 + extra for group in graph.groups})
    spec = models.model_spec(NETWORK, CLASSES, SIZE)
    record = artifact.new_record(
        model=spec,
        data=DataInfo(
            name="none",
            classes=tuple(str(i) for i in range(CLASSES)),
            train_size=0,
            test_size=0,
            fingerprint="",
            preprocess=Preprocess(input_size=SIZE, mean=(0.0,) * 3, std=(1.0,) * 3),
            augmentation="none",
        ),
        dense=graph.costs,
        target="widths",
        seed=0,
        method="slice-l1",
        settings={},
    )
    with RunFolder.create(path, record) as run:
        artifact.save_compact(run, slice_model(dense, plan), spec, plan, {})
    return path


def summary(found: Explanation) -> dict[str, Any]:
    """The account of one back end, and the layers that lost most."""
    real = [part for part in found.causes if part.cause not in ASIDE]
    lost = sorted(found.rows, key=lambda row: -row.loss_ms)[:8]
    return {
        "backend": found.backend,
        "dense_ms": found.dense_ms,
        "compact_ms": found.compact_ms,
        "speedup": found.speedup.model_dump(),
        "floor": found.floor,
        "mac_reduction": found.mac_reduction,
        "efficiency": found.efficiency,
        "gap_ms": found.gap_ms,
        "causes": {part.cause.value: part.ms for part in found.causes},
        "most_lost_to": real[0].cause.value,
        "remainder_ms": found.remainder_ms,
        "remainder_noise_ms": found.remainder_noise_ms,
        "adds_up": found.adds_up,
        "others_load": found.others_load,
        "layers": [
            {
                "layer": row.name,
                "dense_ms": row.dense.ms,
                "compact_ms": row.compact.ms,
                "lost_ms": row.loss_ms,
                "cause": row.cause.value,
                "better_width": row.better,
                "saves_ms": row.saves_ms,
            }
            for row in lost
        ],
    }


def main() -> None:
    """Make both runs, explain them, print, record."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--blocks", type=int, default=30)
    given = parser.parse_args()
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        for widths, extra in EXTRA.items():
            run = make_run(Path(folder) / widths.replace("/", "-"), extra)
            for found in explain(run, threads=1, blocks=given.blocks, backend=BACKENDS):
                Console(width=160).print(table(found))
                rows.append({"widths": widths, **summary(found)})
    write_result(
        "explain_alignment",
        {
            "schema_version": 1,
            **provenance("benchmarks.explain_alignment"),
            "network": NETWORK,
            "input": [1, *SIZE],
            "threads": 1,
            "blocks": given.blocks,
            "rows": rows,
        },
    )


if __name__ == "__main__":
    main()
