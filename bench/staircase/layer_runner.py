"""Load a single layer at one width on a back end."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from compress.bench.backends import FOLDER, Backend, RunConfig, Runner
from compress.bench.staircase.layer_models import LayerModule, image_size, write_onnx
from compress.core.errors import CompressError
from compress.core.files import sha256_file
from compress.cost import LayerShape

if TYPE_CHECKING:
    from compress.bench.backends.torch_modules import Loaded


@runtime_checkable
class ModuleBackend(Protocol):
    """A back end that runs modules in memory."""

    def load_module(self, load: Callable[[], Loaded], config: RunConfig) -> Runner:
        """Load the result of `load`; the time of the call counts as loading time."""


def load_layer(backend: Backend, shape: LayerShape, config: RunConfig, folder: Path) -> Runner:
    """Load a layer as a network of its own; temporary files in `folder` are removed.

    Raises:
        CompressError: the back end cannot run the layer, or no engine can be built (exit MISSING or BUILD).
    """
    if FOLDER in backend.reads:
        return _load_module(backend, shape, config)
    path = folder / "layer.onnx"
    write_onnx(shape, path)
    try:
        if ".onnx" in backend.reads:
            return backend.load(path, config)
        return _load_engine(backend, path, config)
    finally:
        path.unlink()


def _load_module(backend: Backend, shape: LayerShape, config: RunConfig) -> Runner:
    from compress.bench.backends.torch_modules import Loaded

    if not isinstance(backend, ModuleBackend):
        raise CompressError(
            f"the back end {backend.name!r} can run whole runs only, not single layers",
            hint="choose another back end",
            code="no-layers",
        )
    if shape.kind == "linear":  # its features are the last dimension already
        config = replace(config, channels_last=False)
    return backend.load_module(
        lambda: Loaded(LayerModule(shape).eval(), image_size(shape), shape.out_channels), config
    )


def _load_engine(backend: Backend, source: Path, config: RunConfig) -> Runner:
    """Build an engine for this batch size and load it."""
    from compress.export.formats.tensorrt_build import build_engine  # type: ignore[import-not-found, unused-ignore]
    from compress.export.options import BatchRange, Options  # type: ignore[import-not-found, unused-ignore]

    name = next(iter(backend.packages))
    module: Any = importlib.import_module(name)
    sizes = BatchRange(config.batch, config.batch, config.batch)
    path = source.with_name(f"layer{backend.reads[0]}")
    path.write_bytes(memoryview(build_engine(module, source, Options(batch=sizes), name).data))
    try:
        return backend.load(path, replace(config, sha256=sha256_file(path)))
    finally:
        path.unlink()
