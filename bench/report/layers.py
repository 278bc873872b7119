"""Layers of a run's network, dense against compact."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import nn

from compress import artifact
from compress.artifact import CompactInfo, RunFolder
from compress.bench.report.facts import LayerRow
from compress.core.files import read_json
from compress.cost import layer_costs

_Convolution = nn.modules.conv._ConvNd
_Transposed = nn.modules.conv._ConvTransposeNd


def layer_rows(run: RunFolder, info: CompactInfo) -> tuple[LayerRow, ...]:
    """Return the layers in order of execution.

    Args:
        run: a run with a compact model.
        info: its record.

    Raises:
        CompressError: the network cannot be built or exported.
        KeyError: the compact model lacks the weight of a layer.
    """
    compact = {name: weight.shape for name, weight in artifact.load(run).state_dict().items()}
    dense = artifact.build_dense(run)
    size = info.model.input_size
    rows = _rows_from_modules(dense, compact, torch.zeros(2, *size))
    if rows is not None and is_complete(rows, info):
        return rows
    plan = read_json(run.compact / "plan.json", what="slicing plan")
    weights = artifact.load(run).state_dict()
    free_pads = bool(plan.get("free_pads", False))
    return tuple(
        LayerRow(
            name=layer.name,
            width=layer.width,
            narrow_width=layer.narrow_width,
            macs=layer.macs,
            narrow_macs=layer.narrow_macs,
        )
        for layer in layer_costs(dense, weights, torch.zeros(2, *size), free_pads=free_pads)
    )


def is_complete(rows: tuple[LayerRow, ...], info: CompactInfo) -> bool:
    """Return whether the layers add up to the costs that the run recorded."""
    totals = sum(row.macs for row in rows), sum(row.narrow_macs for row in rows)
    return totals == (info.dense.macs, info.compact.macs)


def _rows_from_modules(
    dense: nn.Module, compact: dict[str, torch.Size], images: torch.Tensor
) -> tuple[LayerRow, ...] | None:
    """Return the convolutions and linear layers of one forward pass; None if the pass fails.

    This takes milliseconds where an export takes seconds, but misses layers that are not such modules. The
    caller compares the sum with the recorded costs.
    """
    rows: list[LayerRow] = []
    hooks = []
    for name, module in dense.named_modules():
        if isinstance(module, (_Convolution, nn.Linear)):
            hooks.append(module.register_forward_hook(_recorder(name, compact, rows)))
    try:
        with torch.no_grad():
            dense.eval()(images)
    except (RuntimeError, TypeError, ValueError, KeyError):
        return None
    finally:
        for hook in hooks:
            hook.remove()
    return tuple(rows)


def _recorder(name: str, compact: dict[str, torch.Size], rows: list[LayerRow]) -> Any:
    def record(module: Any, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
        weight, cut = module.weight, compact[f"{name}.weight"]
        if isinstance(module, nn.Linear):
            positions, width = output.numel() // output.shape[-1], weight.shape[0]
            compact_width = cut[0]
        else:
            side = inputs[0] if isinstance(module, _Transposed) else output
            positions, width = side.numel() // side.shape[1], module.out_channels
            axis = 1 if isinstance(module, _Transposed) and module.groups == 1 else 0
            compact_width = width * cut[axis] // weight.shape[axis]
        macs = positions // output.shape[0] * weight.numel()
        rows.append(
            LayerRow(
                name=name,
                width=width,
                narrow_width=compact_width,
                macs=macs,
                narrow_macs=round(macs * math.prod(cut) / weight.numel()),
            )
        )

    return record
