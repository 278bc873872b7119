"""Save and load state dicts as safetensors files, without pickle."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import save
from torch import Tensor, nn

from compress.core.errors import CompressError, Exit
from compress.models.weights import read_safetensors


def save_weights(path: Path, state: Mapping[str, Tensor]) -> None:
    """Write every parameter and buffer of `state` to `path`, contiguous and on the CPU.

    Tensors that share memory (of a module used twice) are written once; the file's metadata lists the other
    names, so that loading restores the complete state dict.

    Raises:
        CompressError: ``not-a-tensor``: the state dict contains something else.
    """
    tensors: dict[str, Tensor] = {}
    aliases: dict[str, str] = {}
    first: dict[tuple[object, ...], str] = {}
    for name, tensor in state.items():
        if not isinstance(tensor, Tensor):
            raise CompressError(
                f"the state dict contains {name!r} of type {type(tensor).__name__}, which is not a tensor",
                hint="store it in a buffer, or exclude it from the module's state dict",
                code="not-a-tensor",
            )
        storage = (tensor.data_ptr(), tuple(tensor.shape), tensor.stride(), tensor.dtype, tensor.device)
        if tensor.numel() and storage in first:
            aliases[name] = first[storage]
            continue
        first[storage] = name
        tensors[name] = tensor.detach().cpu().contiguous().clone()
    # one metadata key only: the order of several is random, and so would be the hash of the file
    # written by Python, so that a full disk raises OSError and not an error of safetensors
    path.write_bytes(save(tensors, metadata={"aliases": json.dumps(aliases)}))


def read_weights(path: Path, *, hint: str = "") -> dict[str, Tensor]:
    """Return the state dict that `save_weights` wrote to `path`.

    Raises:
        CompressError: (exit 3) ``missing-file`` or ``damaged-file``, with the path.
    """
    if not path.is_file():
        raise CompressError(
            f"there is no weights file {str(path)!r}", hint=hint, code="missing-file", exit=Exit.MISSING
        )
    try:
        return read_safetensors(path)
    except (SafetensorError, OSError, ValueError, KeyError) as error:
        raise CompressError(
            f"the weights {str(path)!r} are damaged: {error}",
            hint=hint,
            code="damaged-file",
            exit=Exit.MISSING,
        ) from error


def load_state(model: nn.Module, state: Mapping[str, Tensor], *, source: str, hint: str = "") -> None:
    """Load `state` into `model`, strictly; the model is unchanged if anything does not fit.

    Raises:
        CompressError: (exit 3) ``weights-mismatch``, with the first tensors that do not fit.
    """
    own = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    given = {name: tuple(tensor.shape) for name, tensor in state.items()}
    faults = [f"missing {name}" for name in sorted(own.keys() - given.keys())]
    faults += [f"unexpected {name}" for name in sorted(given.keys() - own.keys())]
    faults += [
        f"{name} is {list(given[name])}, the model's is {list(own[name])}"
        for name in sorted(own.keys() & given.keys())
        if own[name] != given[name]
    ]
    if faults:
        more = f" and {len(faults) - 4} more" if len(faults) > 4 else ""
        raise CompressError(
            f"{source} does not fit the model: {'; '.join(faults[:4])}{more}",
            hint=hint,
            code="weights-mismatch",
            exit=Exit.MISSING,
        )
    model.load_state_dict(state, strict=True)
