"""A state dict as one safetensors file: plain tensors, no pickle."""

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

    Tensors that share their memory (a shared module) are written once; the file's metadata names the
    others, so that loading gives the complete state dict.

    Raises:
        CompressError: ``not-a-tensor`` if a module keeps something else in its state dict.
    """
    tensors: dict[str, Tensor] = {}
    aliases: dict[str, str] = {}
    first: dict[tuple[object, ...], str] = {}
    for name, tensor in state.items():
        if not isinstance(tensor, Tensor):
            raise CompressError(
                f"the state dict holds {name!r} of type {type(tensor).__name__}, which is no tensor",
                hint="keep it in a buffer, or leave it out of the module's state dict",
                code="not-a-tensor",
            )
        place = (tensor.data_ptr(), tuple(tensor.shape), tensor.stride(), tensor.dtype, tensor.device)
        if tensor.numel() and place in first:
            aliases[name] = first[place]
            continue
        first[place] = name
        tensors[name] = tensor.detach().cpu().contiguous().clone()
    # one key only: the order of several is random, and the hash of the file with it
    # through memory: a full disk is then Python's OSError, not an error of safetensors' own
    path.write_bytes(save(tensors, metadata={"aliases": json.dumps(aliases)}))


def read_weights(path: Path, *, hint: str = "") -> dict[str, Tensor]:
    """Return the state dict that `save_weights` wrote to `path`.

    Raises:
        CompressError: ``missing-file`` or ``damaged-file``, naming the file.
    """
    if not path.is_file():
        raise CompressError(
            f"there are no weights {str(path)!r}", hint=hint, code="missing-file", exit=Exit.MISSING
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
    """Load `state` into `model`, strictly; the model is untouched if anything does not fit.

    Raises:
        CompressError: ``weights-mismatch``, naming the first missing, unexpected and mis-shaped tensors.
    """
    expected = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    given = {name: tuple(tensor.shape) for name, tensor in state.items()}
    faults = [f"missing {name}" for name in sorted(expected.keys() - given.keys())]
    faults += [f"unexpected {name}" for name in sorted(given.keys() - expected.keys())]
    faults += [
        f"{name} is {list(given[name])}, the model's is {list(expected[name])}"
        for name in sorted(expected.keys() & given.keys())
        if expected[name] != given[name]
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
