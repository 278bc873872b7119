"""Check that `--explain` attributes lost time to misaligned widths exactly when the widths are misaligned.

`python -m benchmarks.explain_alignment [--blocks 30]`: torchvision's ResNet-18 at 224 x 224 with random
weights, sliced from 64/128/256/512 to 32/64/128/256 and to 33/65/129/257 channels, which have nearly the same
MACs; ONNX Runtime and OpenVINO on one thread.
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
from compress.bench.explain import Cause, Explanation, explain, render_explanation
from compress.core.spec import DataInfo, Preprocess
from compress.cost import dense_costs
from compress.graph import trace
from compress.planning import make_plan
from compress.slicing import slice_model

from .common import provenance, write_result

NETWORK = "torchvision/resnet18"
SIZE = (3, 224, 224)
CLASSES = 1000
BACKENDS = ("ort-cpu", "openvino")
EXTRA = {"32/64/128/256": 0, "33/65/129/257": 1}
"""Channels kept in addition to half of each group, by the resulting widths."""

NOT_A_CAUSE = (Cause.REMAINDER, Cause.NOISE)
"""Entries of the breakdown that are not causes: the unexplained remainder and the noise."""


def make_run(path: Path, extra: int) -> Path:
    """Write a run folder with half the channels of every group plus `extra`; return its path."""
    torch.manual_seed(0)
    dense = models.build(NETWORK, CLASSES, SIZE).eval()
    graph = trace(dense, torch.rand(2, *SIZE))
    plan = make_plan(graph, keep={group.name: group.width // 2 + extra for group in graph.groups})
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
        dense=dense_costs(graph),
        target="widths",
        seed=0,
        method="slice-l1",
        settings={},
    )
    with RunFolder.create(path, record) as run:
        artifact.save_compact(run, slice_model(dense, plan), spec, plan, {})
    return path


def summarize(explanation: Explanation) -> dict[str, Any]:
    """Return the lost time by cause on one back end, and the eight layers with the largest loss."""
    causes = [part for part in explanation.causes if part.cause not in NOT_A_CAUSE]
    worst_layers = sorted(explanation.rows, key=lambda row: -row.loss_ms)[:8]
    return {
        "backend": explanation.backend,
        "dense_ms": explanation.dense_ms,
        "compact_ms": explanation.compact_ms,
        "speedup": explanation.speedup.model_dump(),
        "floor": explanation.floor,
        "mac_reduction": explanation.mac_reduction,
        "efficiency": explanation.efficiency,
        "gap_ms": explanation.gap_ms,
        "causes": {part.cause.value: part.ms for part in explanation.causes},
        "most_lost_to": causes[0].cause.value,
        "remainder_ms": explanation.remainder_ms,
        "remainder_noise_ms": explanation.remainder_noise_ms,
        "adds_up": explanation.adds_up,
        "others_load": explanation.others_load,
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
            for row in worst_layers
        ],
    }


def main() -> None:
    """Explain both runs, print the tables and write the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--blocks", type=int, default=30)
    args = parser.parse_args()
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        for widths, extra in EXTRA.items():
            run = make_run(Path(folder) / widths.replace("/", "-"), extra)
            for explanation in explain(run, threads=1, blocks=args.blocks, backend=BACKENDS):
                Console(width=160).print(render_explanation(explanation))
                rows.append({"widths": widths, **summarize(explanation)})
    write_result(
        "explain_alignment",
        {
            "schema_version": 1,
            **provenance("benchmarks.explain_alignment"),
            "network": NETWORK,
            "input": [1, *SIZE],
            "threads": 1,
            "blocks": args.blocks,
            "rows": rows,
        },
    )


if __name__ == "__main__":
    main()
