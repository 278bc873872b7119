"""Evaluation of one zoo network with Torch-Pruning: half the channels of every group, chosen at random.

The layers that compute the network's outputs are ignored; all other options have their defaults. The pruned
network must run and keep the output's shape. It is then compared with the dense network in which the removed
rows (of layers, biases, norms and bare parameters) are set to zero, in float64 if the comparison in float32
fails. Slices of compress have to pass the same comparison. To find the removed rows, a copy of the network
whose parameters hold their own row numbers is pruned with the same seed.

A layer norm or group norm that loses channels therefore counts as wrong: its statistics change, which no mask
can reproduce. A network that Torch-Pruning leaves unchanged counts as exact; `macs_ratio` shows it.
"""

from __future__ import annotations

import copy
import time
import warnings
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from compress.slicing import RELATIVE_TOLERANCE, compare

from .networks import CLASSES, Network, build, images
from .zoo_ours import FLOAT64_TOLERANCE

TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)


def evaluate_network(network: Network) -> dict[str, Any]:
    """Return the last stage reached, and the exception or the error against the masked dense network."""
    model, batch = build(network), images(network, 2)
    row: dict[str, Any] = {"stage": "prune"}
    try:
        start = time.perf_counter()
        pruned = prune(model, batch)
        row |= {"seconds": round(time.perf_counter() - start, 2), "stage": "forward"}
        with torch.no_grad():
            shape = pruned(batch).shape
        row |= {"macs_ratio": round(flops(pruned, batch) / flops(model, batch), 4), "stage": "output shape"}
        if shape != model(batch).shape:
            raise ValueError(f"the output's shape is {list(shape)}")
        row["stage"] = "compare"
        masked = zero_rows(model, removed_rows(model, pruned, prune(number_rows(model), batch)))
        row |= compare_outputs(masked, pruned, batch)
        row["stage"] = "done"
    except Exception as error:
        text = str(error).strip().splitlines()
        row["raises"] = f"{type(error).__name__}: {text[0][:200] if text else ''}"
    return row


def prune(model: nn.Module, batch: Tensor, seed: int = 0) -> nn.Module:
    """Return a copy without half of every group's channels; the same seed removes the same channels."""
    import torch_pruning

    model = copy.deepcopy(model)
    outputs = [
        m for m in model.modules() if getattr(m, "out_features", getattr(m, "out_channels", 0)) == CLASSES
    ]
    torch.manual_seed(seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pruner = torch_pruning.pruner.BasePruner(
            model,
            batch,
            importance=torch_pruning.importance.RandomImportance(),
            pruning_ratio=0.5,
            ignored_layers=outputs,
            in_channel_groups={},
            out_channel_groups={},
            num_heads={},
            channel_groups={},
        )
        pruner.step()
    return model


def flops(model: nn.Module, batch: Tensor) -> int:
    """Return the floating point operations of all convolutions and matrix products."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(batch)
    return int(counter.get_total_flops())


def number_rows(model: nn.Module) -> nn.Module:
    """Return a copy in which every parameter element is its own index along the channel dimension."""
    numbered = copy.deepcopy(model)
    with torch.no_grad():
        for module in numbered.modules():
            for parameter in module._parameters.values():
                if parameter is not None and parameter.dim():
                    dim = _channel_dim(module, parameter)
                    shape = [-1 if d == dim else 1 for d in range(parameter.dim())]
                    parameter.copy_(
                        torch.arange(float(parameter.shape[dim])).view(shape).expand_as(parameter)
                    )
    return numbered


def _channel_dim(module: nn.Module, parameter: Tensor) -> int:
    """Return the output channel dimension of a parameter; for a bare parameter, its largest dimension."""
    if isinstance(module, TRANSPOSED) and parameter.dim() > 1:
        return 1
    if isinstance(module, (nn.modules.conv._ConvNd, nn.Linear)) or parameter.dim() == 1:
        return 0
    return max(range(parameter.dim()), key=lambda d: parameter.shape[d])


def removed_rows(
    model: nn.Module, pruned: nn.Module, numbered: nn.Module
) -> dict[str, tuple[int, list[int]]]:
    """Return dimension and removed indices by parameter name, read from the pruned copy with numbered rows.

    Raises:
        ValueError: network and numbered copy were pruned differently.
    """
    removed = {}
    shapes = {name: p.shape for name, p in pruned.named_parameters()}
    if shapes != {name: p.shape for name, p in numbered.named_parameters()}:
        raise ValueError("the same seed removed different channels")
    remaining = dict(numbered.named_parameters())
    for prefix, module in model.named_modules():
        for attribute, parameter in module._parameters.items():
            name = f"{prefix}.{attribute}" if prefix else attribute
            if parameter is None or not parameter.dim() or name not in remaining:
                continue
            dim = _channel_dim(module, parameter)
            kept = {int(i) for i in torch.unique(remaining[name].detach())}
            indices = sorted(set(range(parameter.shape[dim])) - kept)
            if indices:
                removed[name] = (dim, indices)
    return removed


def zero_rows(model: nn.Module, rows: dict[str, tuple[int, list[int]]]) -> nn.Module:
    """Return a copy with these rows set to zero."""
    masked = copy.deepcopy(model)
    with torch.no_grad():
        for name, (dim, index) in rows.items():
            masked.get_parameter(name).index_fill_(dim, torch.tensor(index), 0.0)
    return masked


def compare_outputs(masked: nn.Module, pruned: nn.Module, batch: Tensor) -> dict[str, Any]:
    """Return the errors relative to the largest output, and whether the networks count as equal."""
    report = compare(masked, pruned, (batch,), RELATIVE_TOLERANCE)
    row = {"error": report.max_rel, "error_float64": None, "exact": report.passed}
    if not report.passed:
        double = compare(masked.double(), pruned.double(), (batch.double(),), FLOAT64_TOLERANCE)
        row |= {"error_float64": double.max_rel, "exact": double.passed}
    return row
