"""Does an ONNX file say of itself what its manifest says of it?"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from compress.core.spec import Preprocess
from compress.export.session import META_CLASSES, META_MODEL, META_PREPROCESS, META_RUN
from compress.export.trust.manifest import FileRecord, TensorRecord


def differences(path: Path, record: FileRecord) -> list[str]:
    """Return what an ONNX file says otherwise than its record, each in a few words.

    Inputs and outputs are compared by name, type and sizes, a free size being equal to any other; the opset,
    and the classes, the preprocessing, the run and the model where the file has them.
    """
    import onnx

    try:
        proto = onnx.load(str(path), load_external_data=False)
    except Exception as error:  # protobuf's own errors have no common base
        return [f"is no ONNX file: {str(error).splitlines()[0] if str(error) else type(error).__name__}"]
    return [*_interface(proto, record), *_metadata(proto, record)]


def _interface(proto: Any, record: FileRecord) -> Iterator[str]:
    initial = {value.name for value in proto.graph.initializer}
    inputs = [value for value in proto.graph.input if value.name not in initial]
    for what, found, wanted in (
        ("inputs", inputs, record.inputs),
        ("outputs", list(proto.graph.output), record.outputs),
    ):
        said, listed = [_seen(value) for value in found], [_listed(tensor) for tensor in wanted]
        if said != listed:
            yield f"{what}: the file has {_text(said)}, the manifest {_text(listed)}"
    opsets = [entry.version for entry in proto.opset_import if entry.domain in ("", "ai.onnx")]
    if record.opset is not None and record.opset not in opsets:
        yield f"opset: the file has {opsets}, the manifest {record.opset}"


Tensor = tuple[str, str, tuple[int | None, ...]]


def _seen(value: Any) -> Tensor:
    import onnx

    kind = value.type.tensor_type
    shape = tuple(dim.dim_value if dim.HasField("dim_value") else None for dim in kind.shape.dim)
    return value.name, str(onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type)), shape


def _listed(tensor: TensorRecord) -> Tensor:
    return tensor.name, tensor.dtype, tuple(size if isinstance(size, int) else None for size in tensor.shape)


def _text(tensors: list[Tensor]) -> str:
    return ", ".join(
        f"{name} {dtype} [{', '.join('?' if size is None else str(size) for size in shape)}]"
        for name, dtype, shape in tensors
    )


def _metadata(proto: Any, record: FileRecord) -> Iterator[str]:
    said = {entry.key: entry.value for entry in proto.metadata_props}
    listed: dict[str, tuple[str, Any]] = {
        META_PREPROCESS: ("preprocessing", record.preprocess.model_dump(mode="json")),
        META_CLASSES: ("classes", list(record.classes)),
        META_RUN: ("run", record.lineage.run),
        META_MODEL: ("model", record.lineage.model.name),
    }
    for key, (what, wanted) in listed.items():
        if key not in said:
            continue
        found = _read(key, said[key])
        if found != wanted:
            yield f"{what}: {_change(found, wanted)}"


def _read(key: str, text: str) -> Any:
    """Return the value of an entry; the text itself where it cannot be read."""
    try:
        if key == META_PREPROCESS:
            return Preprocess.model_validate_json(text).model_dump(mode="json")
        return json.loads(text) if key == META_CLASSES else text
    except ValueError:
        return text


def _change(found: Any, wanted: Any) -> str:
    """Name what differs between two values: the keys of objects, the entries of lists, or the whole."""
    if isinstance(found, dict) and isinstance(wanted, dict):
        keys = sorted(key for key in found.keys() | wanted.keys() if found.get(key) != wanted.get(key))
        return "; ".join(
            f"{key} is {found.get(key)!r} in the file, {wanted.get(key)!r} in the manifest" for key in keys
        )
    if isinstance(found, list) and isinstance(wanted, list) and len(found) == len(wanted):
        where = [i for i, (a, b) in enumerate(zip(found, wanted, strict=True)) if a != b]
        i = where[0]
        more = f" (and {len(where) - 1} more)" if len(where) > 1 else ""
        return f"number {i} is {found[i]!r} in the file, {wanted[i]!r} in the manifest{more}"
    return f"{found!r} in the file, {wanted!r} in the manifest"
