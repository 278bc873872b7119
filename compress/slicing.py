"""Cut the parameters; the module tree and its class stay the user's.

A plan says which indices of which parameter stay. `slice_model` makes the narrow network, `mask_model` the
dense network with the dropped channels set to zero, and `verify` compares the two.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import is_parametrized

from .errors import CompressError, Exit
from .graph.plan import Kept, SlicePlan
from .graph.trace import as_inputs, evaluating

if TYPE_CHECKING:
    from .graph import ChannelGraph

RELATIVE_TOLERANCE = 1e-5
"""Largest difference of a sliced network, relative to the largest output, that counts as exact (float32)."""


@dataclass(frozen=True)
class VerifyReport:
    """How far a sliced network is from the masked dense one.

    Attributes:
        max_abs: largest absolute difference of an output. max_rel: the same divided by the largest output.
        samples: images compared. passed: whether `max_rel` is within `tolerance`.
    """

    max_abs: float
    max_rel: float
    samples: int
    tolerance: float
    passed: bool

    def to_json(self) -> dict[str, Any]:
        """A JSON object."""
        return asdict(self)


def slice_model(model: nn.Module, plan: SlicePlan) -> nn.Module:
    """A new, narrow module of the same class; the given one is untouched.

    Where the model's own code has widths baked in (`plan.rewrites`), the result is a `torch.fx.GraphModule`
    with the same parameter names.

    Raises:
        CompressError: (exit 2) the plan does not fit the model.
    """
    return apply_plan(copy.deepcopy(model), plan)


def apply_plan(model: nn.Module, plan: SlicePlan) -> nn.Module:
    """As `slice_model`, but cuts the given module itself and returns it."""
    if plan.rewrites:
        from .graph.rewrite import traced_copy

        model = traced_copy(model, plan)
    tensors = _owners(model)
    for name, dims in plan.kept.items():
        if name not in tensors:
            raise CompressError(
                f"the plan cuts {name}, which {type(model).__name__} does not have",
                hint="the plan belongs to another model", code="plan-mismatch",
            )
        owners = tensors[name]
        old = owners[0][0]._parameters.get(owners[0][1])
        value = old if old is not None else owners[0][0]._buffers[owners[0][1]]
        assert value is not None
        new = _cut(name, value.detach(), dims)
        cut: Any = nn.Parameter(new, requires_grad=value.requires_grad) if old is not None else new
        for module, attribute in owners:
            if old is not None:
                module._parameters[attribute] = cut
            else:
                module._buffers[attribute] = cut
    for module in model.modules():
        _adjust(module)
    return model


def _owners(model: nn.Module) -> dict[str, list[tuple[nn.Module, str]]]:
    """Every name of every parameter and buffer, with all modules that hold the same tensor."""
    by_id: dict[int, list[tuple[nn.Module, str]]] = {}
    names: dict[str, int] = {}
    for prefix, module in model.named_modules(remove_duplicate=False):
        for attribute, tensor in (*module._parameters.items(), *module._buffers.items()):
            if tensor is not None:
                names[f"{prefix}.{attribute}" if prefix else attribute] = id(tensor)
                held = by_id.setdefault(id(tensor), [])
                if (module, attribute) not in held:
                    held.append((module, attribute))
    return {name: by_id[key] for name, key in names.items()}


def _cut(name: str, tensor: Tensor, dims: dict[int, list[Any]]) -> Tensor:
    try:
        for dim, index in sorted(dims.items()):
            if index and isinstance(index[0], list):
                tensor = _cut_blocks(tensor, dim, index)
            else:
                tensor = tensor.index_select(dim, torch.tensor(index, device=tensor.device))
    except (IndexError, RuntimeError) as error:
        raise CompressError(
            f"the plan does not fit {name} of shape {list(tensor.shape)}",
            hint="the plan belongs to another model", code="plan-mismatch",
        ) from error
    return tensor.clone(memory_format=torch.preserve_format)


def _cut_blocks(tensor: Tensor, dim: int, index: list[list[int]]) -> Tensor:
    """A grouped convolution: rows are already cut; each group keeps its own inputs."""
    blocks = tensor.chunk(len(index), 0)
    return torch.cat([b.index_select(dim, torch.tensor(i, device=b.device)) for b, i in zip(blocks, index, strict=True)])


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
    elif isinstance(module, nn.GroupNorm) and weight is not None and module.num_groups == module.num_channels:
        m.num_groups = m.num_channels = weight.shape[0]
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
    tensors = {**dict(model.named_parameters(remove_duplicate=False)), **dict(model.named_buffers(remove_duplicate=False))}
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
    """Largest difference between two networks' outputs, in eval mode."""
    with evaluating(reference), evaluating(other), torch.no_grad():
        wanted, got = flatten(reference(*inputs)), flatten(other(*inputs))
    if [t.shape for t in wanted] != [t.shape for t in got]:
        raise CompressError(
            f"outputs have shapes {[list(t.shape) for t in got]}, not {[list(t.shape) for t in wanted]}",
            code="parity", exit=Exit.PARITY,
        )
    difference = max((float((a.double() - b.double()).abs().max()) for a, b in zip(wanted, got, strict=True)
                      if a.numel()), default=0.0)
    largest = max((float(a.abs().max()) for a in wanted if a.numel()), default=0.0)
    relative = difference / largest if largest else difference
    samples = int(inputs[0].shape[0]) if inputs and isinstance(inputs[0], Tensor) else 1
    return VerifyReport(difference, relative, samples, tolerance, relative <= tolerance)


def flatten(output: Any) -> list[Tensor]:
    """All tensors in a network's output, in order."""
    if isinstance(output, Tensor):
        return [output]
    if isinstance(output, dict):
        return [t for v in output.values() for t in flatten(v)]
    if isinstance(output, (list, tuple)):
        return [t for v in output for t in flatten(v)]
    return []


def drop_needless_rewrites(graph: ChannelGraph, plan: SlicePlan) -> SlicePlan:
    """The plan without rewrites if the model's own code computes the same with narrow parameters."""
    model = copy.deepcopy(graph.model)
    _perturb(model)
    plain = replace(plan, rewrites={})
    try:
        narrow = slice_model(model, plain)
        report = verify(model, plain, narrow, graph.inputs)
    except Exception:
        return plan
    return plain if report.passed else plan


def _perturb(model: nn.Module) -> None:
    """Give biases and norms values that matter, so that a wrong channel shows in the output."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, tensor in (*model.named_parameters(), *model.named_buffers()):
            if tensor.dim() == 1 and tensor.is_floating_point():
                noise = torch.rand(tensor.shape, generator=generator).to(tensor)
                if "var" in name.rsplit(".", 1)[-1] or name.endswith("weight"):
                    tensor.copy_(0.5 + noise)
                else:
                    tensor.copy_(0.2 * (noise - 0.5))


__all__ = ["SlicePlan", "VerifyReport", "apply_plan", "compare", "mask_model", "slice_model", "verify"]
