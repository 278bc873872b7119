"""ONNX Runtime sessions: opened with what was asked or not at all, and used as a classifier."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from compress.core.errors import CompressError, Exit
from compress.core.spec import Preprocess
from compress.export.trust.manifest import TensorRecord

CPU = ("CPUExecutionProvider",)
META_CLASSES = "compress.classes"
META_PREPROCESS = "compress.preprocess"
META_RUN = "compress.run"
META_MODEL = "compress.model"
META_VERSION = "compress.version"

_DTYPES = {"tensor(float)": "float32", "tensor(float16)": "float16", "tensor(int64)": "int64"}


Providers = Sequence[str | tuple[str, dict[str, str]]]
"""Names of execution providers, in order of preference, with their options where they need any."""


def open_session(
    path: Path, *, threads: int | None = None, providers: Providers = CPU, profile: Path | None = None
) -> Any:
    """Open an ONNX file in ONNX Runtime with exactly the execution providers asked for.

    Args:
        path: the ONNX file.
        threads: intra-op threads; None leaves ONNX Runtime's default. Inter-op threads are always 1.
        providers: execution providers, in order of preference.
        profile: how the path of the profile begins that the session writes when it ends; None for none.

    Raises:
        CompressError: no such file, not an ONNX model, or a provider that is missing or was silently
            replaced (exit MISSING).
    """
    import onnxruntime

    if not path.is_file():
        raise CompressError(
            f"there is no file {str(path)!r}",
            hint="make one with `compress export RUN --format onnx`",
            code="missing-file",
            exit=Exit.MISSING,
        )
    names = [entry if isinstance(entry, str) else entry[0] for entry in providers]
    _refuse_missing(names, onnxruntime.get_available_providers())
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.inter_op_num_threads = 1
    if threads is not None:
        options.intra_op_num_threads = threads
    if profile is not None:
        options.enable_profiling, options.profile_file_prefix = True, str(profile)
    try:
        session = onnxruntime.InferenceSession(
            str(path), options, providers=list(providers), enable_fallback=0
        )
    except Exception as error:  # ONNX Runtime raises a class per status code, without a common base
        raise CompressError(
            f"{str(path)!r} is not a model that ONNX Runtime can load: {str(error).splitlines()[0]}",
            hint="the file is damaged, unfinished, or needs a newer ONNX Runtime; export it again",
            code="bad-onnx",
            exit=Exit.MISSING,
        ) from error
    _refuse_missing(names, session.get_providers())
    return session


def _refuse_missing(asked: Sequence[str], got: Sequence[str]) -> None:
    missing = [name for name in asked if name not in got]
    if missing:
        raise CompressError(
            f"ONNX Runtime does not run on {', '.join(missing)} here; it offers {', '.join(got)}",
            hint="install the build and the libraries of that provider, or choose another back end",
            code="missing-provider",
            exit=Exit.MISSING,
            details={"asked": list(asked), "got": list(got)},
        )


@dataclass(frozen=True)
class Metadata:
    """What an ONNX file says about itself; None where it says nothing."""

    preprocess: Preprocess | None
    classes: tuple[str, ...] | None


class OnnxClassifier:
    """An ONNX image classifier in ONNX Runtime: one float32 `[B, C, H, W]` input, `[B, classes]` out.

    A file with a fixed batch size is fed full batches; the last one is filled with zeros and cut.

    Raises:
        CompressError: the file cannot be opened, or is no image classifier (exit MISSING or USAGE).
    """

    def __init__(self, path: Path, *, threads: int | None = None, providers: Providers = CPU) -> None:
        self.path = path
        self.session = open_session(path, threads=threads, providers=providers)
        self.inputs = tuple(_tensor(value) for value in self.session.get_inputs())
        self.outputs = tuple(_tensor(value) for value in self.session.get_outputs())
        self._check_shape()
        self.metadata = _metadata(path, self.session.get_modelmeta().custom_metadata_map)

    def _check_shape(self) -> None:
        shape = self.inputs[0].shape if len(self.inputs) == 1 else ()
        floats = len(self.inputs) == 1 and self.inputs[0].dtype == "float32"
        if len(shape) != 4 or not floats or len(self.outputs[0].shape) != 2:
            inputs = ", ".join(f"{t.name}: {t.dtype} {list(t.shape)}" for t in self.inputs)
            outputs = ", ".join(f"{t.name}: {t.dtype} {list(t.shape)}" for t in self.outputs)
            raise CompressError(
                f"{str(self.path)!r} is no image classifier: its inputs are ({inputs}), "
                f"its outputs ({outputs})",
                hint="one float32 input [batch, channels, height, width] and an output [batch, classes] "
                "are needed",
                code="not-a-classifier",
            )

    @property
    def batch(self) -> int | None:
        """The fixed batch size, or None where any will do."""
        first = self.inputs[0].shape[0]
        return first if isinstance(first, int) else None

    @property
    def image_shape(self) -> tuple[int | str, ...]:
        """`(channels, height, width)` of one image; a name where the file leaves a size free."""
        return self.inputs[0].shape[1:]

    @property
    def num_classes(self) -> int | None:
        """Number of outputs, or None where the file leaves it free."""
        last = self.outputs[0].shape[-1]
        return last if isinstance(last, int) else None

    def logits(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return float32 `[N, classes]` for float32 `[N, C, H, W]`."""
        if self.batch is None or len(images) == self.batch:
            return self._run(images)
        parts = [self._padded(images[i : i + self.batch]) for i in range(0, len(images), self.batch)]
        return np.concatenate(parts)

    def _padded(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        assert self.batch is not None
        full = np.zeros((self.batch, *images.shape[1:]), dtype=np.float32)
        full[: len(images)] = images
        return self._run(full)[: len(images)]

    def _run(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        feed = {self.inputs[0].name: np.ascontiguousarray(images)}
        result: NDArray[np.float32] = self.session.run([self.outputs[0].name], feed)[0]
        return result


def _tensor(value: Any) -> TensorRecord:
    shape = tuple("?" if size is None else size for size in value.shape)
    return TensorRecord(name=value.name, dtype=_DTYPES.get(value.type, value.type), shape=shape)


def onnx_metadata(path: Path) -> Metadata:
    """Return what an ONNX file says about itself, without opening it in a runtime.

    Raises:
        CompressError: it is no ONNX file, or its metadata cannot be read (exit MISSING).
    """
    import onnx

    try:
        properties = {entry.key: entry.value for entry in onnx.load(str(path)).metadata_props}
    except Exception as error:  # protobuf's decoding errors have no common base with those of the file system
        raise CompressError(
            f"{str(path)!r} is not an ONNX model",
            hint="the file is damaged or unfinished; export it again",
            code="bad-onnx",
            exit=Exit.MISSING,
        ) from error
    return _metadata(path, properties)


def _metadata(path: Path, properties: dict[str, str]) -> Metadata:
    """Read the preprocessing and the classes an export of this program writes into a file."""
    try:
        preprocess = properties.get(META_PREPROCESS)
        classes = properties.get(META_CLASSES)
        return Metadata(
            preprocess=None if preprocess is None else Preprocess.model_validate_json(preprocess),
            classes=None if classes is None else tuple(str(name) for name in json.loads(classes)),
        )
    except (ValueError, TypeError, ValidationError) as error:
        raise CompressError(
            f"the metadata of {str(path)!r} cannot be read: {str(error).splitlines()[0]}",
            hint="it was written by another version, or changed; export the run again",
            code="bad-metadata",
            exit=Exit.MISSING,
        ) from error
