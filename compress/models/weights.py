"""Weights from a file, without running anything that the file says.

Safetensors files are data by nature; torch files are read with ``weights_only=True``.
"""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from compress.core.errors import CompressError, Exit

_WRAPPERS = ("state_dict", "model")
_PREFIXES = ("module.", "_orig_mod.")  # left by DataParallel and by torch.compile
_SHOWN = 4


def load_weights(model: nn.Module, path: str | Path) -> None:
    """Fill `model` from a ``.safetensors`` file or a torch checkpoint; all of it or nothing.

    A ``state_dict`` or ``model`` wrapper and a ``module.`` prefix are understood. Missing
    ``num_batches_tracked`` counters are left as they are, and tensors of a head that the model was built
    without (an attribute that is None) are ignored.

    Raises:
        CompressError: the file is missing, truncated or needs pickle, or its names or shapes do not fit;
            the model is then untouched.
    """
    path = Path(path).expanduser()
    if not path.is_file():
        raise CompressError(
            f"weights file {str(path)!r} does not exist",
            hint="check the path",
            code="missing-file",
            exit=Exit.MISSING,
        )
    found = _strip(read_tensors(path))
    own: dict[str, Tensor] = model.state_dict()
    missing = [k for k in own if k not in found and not k.endswith("num_batches_tracked")]
    unexpected = [k for k in found if k not in own and not _switched_off(model, k)]
    shapes = {k: (v.shape, own[k].shape) for k, v in found.items() if k in own and v.shape != own[k].shape}
    if missing or unexpected or shapes:
        raise _mismatch(path, missing, unexpected, shapes, last=_last_module(model))
    model.load_state_dict({k: v for k, v in found.items() if k in own}, strict=False)


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Read the named tensors of a weights file, on the CPU.

    Raises:
        CompressError: the file is truncated, is not a weights file, or needs pickle.
    """
    try:
        if path.suffix == ".safetensors":
            return load_file(path, device="cpu")
        content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if "Unsupported" in str(error):  # torch's word for a global or an operation that would run code
            raise CompressError(
                f"{path} holds Python objects that only pickle could load, and pickle runs code",
                hint="save the state dict alone: torch.save(model.state_dict(), FILE), or use safetensors",
                code="weights-need-pickle",
            ) from error
        raise _unreadable(path, error) from error
    except Exception as error:  # on foreign bytes the readers raise whatever they stumble over
        raise _unreadable(path, error) from error
    for wrapper in _WRAPPERS:
        if isinstance(content, Mapping) and isinstance(content.get(wrapper), Mapping):
            content = content[wrapper]
    if not isinstance(content, Mapping) or not all(isinstance(v, Tensor) for v in content.values()):
        raise CompressError(
            f"{path} is not a state dict (a mapping from names to tensors, or one under"
            f" {' or '.join(map(repr, _WRAPPERS))})",
            hint="save it with torch.save(model.state_dict(), FILE)",
            code="weights-unreadable",
        )
    return {str(k): v for k, v in content.items()}


def _strip(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Take off the prefixes that all names share, in whatever order they were put on."""
    changed = bool(tensors)
    while changed:
        changed = False
        for prefix in _PREFIXES:
            if all(k.startswith(prefix) for k in tensors):
                tensors = {k.removeprefix(prefix): v for k, v in tensors.items()}
                changed = True
    return tensors


def _switched_off(model: nn.Module, key: str) -> bool:
    head = key.partition(".")[0]
    return hasattr(model, head) and getattr(model, head) is None


def _last_module(model: nn.Module) -> str:
    linear = [n for n, m in model.named_modules() if isinstance(m, nn.Linear | nn.Conv2d)]
    return linear[-1] if linear else ""


def _mismatch(
    path: Path,
    missing: list[str],
    unexpected: list[str],
    shapes: dict[str, tuple[torch.Size, torch.Size]],
    last: str,
) -> CompressError:
    if shapes and not missing and not unexpected and all(k.rpartition(".")[0] == last for k in shapes):
        key, (got, want) = next(iter(shapes.items()))
        if got[1:] == want[1:]:
            return CompressError(
                f"{path} was trained for {got[0]} classes and the model has {want[0]}:"
                f" {key} is {list(got)} in the file and {list(want)} in the model",
                hint=f"give --num-classes {got[0]}, or weights for {want[0]} classes",
                code="weights-mismatch",
                details={"file_classes": got[0], "model_classes": want[0]},
            )
    parts = []
    if missing:
        parts.append(f"{len(missing)} missing ({_first(missing)})")
    if unexpected:
        parts.append(f"{len(unexpected)} unexpected ({_first(unexpected)})")
    if shapes:
        pairs = [
            f"{k} {list(got)} in the file, {list(want)} in the model" for k, (got, want) in shapes.items()
        ]
        parts.append(f"{len(shapes)} of another shape ({_first(pairs)})")
    return CompressError(
        f"{path} does not fit the model: {'; '.join(parts)}",
        hint="give the weights of this very architecture",
        code="weights-mismatch",
        details={"missing": len(missing), "unexpected": len(unexpected), "misshaped": len(shapes)},
    )


def _first(words: list[str]) -> str:
    return ", ".join(words[:_SHOWN]) + (", ..." if len(words) > _SHOWN else "")


def _unreadable(path: Path, error: Exception) -> CompressError:
    reason = str(error).strip().partition("\n")[0]
    return CompressError(
        f"{path} is truncated or not a weights file: {reason or type(error).__name__}",
        hint="fetch or save the file again",
        code="weights-unreadable",
        exit=Exit.MISSING,
    )
