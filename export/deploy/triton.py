"""Model repositories of the Triton Inference Server (``--triton``).

A model is a folder with ``config.pbtxt``, ``labels.txt`` and ``VERSION/model.onnx`` or ``model.plan``. An
existing model gets a new version; the server serves the latest. Preprocessing is the client's task; its
description is in the parameters of the config.
"""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

from compress.core.errors import CompressError
from compress.core.files import explain_write_errors, staged_directory, write_text
from compress.export.trust.compatibility import build_of
from compress.export.trust.manifest import FileRecord, TensorRecord

MAX_BATCH = 64
"""Largest batch that the server forms for a file with a free batch size."""

DELAY_US = 100
"""Microseconds that a request waits for others to share its batch."""

_BACKENDS = {
    "onnx": ("onnxruntime", "model.onnx", "KIND_AUTO"),
    "trt": ("tensorrt", "model.plan", "KIND_GPU"),
}
_TYPES = {"float32": "TYPE_FP32", "float16": "TYPE_FP16", "int64": "TYPE_INT64"}


def check_format(format: str) -> None:
    """Refuse a format without a Triton back end (exit USAGE)."""
    if format not in _BACKENDS:
        raise CompressError(
            f"--triton supports {' and '.join(_BACKENDS)} files, not {format!r}",
            hint="Triton's TensorRT back end does not run TensorRT-RTX engines; export with --format onnx"
            if format == "trt-rtx"
            else "export with --format onnx",
            code="triton-format",
        )


def write_repository(repository: Path, folder: Path, record: FileRecord) -> Path:
    """Add a file of an export folder to a model repository, as the next version of its model.

    Args:
        repository: the folder for `tritonserver --model-repository`.
        folder: the export folder.
        record: the file.

    Returns:
        The model's folder in the repository; its name is that of the run.

    Raises:
        CompressError: the server cannot serve the format or its batch sizes, or the repository has a model of
            that name for another back end (exit USAGE).
    """
    check_format(record.format)
    backend, filename, _ = _BACKENDS[record.format]
    model = repository / model_name(record)
    _check_backend(model / "config.pbtxt", backend)
    text = config(record, model.name)
    version = 1 + max(_versions(model), default=0)
    with explain_write_errors(model):
        write_text(model / "config.pbtxt", text)
        write_text(model / "labels.txt", "".join(" ".join(name.split()) + "\n" for name in record.classes))
        with staged_directory(model / str(version)) as staged:
            shutil.copyfile(folder / record.file, staged / filename)
            for companion in record.companions:
                shutil.copyfile(folder / companion.file, staged / companion.file)
    return model


def model_name(record: FileRecord) -> str:
    """Return the run's name with the characters that Triton's clients accept."""
    return re.sub(r"[^A-Za-z0-9_.-]", "_", record.lineage.run)


def config(record: FileRecord, name: str) -> str:
    """Return the `config.pbtxt` of a file.

    A free batch size becomes dynamic batching up to the profile's largest, or `MAX_BATCH`. A fixed batch size
    is part of the shapes, and every request must have it.
    """
    backend, _, kind = _BACKENDS[record.format]
    limit, preferred = batching(record)
    parts = [f"name: {_quoted(name)}", f"backend: {_quoted(backend)}", f"max_batch_size: {limit}"]
    cut = 1 if limit else 0
    parts += [_tensor("input", tensor, cut) for tensor in record.inputs]
    parts += [_tensor("output", tensor, cut, labels="labels.txt") for tensor in record.outputs]
    if limit:
        preference = f"  preferred_batch_size: [ {preferred} ]\n" if preferred else ""
        parts.append(f"dynamic_batching {{\n{preference}  max_queue_delay_microseconds: {DELAY_US}\n}}")
    parts.append(f"instance_group [\n  {{ count: 1 kind: {kind} }}\n]")
    parameters = {
        "compress.preprocess": record.preprocess.model_dump_json(),
        "compress.sha256": record.sha256,
        "compress.precision": record.precision,
    }
    parts += [
        f"parameters {{\n  key: {_quoted(key)}\n  value: {{ string_value: {_quoted(value)} }}\n}}"
        for key, value in parameters.items()
    ]
    return "\n".join(parts) + "\n"


def batching(record: FileRecord) -> tuple[int, int | None]:
    """Return the largest batch that the server may form (0: none), and the one it should prefer.

    Raises:
        CompressError: the smallest batch of the file's profile is not 1 (exit USAGE).
    """
    if isinstance(record.inputs[0].shape[0], int):
        return 0, None
    profile = build_of(record).get("profile")
    if not isinstance(profile, dict):
        return MAX_BATCH, None
    sizes = [profile.get(key) for key in ("min", "opt", "max")]
    smallest, optimal, largest = (int(size[0] if isinstance(size, (list, tuple)) else size) for size in sizes)  # type: ignore[arg-type]
    if smallest != 1:
        raise CompressError(
            f"{record.file!r} takes batches from {smallest} on, and a server also gets single requests",
            hint=f"export with --batch 1:{optimal}:{largest}",
            code="triton-batch",
        )
    return largest, optimal if optimal > 1 else None


def _tensor(kind: str, tensor: TensorRecord, cut: int, labels: str | None = None) -> str:
    dims = ", ".join(str(size) if isinstance(size, int) else "-1" for size in tensor.shape[cut:])
    label = f"\n    label_filename: {_quoted(labels)}" if labels else ""
    return (
        f"{kind} [\n  {{\n    name: {_quoted(tensor.name)}\n    data_type: {_TYPES[tensor.dtype]}\n"
        f"    dims: [ {dims} ]{label}\n  }}\n]"
    )


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def _versions(model: Path) -> list[int]:
    if not model.is_dir():
        return []
    return [int(path.name) for path in model.iterdir() if path.is_dir() and path.name.isdecimal()]


def _check_backend(config: Path, backend: str) -> None:
    if config.exists() and f"backend: {_quoted(backend)}\n" not in config.read_text(encoding="utf-8"):
        raise CompressError(
            f"{str(config.parent)!r} contains a model for another back end than {backend!r}",
            hint="give another folder for --triton, or remove that model",
            code="exists",
        )
