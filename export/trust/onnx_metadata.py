"""The metadata that an exported ONNX file carries, and its comparison with the manifest."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from compress.core.errors import CompressError, Exit
from compress.core.spec import Preprocess
from compress.export.trust.manifest import FileRecord, TensorRecord

META_CLASSES = "compress.classes"
META_PREPROCESS = "compress.preprocess"
META_RUN = "compress.run"
META_MODEL = "compress.model"
META_VERSION = "compress.version"


@dataclass(frozen=True)
class OnnxMetadata:
    """Preprocessing and class names written in an ONNX file; None where the file has none."""

    preprocess: Preprocess | None
    classes: tuple[str, ...] | None


def read_onnx_metadata(path: Path) -> OnnxMetadata:
    """Return the metadata of an ONNX file, without opening the file in a runtime.

    Raises:
        CompressError: it is no ONNX file, or its metadata cannot be read (exit MISSING).
    """
    import onnx

    try:
        properties = {entry.key: entry.value for entry in onnx.load(str(path)).metadata_props}
    except Exception as error:  # protobuf's decoding errors have no common base with those of the file system
        raise CompressError(
            f"{str(path)!r} is not an ONNX model",
            hint="the file is damaged or incomplete; export it again",
            code="bad-onnx",
            exit=Exit.MISSING,
        ) from error
    return parse_onnx_metadata(path, properties)


def parse_onnx_metadata(path: Path, properties: dict[str, str]) -> OnnxMetadata:
    """Return the metadata in the properties of an ONNX file.

    Args:
        path: the file, for error messages.
        properties: its `metadata_props`.

    Raises:
        CompressError: an entry cannot be read (exit MISSING).
    """
    try:
        preprocess = properties.get(META_PREPROCESS)
        classes = properties.get(META_CLASSES)
        return OnnxMetadata(
            preprocess=None if preprocess is None else Preprocess.model_validate_json(preprocess),
            classes=None if classes is None else tuple(str(name) for name in json.loads(classes)),
        )
    except (ValueError, TypeError, ValidationError) as error:
        raise CompressError(
            f"the metadata of {str(path)!r} cannot be read: {str(error).splitlines()[0]}",
            hint="it was changed, or written by another version of compress; export the run again",
            code="bad-metadata",
            exit=Exit.MISSING,
        ) from error


def find_differences(path: Path, record: FileRecord) -> list[str]:
    """Return where an ONNX file differs from its record in the manifest, each in a few words.

    Inputs and outputs are compared by name, type and sizes; a free size equals any other free size. The opset
    is compared, and the classes, the preprocessing, the run and the model if the file has them.
    """
    import onnx

    try:
        proto = onnx.load(str(path), load_external_data=False)
    except Exception as error:  # protobuf's own errors have no common base
        return [f"is no ONNX file: {str(error).splitlines()[0] if str(error) else type(error).__name__}"]
    return [*_interface_differences(proto, record), *_metadata_differences(proto, record)]


def _interface_differences(proto: Any, record: FileRecord) -> Iterator[str]:
    initializers = {value.name for value in proto.graph.initializer}
    inputs = [value for value in proto.graph.input if value.name not in initializers]
    for name, values, tensors in (
        ("inputs", inputs, record.inputs),
        ("outputs", list(proto.graph.output), record.outputs),
    ):
        in_file, in_manifest = (
            list(map(_signature_of_value, values)),
            list(map(_signature_of_record, tensors)),
        )
        if in_file != in_manifest:
            yield f"{name}: the file has {_to_text(in_file)}, the manifest {_to_text(in_manifest)}"
    opsets = [entry.version for entry in proto.opset_import if entry.domain in ("", "ai.onnx")]
    if record.opset is not None and record.opset not in opsets:
        yield f"opset: the file has {opsets}, the manifest {record.opset}"


TensorSignature = tuple[str, str, tuple[int | None, ...]]
"""Name, type and sizes of a tensor; None is a free size."""


def _signature_of_value(value: Any) -> TensorSignature:
    import onnx

    kind = value.type.tensor_type
    shape = tuple(dim.dim_value if dim.HasField("dim_value") else None for dim in kind.shape.dim)
    return value.name, str(onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type)), shape


def _signature_of_record(tensor: TensorRecord) -> TensorSignature:
    return tensor.name, tensor.dtype, tuple(size if isinstance(size, int) else None for size in tensor.shape)


def _to_text(tensors: list[TensorSignature]) -> str:
    return ", ".join(
        f"{name} {dtype} [{', '.join('?' if size is None else str(size) for size in shape)}]"
        for name, dtype, shape in tensors
    )


def _metadata_differences(proto: Any, record: FileRecord) -> Iterator[str]:
    in_file = {entry.key: entry.value for entry in proto.metadata_props}
    in_manifest: dict[str, tuple[str, Any]] = {
        META_PREPROCESS: ("preprocessing", record.preprocess.model_dump(mode="json")),
        META_CLASSES: ("classes", list(record.classes)),
        META_RUN: ("run", record.lineage.run),
        META_MODEL: ("model", record.lineage.model.name),
    }
    for key, (name, expected) in in_manifest.items():
        if key not in in_file:
            continue
        actual = _decoded(key, in_file[key])
        if actual != expected:
            yield f"{name}: {_describe_difference(actual, expected)}"


def _decoded(key: str, text: str) -> Any:
    """Return the value of a metadata entry; the text itself if it cannot be decoded."""
    try:
        if key == META_PREPROCESS:
            return Preprocess.model_validate_json(text).model_dump(mode="json")
        return json.loads(text) if key == META_CLASSES else text
    except ValueError:
        return text


def _describe_difference(actual: Any, expected: Any) -> str:
    """Name what differs between two values: the keys of objects, the entries of lists, or the whole."""
    if isinstance(actual, dict) and isinstance(expected, dict):
        keys = sorted(key for key in actual.keys() | expected.keys() if actual.get(key) != expected.get(key))
        return "; ".join(
            f"{key} is {actual.get(key)!r} in the file, {expected.get(key)!r} in the manifest" for key in keys
        )
    if isinstance(actual, list) and isinstance(expected, list) and len(actual) == len(expected):
        where = [i for i, (a, b) in enumerate(zip(actual, expected, strict=True)) if a != b]
        i = where[0]
        more = f" (and {len(where) - 1} more)" if len(where) > 1 else ""
        return f"number {i} is {actual[i]!r} in the file, {expected[i]!r} in the manifest{more}"
    return f"{actual!r} in the file, {expected!r} in the manifest"
