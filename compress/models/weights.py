"""Load weights from a file without running code that the file contains.

A safetensors file holds tensors only; a torch file is read with ``weights_only=True``.
"""

from __future__ import annotations

import json
import logging
import pickle
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from compress.core.console import is_first_process
from compress.core.errors import CompressError, Exit
from compress.core.files import current_folder, read_json

_WRAPPERS = ("state_dict", "model")
_PREFIXES = ("module.", "_orig_mod.")  # added by DataParallel and by torch.compile
_SHOWN = 4
_FORMATS = "give a .safetensors file, or a file written by torch.save(model.state_dict(), FILE)"

_FILE_TYPES = (
    (b"\xff\xd8\xff", "a JPEG image"),
    (b"\x89PNG", "a PNG image"),
    (b"GIF8", "a GIF image"),
    (b"BM", "a BMP image"),
    (b"%PDF", "a PDF document"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"BZh", "a bzip2 archive"),
    (b"\xfd7zXZ", "an xz archive"),
    (b"7z\xbc\xaf", "a 7z archive"),
    (b"Rar!", "a RAR archive"),
    (b"\x89HDF", "an HDF5 file"),
    (b"\x93NUMPY", "a NumPy array"),
    (b"version https://git-lfs", "a Git LFS pointer, not the file itself"),
    (b"<!DOCTYPE", "an HTML page"),
    (b"<!doctype", "an HTML page"),
    (b"<html", "an HTML page"),
    (b"\x08\x03\x12", "an ONNX file"),
)
"""First bytes of files that are easily mistaken for weights."""

_log = logging.getLogger(__name__)


def load_weights(model: nn.Module, path: str | Path, *, reset_head: bool | None = None) -> None:
    """Fill `model` from a weights file, completely or not at all.

    A ``state_dict`` or ``model`` wrapper and a ``module.`` prefix are understood. Missing
    ``num_batches_tracked`` counters keep their values. Tensors of a head that the model was built without
    (an attribute that is None) are ignored.

    Args:
        model: the dense network.
        path: a ``.safetensors`` file, a torch checkpoint, or the run folder of a dense network.
        reset_head: whether the classifier, the last linear or convolution layer, keeps the weights it has
            instead of those in the file. None: only if the file's classifier has another number of classes.
            A classifier that is kept is reported with a warning.

    Raises:
        CompressError: the file is missing, truncated, no weights file or needs pickle, or its names or shapes
            do not fit; the model is then unchanged.
    """
    path = weights_file(path)
    tensors = _without_shared_prefixes(read_tensors(path))
    own: dict[str, Tensor] = model.state_dict()
    head = _head_name(model)
    misshaped = {
        k: (v.shape, own[k].shape) for k, v in tensors.items() if k in own and v.shape != own[k].shape
    }
    resets = bool(reset_head) or (reset_head is None and _only_classes_differ(misshaped, head))
    if resets:
        tensors = {k: v for k, v in tensors.items() if not _is_in(head, k)}
        misshaped = {k: v for k, v in misshaped.items() if not _is_in(head, k)}
    missing = [
        k
        for k in own
        if k not in tensors and not k.endswith("num_batches_tracked") and not (resets and _is_in(head, k))
    ]
    unexpected = [k for k in tensors if k not in own and not _is_switched_off(model, k)]
    if missing or unexpected or misshaped:
        raise _mismatch(path, missing, unexpected, misshaped, head)
    model.load_state_dict({k: v for k, v in tensors.items() if k in own}, strict=False)
    if resets and is_first_process():
        _log.warning("%s: the classifier %r is not loaded; it starts from random weights", path, head)


def weights_file(path: str | Path) -> Path:
    """Return the weights file that `path` means: itself, or that in the run folder of a dense network.

    Raises:
        CompressError: (exit 3) ``missing-file``; (exit 2) ``compact-weights``: the run's compact model has
            fewer channels than the dense network.
    """
    path = Path(path).expanduser()
    if not path.is_dir():
        if not path.is_file():
            raise CompressError(
                f"weights file {str(path)!r} does not exist",
                hint="check the path",
                code="missing-file",
                exit=Exit.MISSING,
            )
        return path
    folder = path if (path / "model.json").is_file() else current_folder(path / "compact")
    file = folder / "weights.safetensors"
    if not file.is_file():
        is_run = (path / "run.json").is_file()
        raise CompressError(
            f"the run {str(path)!r} has no weights yet"
            if is_run
            else f"the folder {str(path)!r} is not a run",
            hint="finish it with `compress train --resume`" if is_run else f"{_FORMATS}, or a run folder",
            code="missing-file",
            exit=Exit.MISSING,
        )
    plan = read_json(folder / "plan.json", what="slicing plan", hint="give the path of a weights file")
    if plan.get("kept"):
        raise CompressError(
            f"the run {str(path)!r} contains a compact model, which has fewer channels than the dense one",
            hint="give the run of a dense network (`compress train --method dense`), or a weights file",
            code="compact-weights",
        )
    return file


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Read the named tensors of a weights file, on the CPU.

    Raises:
        CompressError: the file is truncated, is not a weights file, or needs pickle.
    """
    try:
        with path.open("rb") as file:
            start = file.read(32)
        if path.suffix == ".safetensors" or start[8:10] == b'{"':
            return read_safetensors(path)
    except (SafetensorError, OSError, ValueError, KeyError) as error:
        raise _unreadable(path, error) from error
    file_type = _other_file_type(path, start)
    if file_type:
        raise CompressError(
            f"{path} is {file_type}, not a weights file",
            hint=_FORMATS,
            code="weights-unreadable",
            exit=Exit.MISSING,
        )
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if "Unsupported" in str(error):  # how torch reports an object or an operation that could run code
            raise CompressError(
                f"{path} contains Python objects, which only pickle can load, and pickle can run code",
                hint="save the state dict alone: torch.save(model.state_dict(), FILE), or use safetensors",
                code="weights-need-pickle",
            ) from error
        raise _unreadable(path, error) from error
    except Exception as error:  # torch raises errors of many types on a damaged file
        raise _unreadable(path, error) from error
    for wrapper in _WRAPPERS:
        if isinstance(content, Mapping) and isinstance(content.get(wrapper), Mapping):
            content = content[wrapper]
    if not isinstance(content, Mapping) or not all(isinstance(v, Tensor) for v in content.values()):
        raise CompressError(
            f"{path} contains no state dict (a mapping from names to tensors, or one under"
            f" {' or '.join(map(repr, _WRAPPERS))})",
            hint="save it with torch.save(model.state_dict(), FILE)",
            code="weights-unreadable",
        )
    return {str(k): v for k, v in content.items()}


def read_safetensors(path: Path) -> dict[str, Tensor]:
    """Read a safetensors file, on the CPU; names of shared tensors (metadata ``aliases``) are restored.

    Raises:
        SafetensorError, OSError, ValueError, KeyError: the file is not readable.
    """
    with safe_open(path, framework="pt") as file:
        state: dict[str, Tensor] = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        aliases: dict[str, str] = json.loads((file.metadata() or {}).get("aliases", "{}"))
    return state | {name: state[target] for name, target in aliases.items()}


def _other_file_type(path: Path, start: bytes) -> str | None:
    """Return what kind of file begins with the bytes `start`; None for a torch file."""
    for magic, name in _FILE_TYPES:
        if start.startswith(magic):
            return name
    if start.startswith(b"PK") and zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
        if not any(name.endswith("data.pkl") for name in names):
            return "a NumPy archive" if any(name.endswith(".npy") for name in names) else "a zip archive"
        return "a TorchScript archive" if any("/code/" in name for name in names) else None
    is_torch = start.startswith((b"PK", b"\x80"))
    return None if is_torch or not start else "a file of an unknown type"


def _without_shared_prefixes(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Remove the prefixes that all names have, in whatever order they were added."""
    changed = bool(tensors)
    while changed:
        changed = False
        for prefix in _PREFIXES:
            if all(k.startswith(prefix) for k in tensors):
                tensors = {k.removeprefix(prefix): v for k, v in tensors.items()}
                changed = True
    return tensors


def _is_switched_off(model: nn.Module, key: str) -> bool:
    attribute = key.partition(".")[0]
    return hasattr(model, attribute) and getattr(model, attribute) is None


def _head_name(model: nn.Module) -> str:
    """Return the name of the classifier: the last linear or convolution layer; empty if there is none."""
    layers = [n for n, m in model.named_modules() if isinstance(m, nn.Linear | nn.Conv2d)]
    return layers[-1] if layers else ""


def _is_in(module: str, key: str) -> bool:
    return key.rpartition(".")[0] == module


Shapes = Mapping[str, tuple[torch.Size, torch.Size]]
"""Shapes in the file and in the model, by tensor name."""


def _only_classes_differ(misshaped: Shapes, head: str) -> bool:
    """Whether the only tensors of another shape are the classifier's, with another number of classes."""
    return bool(misshaped) and all(
        _is_in(head, key) and in_file[1:] == in_model[1:] for key, (in_file, in_model) in misshaped.items()
    )


def _mismatch(
    path: Path, missing: list[str], unexpected: list[str], misshaped: Shapes, head: str
) -> CompressError:
    if not missing and not unexpected and _only_classes_differ(misshaped, head):
        key, (in_file, in_model) = next(iter(misshaped.items()))
        return CompressError(
            f"{path} was trained for {in_file[0]} classes and the model has {in_model[0]}:"
            f" {key} is {list(in_file)} in the file and {list(in_model)} in the model",
            hint=f"give weights for {in_model[0]} classes, or --reset-head for a new classifier",
            code="weights-mismatch",
            details={"file_classes": in_file[0], "model_classes": in_model[0]},
        )
    parts = []
    if missing:
        parts.append(f"{len(missing)} missing ({_first(missing)})")
    if unexpected:
        parts.append(f"{len(unexpected)} unexpected ({_first(unexpected)})")
    if misshaped:
        pairs = [f"{k} {list(a)} in the file, {list(b)} in the model" for k, (a, b) in misshaped.items()]
        parts.append(f"{len(misshaped)} of another shape ({_first(pairs)})")
    only_head = bool(missing) and not unexpected and not misshaped and all(_is_in(head, k) for k in missing)
    return CompressError(
        f"{path} does not fit the model: {'; '.join(parts)}",
        hint="the file has no classifier: give --reset-head to start it from random weights"
        if only_head
        else "give weights of the same architecture",
        code="weights-mismatch",
        details={"missing": len(missing), "unexpected": len(unexpected), "misshaped": len(misshaped)},
    )


def _first(words: Iterable[str]) -> str:
    listed = list(words)
    return ", ".join(listed[:_SHOWN]) + (", ..." if len(listed) > _SHOWN else "")


def _unreadable(path: Path, error: Exception) -> CompressError:
    reason = str(error).strip().partition("\n")[0]
    return CompressError(
        f"{path} is truncated or not a weights file: {reason or type(error).__name__}",
        hint="download or save the file again",
        code="weights-unreadable",
        exit=Exit.MISSING,
    )
