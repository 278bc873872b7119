"""ONNX Runtime sessions, opened with exactly the requested execution providers, and a classifier on top."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compress.core.errors import CompressError, Exit
from compress.export.trust.manifest import TensorRecord
from compress.export.trust.onnx_metadata import parse_onnx_metadata

CPU_PROVIDERS = ("CPUExecutionProvider",)

_DTYPES = {"tensor(float)": "float32", "tensor(float16)": "float16", "tensor(int64)": "int64"}

Providers = Sequence[str | tuple[str, dict[str, str]]]
"""Names of execution providers, in order of preference, with their options where they need any."""


def open_session(
    path: Path,
    *,
    threads: int | None = None,
    providers: Providers = CPU_PROVIDERS,
    profile: Path | None = None,
) -> Any:
    """Open an ONNX file in ONNX Runtime with exactly the requested execution providers.

    Args:
        path: the ONNX file.
        threads: intra-op threads; None for ONNX Runtime's default. There is always one inter-op thread.
        providers: execution providers, in order of preference.
        profile: prefix of the path of the profile that the session writes when it ends; None for no profile.

    Raises:
        CompressError: no such file, not an ONNX model, or ONNX Runtime lacks a provider or replaced it by
            another one (exit MISSING).
    """
    import onnxruntime

    if not path.is_file():
        raise CompressError(
            f"there is no file {str(path)!r}",
            hint="check the path, or export a run with `compress export RUN --format onnx`",
            code="missing-file",
            exit=Exit.MISSING,
        )
    names = [entry if isinstance(entry, str) else entry[0] for entry in providers]
    _require_providers(names, onnxruntime.get_available_providers())
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
            hint="the file is damaged, incomplete, or needs a newer ONNX Runtime; export it again",
            code="bad-onnx",
            exit=Exit.MISSING,
        ) from error
    _require_providers(names, session.get_providers())
    return session


def _require_providers(requested: Sequence[str], available: Sequence[str]) -> None:
    missing = [name for name in requested if name not in available]
    if missing:
        raise CompressError(
            f"ONNX Runtime cannot use {', '.join(missing)} on this machine; it offers {', '.join(available)}",
            hint="install the build of ONNX Runtime and the libraries for that provider, "
            "or choose another back end",
            code="missing-provider",
            exit=Exit.MISSING,
            details={"asked": list(requested), "got": list(available)},
        )


class OnnxClassifier:
    """An ONNX image classifier in ONNX Runtime: one float32 `[B, C, H, W]` input, `[B, classes]` output.

    A file with a fixed batch size gets full batches; the last one is padded with zeros and the result cut.

    Raises:
        CompressError: the file cannot be opened, or is not an image classifier (exit MISSING or USAGE).
    """

    def __init__(
        self, path: Path, *, threads: int | None = None, providers: Providers = CPU_PROVIDERS
    ) -> None:
        self.path = path
        self.session = open_session(path, threads=threads, providers=providers)
        self.inputs = tuple(_tensor_record(value) for value in self.session.get_inputs())
        self.outputs = tuple(_tensor_record(value) for value in self.session.get_outputs())
        self._check_shape()
        self.metadata = parse_onnx_metadata(path, self.session.get_modelmeta().custom_metadata_map)

    def _check_shape(self) -> None:
        shape = self.inputs[0].shape if len(self.inputs) == 1 else ()
        is_float = len(self.inputs) == 1 and self.inputs[0].dtype == "float32"
        if len(shape) != 4 or not is_float or len(self.outputs[0].shape) != 2:
            inputs = ", ".join(f"{t.name}: {t.dtype} {list(t.shape)}" for t in self.inputs)
            outputs = ", ".join(f"{t.name}: {t.dtype} {list(t.shape)}" for t in self.outputs)
            raise CompressError(
                f"{str(self.path)!r} is not an image classifier: its inputs are ({inputs}), "
                f"its outputs ({outputs})",
                hint="it must have one float32 input [batch, channels, height, width] and an output "
                "[batch, classes]",
                code="not-a-classifier",
            )

    @property
    def batch(self) -> int | None:
        """The fixed batch size, or None for any."""
        first = self.inputs[0].shape[0]
        return first if isinstance(first, int) else None

    @property
    def image_shape(self) -> tuple[int | str, ...]:
        """`(channels, height, width)` of one image; a name for a size that the file leaves free."""
        return self.inputs[0].shape[1:]

    @property
    def num_classes(self) -> int | None:
        """Number of outputs, or None if the file leaves it free."""
        last = self.outputs[0].shape[-1]
        return last if isinstance(last, int) else None

    def logits(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return float32 `[N, classes]` for float32 `[N, C, H, W]`."""
        if self.batch is None or len(images) == self.batch:
            return self._run(images)
        parts = [self._run_padded(images[i : i + self.batch]) for i in range(0, len(images), self.batch)]
        return np.concatenate(parts)

    def _run_padded(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        assert self.batch is not None
        padded = np.zeros((self.batch, *images.shape[1:]), dtype=np.float32)
        padded[: len(images)] = images
        return self._run(padded)[: len(images)]

    def _run(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        feed = {self.inputs[0].name: np.ascontiguousarray(images)}
        result: NDArray[np.float32] = self.session.run([self.outputs[0].name], feed)[0]
        return result


def _tensor_record(value: Any) -> TensorRecord:
    shape = tuple("?" if size is None else size for size in value.shape)
    return TensorRecord(name=value.name, dtype=_DTYPES.get(value.type, value.type), shape=shape)
