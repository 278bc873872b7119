"""The layers of a run's network, dense against compact."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch

from compress import artifact
from compress.artifact import CompactInfo, RunFolder
from compress.bench.report.facts import LayerRow
from compress.core.files import read_json
from compress.cost import layer_costs


@dataclass(frozen=True)
class LayerTime:
    """Measured time of one layer in milliseconds an inference; None where it was not told apart."""

    dense_ms: float | None
    compact_ms: float | None


def layer_rows(
    run: RunFolder, info: CompactInfo, times: Mapping[str, LayerTime] | None = None
) -> tuple[LayerRow, ...]:
    """Return the layers in the order in which they compute.

    Args:
        run: a run with a compact model, whose record is `info`.
        times: measured times by layer, of a benchmark that has them.

    Raises:
        CompressError: the network cannot be built or exported again.
    """
    plan = read_json(run.compact / "plan.json", what="slicing plan")
    narrow = artifact.load(run).state_dict()
    image = torch.zeros(2, *info.model.input_size)
    costs = layer_costs(
        artifact.build_dense(run), narrow, image, free_pads=bool(plan.get("free_pads", False))
    )
    own = times or {}
    return tuple(
        LayerRow(
            name=layer.name,
            width=layer.width,
            narrow_width=layer.narrow_width,
            macs=layer.macs,
            narrow_macs=layer.narrow_macs,
            dense_ms=own[layer.name].dense_ms if layer.name in own else None,
            compact_ms=own[layer.name].compact_ms if layer.name in own else None,
        )
        for layer in costs
    )


def complete(rows: tuple[LayerRow, ...], info: CompactInfo) -> bool:
    """Whether the layers add up to the costs that the run recorded."""
    dense, narrow = sum(row.macs for row in rows), sum(row.narrow_macs for row in rows)
    return (dense, narrow) == (info.dense.macs, info.compact.macs)
