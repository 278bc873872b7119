"""The same network through Torch-Pruning: half the channels of every group it finds, at random.

How it is judged. The layers that make the network's outputs are ignored, everything else is its defaults. Its
pruned network must run and keep the shape of the output. Which rows of which parameter it dropped is read off
a twin of the network, pruned by the same seed, whose parameters hold their own row numbers; those rows (of
layers, biases, norms and bare parameters) are set to zero in the dense network, and the two are compared, in
float64 where float32 cannot tell: the test that our own slices have to pass. So a layer or group norm some of
whose channels are gone counts as wrong: its statistics are others, and nothing a mask does gives the same. A
network of which it cuts nothing counts as exact; `macs_ratio` tells.
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


def examine(network: Network) -> dict[str, Any]:
    """Whether it raises, where, and if not how far its result is from the masked dense network."""
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
        masked = zero(model, dropped(model, pruned, prune(numbered(model), batch)))
        row |= difference(masked, pruned, batch)
        row["stage"] = "done"
    except Exception as error:
        text = str(error).strip().splitlines()
        row["raises"] = f"{type(error).__name__}: {text[0][:200] if text else ''}"
    return row


def prune(model: nn.Module, batch: Tensor, seed: int = 0) -> nn.Module:
    """A copy of which half of every group's channels are gone; the same ones for the same seed."""
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
    """Floating point operations of convolutions and matrix products."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(batch)
    return int(counter.get_total_flops())


def numbered(model: nn.Module) -> nn.Module:
    """A copy whose parameters hold, in every element, its position along the output dimension."""
    twin = copy.deepcopy(model)
    with torch.no_grad():
        for module in twin.modules():
            for parameter in module._parameters.values():
                if parameter is not None and parameter.dim():
                    dim = _rows(module, parameter)
                    shape = [-1 if d == dim else 1 for d in range(parameter.dim())]
                    parameter.copy_(
                        torch.arange(float(parameter.shape[dim])).view(shape).expand_as(parameter)
                    )
    return twin


def _rows(module: nn.Module, parameter: Tensor) -> int:
    """The dimension of a parameter that makes channels: the widest one of a bare parameter."""
    if isinstance(module, TRANSPOSED) and parameter.dim() > 1:
        return 1
    if isinstance(module, (nn.modules.conv._ConvNd, nn.Linear)) or parameter.dim() == 1:
        return 0
    return max(range(parameter.dim()), key=lambda d: parameter.shape[d])


def dropped(model: nn.Module, pruned: nn.Module, twin: nn.Module) -> dict[str, tuple[int, list[int]]]:
    """Parameter name to the dimension and positions that are gone, read off the numbers in the twin.

    Raises:
        ValueError: the twin was pruned otherwise than the network.
    """
    out = {}
    shapes = {name: p.shape for name, p in pruned.named_parameters()}
    if shapes != {name: p.shape for name, p in twin.named_parameters()}:
        raise ValueError("the same seed gave another pruning")
    left = dict(twin.named_parameters())
    for prefix, module in model.named_modules():
        for attribute, parameter in module._parameters.items():
            name = f"{prefix}.{attribute}" if prefix else attribute
            if parameter is None or not parameter.dim() or name not in left:
                continue
            dim = _rows(module, parameter)
            kept = {int(i) for i in torch.unique(left[name].detach())}
            gone = sorted(set(range(parameter.shape[dim])) - kept)
            if gone:
                out[name] = (dim, gone)
    return out


def zero(model: nn.Module, gone: dict[str, tuple[int, list[int]]]) -> nn.Module:
    """A copy with these rows set to zero."""
    masked = copy.deepcopy(model)
    with torch.no_grad():
        for name, (dim, index) in gone.items():
            masked.get_parameter(name).index_fill_(dim, torch.tensor(index), 0.0)
    return masked


def difference(masked: nn.Module, pruned: nn.Module, batch: Tensor) -> dict[str, Any]:
    """Errors relative to the largest output, and whether they count as exact."""
    report = compare(masked, pruned, (batch,), RELATIVE_TOLERANCE)
    row = {"error": report.max_rel, "error_float64": None, "exact": report.passed}
    if not report.passed:
        double = compare(masked.double(), pruned.double(), (batch.double(),), FLOAT64_TOLERANCE)
        row |= {"error_float64": double.max_rel, "exact": double.passed}
    return row
