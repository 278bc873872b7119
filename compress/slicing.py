"""Cut the parameters; the module tree and its class stay the user's.

A plan says which indices of which parameter stay. `slice_model` makes the narrow network, `mask_model` the
dense network with the dropped channels set to zero, and `verify` compares the two.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import is_parametrized

from compress.core.errors import CompressError, Exit
from compress.graph.program import as_inputs, evaluating
from compress.graph.rewrite import traced_copy
from compress.graph.slice_plan import Kept, SlicePlan

RELATIVE_TOLERANCE = 1e-5
"""Largest difference of a sliced network, relative to the largest output, that counts as exact (float32)."""


@dataclass(frozen=True)
class VerifyReport:
    """How far a sliced network is from the masked dense one.

    Attributes:
        max_abs: largest absolute difference of an output; infinity if a compared value is not finite.
        max_rel: the same divided by the largest output.
        samples: images compared.
        tolerance: largest allowed `max_rel`.
        passed: whether every value is finite and `max_rel` is within `tolerance`.
    """

    max_abs: float
    max_rel: float
    samples: int
    tolerance: float
    passed: bool

    def to_json(self) -> dict[str, Any]:
        """Return a JSON object; differences are None where a compared value is not finite."""
        finite = math.isfinite(self.max_rel)
        return asdict(self) if finite else asdict(self) | {"max_abs": None, "max_rel": None}

    def describe(self) -> str:
        """Return the result and the limit as text for an error message."""
        if not math.isfinite(self.max_rel):
            return "an output is not finite (NaN or infinity), so the difference cannot be computed"
        return f"largest relative difference {self.max_rel:.3g}, allowed {self.tolerance:g}"


def slice_model(model: nn.Module, plan: SlicePlan) -> nn.Module:
    """A new, narrow module of the same class; the given one is untouched.

    Where the model's own code has widths baked in (`plan.rewrites`), the result is a `torch.fx.GraphModule`
    with the same parameter names.

    Raises:
        CompressError: (exit 2) the plan does not fit the model.
    """
    source = _traced(model, plan) if plan.rewrites else model
    narrow: nn.Module = copy.deepcopy(source, {id(old): new for old, new in _cuts(source, plan)})
    _fit_modules(narrow, plan)
    return narrow


def apply_plan(model: nn.Module, plan: SlicePlan) -> nn.Module:
    """As `slice_model`, but cuts the given module itself and returns it."""
    model = _traced(model, plan) if plan.rewrites else model
    new = {id(old): cut for old, cut in _cuts(model, plan)}
    for module in model.modules():
        holders: tuple[dict[str, Any], ...] = (module._parameters, module._buffers)
        for tensors in holders:
            for key, tensor in list(tensors.items()):
                tensors[key] = new.get(id(tensor), tensor)
    _fit_modules(model, plan)
    return model


def _fit_modules(model: nn.Module, plan: SlicePlan) -> None:
    """Make the modules of a network whose tensors are cut fit them."""
    for module in model.modules():
        _adjust(module)
    for path, (index, width) in plan.scattered.items():
        scatter(model.get_submodule(path), index, width)


def scatter(module: nn.Module, index: Sequence[int], width: int) -> None:
    """Give a narrow module's output its dense width back: zeros, but for the channels in `index`.

    One gather along the channels (behind a channel of zeros), which every runtime has.
    """
    place = torch.full((width,), len(index), dtype=torch.int64)
    place[torch.tensor(index, dtype=torch.int64)] = torch.arange(len(index))
    first = next(module.parameters(), place)
    module.register_buffer("scatter_index", place.to(first.device), persistent=False)
    module.register_forward_hook(_scattered)


def _scattered(module: nn.Module, args: Any, output: Tensor) -> Tensor:
    place: Any = module.scatter_index
    padding = [0, 0] * (output.dim() - 2) + [0, 1]
    return torch.nn.functional.pad(output, padding).index_select(1, place)


def _traced(model: nn.Module, plan: SlicePlan) -> nn.Module:
    return traced_copy(model, plan)


def _cuts(model: nn.Module, plan: SlicePlan) -> list[tuple[Tensor, Tensor]]:
    """Every parameter and buffer that the plan cuts, with what is left of it."""
    tensors: dict[str, Tensor] = {
        **dict(model.named_parameters(remove_duplicate=False)),
        **dict(model.named_buffers(remove_duplicate=False)),
    }
    out: list[tuple[Tensor, Tensor]] = []
    for name, dims in plan.kept.items():
        if name not in tensors:
            raise CompressError(
                f"the plan cuts {name}, which {type(model).__name__} does not have",
                hint="the plan belongs to another model", code="plan-mismatch",
            )  # fmt: skip
        old = tensors[name]
        new = _cut(name, old.detach(), dims)
        out.append((old, nn.Parameter(new, old.requires_grad) if isinstance(old, nn.Parameter) else new))
    return out


def _cut(name: str, tensor: Tensor, dims: dict[int, list[Any]]) -> Tensor:
    whole = tensor
    try:
        for dim, index in sorted(dims.items()):
            if index and isinstance(index[0], list):
                tensor = _cut_blocks(tensor, dim, index)
            else:
                tensor = tensor.index_select(dim, torch.tensor(index, device=tensor.device))
    except (IndexError, RuntimeError) as error:
        raise CompressError(
            f"the plan does not fit {name} of shape {list(tensor.shape)}",
            hint="the plan belongs to another model",
            code="plan-mismatch",
        ) from error
    return tensor.clone() if tensor is whole else tensor  # a selection is a copy already


def _cut_blocks(tensor: Tensor, dim: int, index: list[list[int]]) -> Tensor:
    """A grouped convolution: rows are already cut; each group keeps its own inputs."""
    blocks = tensor.chunk(len(index), 0)
    return torch.cat(
        [b.index_select(dim, torch.tensor(i, device=b.device)) for b, i in zip(blocks, index, strict=True)]
    )


def _adjust(module: nn.Module) -> None:
    """Make a standard layer's own description agree with its tensors."""
    m: Any = module
    weight = _computed(m) if is_parametrized(module, "weight") else module._parameters.get("weight")
    if isinstance(module, nn.modules.conv._ConvNd) and weight is not None:
        rows, columns = weight.shape[:2]
        depthwise = module.groups > 1 and module.in_channels == module.groups
        if module.transposed:
            if depthwise:
                m.groups = rows
            m.in_channels, m.out_channels = rows, columns * module.groups
        else:
            if depthwise:
                m.groups = rows // (module.out_channels // module.groups)
            m.in_channels, m.out_channels = columns * module.groups, rows
    elif isinstance(module, nn.Linear) and weight is not None:
        m.out_features, m.in_features = weight.shape
    elif isinstance(module, nn.modules.batchnorm._NormBase):
        tensor = weight if weight is not None else module.running_mean
        if tensor is not None:
            m.num_features = tensor.shape[0]
    elif isinstance(module, nn.GroupNorm) and weight is not None:
        m.num_groups = weight.shape[0] * module.num_groups // module.num_channels
        m.num_channels = weight.shape[0]
    elif isinstance(module, nn.PReLU) and weight is not None:
        m.num_parameters = weight.shape[0]


def _computed(module: Any) -> Tensor:
    """A parametrized weight; in eval mode, so that no parametrization updates its own state."""
    with evaluating(module), torch.no_grad():
        weight: Tensor = module.weight
    return weight


def mask_model(model: nn.Module, plan: SlicePlan) -> nn.Module:
    """A copy of the dense network whose dropped channels are set to zero.

    The rows, biases and norm parameters that make a dropped channel are zeroed; its consumers are not.
    """
    masked = copy.deepcopy(model)
    _zero(masked, plan.masked)
    return masked


def _zero(model: nn.Module, masked: Kept) -> None:
    tensors = {
        **dict(model.named_parameters(remove_duplicate=False)),
        **dict(model.named_buffers(remove_duplicate=False)),
    }
    with torch.no_grad():
        for name, dims in masked.items():
            for dim, index in dims.items():
                tensors[name].index_fill_(dim, torch.tensor(index, device=tensors[name].device), 0.0)


def verify(
    model: nn.Module,
    plan: SlicePlan,
    narrow: nn.Module,
    batch: Tensor | Sequence[Any],
    tolerance: float = RELATIVE_TOLERANCE,
) -> VerifyReport:
    """Compare a sliced network with the masked dense one on a real batch, in eval mode."""
    inputs = as_inputs(batch)
    masked = mask_model(model, plan)
    return compare(masked, narrow, inputs, tolerance)


def compare(
    reference: nn.Module, other: nn.Module, inputs: tuple[Any, ...], tolerance: float = RELATIVE_TOLERANCE
) -> VerifyReport:
    """Return the largest difference between the outputs of two networks in eval mode."""
    samples = int(inputs[0].shape[0]) if inputs and isinstance(inputs[0], Tensor) else 1
    return difference(outputs(reference, inputs), outputs(other, inputs), samples, tolerance)


def outputs(model: nn.Module, inputs: tuple[Any, ...]) -> list[Tensor]:
    """Return all tensors that a network outputs in eval mode, without gradients."""
    with evaluating(model), torch.no_grad():
        return flatten(model(*inputs))


def difference(expected: list[Tensor], actual: list[Tensor], samples: int, tolerance: float) -> VerifyReport:
    """Compare two lists of tensors; a value that is not finite, on either side, fails the comparison.

    Raises:
        CompressError: (exit 5) their shapes differ, or there is no value to compare.
    """
    if [t.shape for t in expected] != [t.shape for t in actual]:
        raise CompressError(
            f"the outputs have shapes {[list(t.shape) for t in actual]}, "
            f"not {[list(t.shape) for t in expected]}",
            hint="compare networks with the same outputs",
            code="parity",
            exit=Exit.PARITY,
        )
    pairs = [(a.double(), b.double()) for a, b in zip(expected, actual, strict=True) if a.numel()]
    if not pairs:
        raise CompressError(
            "the networks return no tensor with values, so their outputs cannot be compared",
            hint="return tensors, or tuples, lists or dicts of tensors, and compare at least one sample",
            code="parity",
            exit=Exit.PARITY,
        )
    if not all(bool(a.isfinite().all() and b.isfinite().all()) for a, b in pairs):
        return VerifyReport(math.inf, math.inf, samples, tolerance, passed=False)
    max_abs = max(float((a - b).abs().max()) for a, b in pairs)
    largest = max(float(a.abs().max()) for a, _ in pairs)
    max_rel = max_abs / largest if largest else max_abs
    return VerifyReport(max_abs, max_rel, samples, tolerance, passed=max_rel <= tolerance)


def flatten(output: Any) -> list[Tensor]:
    """Return all tensors in a network's output, in order."""
    if isinstance(output, Tensor):
        return [output]
    if isinstance(output, dict):
        return [t for v in output.values() for t in flatten(v)]
    if isinstance(output, (list, tuple)):
        return [t for v in output for t in flatten(v)]
    return []


__all__ = ["SlicePlan", "VerifyReport", "apply_plan", "compare", "mask_model", "slice_model", "verify"]
