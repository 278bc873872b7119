"""Run an engine for the parity check; torch owns the buffers on the GPU."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from compress.export.formats.tensorrt_build import collecting_logger
from compress.export.types import NotRun


def open_engine(module: Any, path: Path, runtime: str) -> EngineClassifier | NotRun:
    """Load an engine that this process has built; return `NotRun` if this machine cannot run it.

    Args:
        module: `tensorrt` or `tensorrt_rtx`.
        path: the engine.
        runtime: name of the runtime for messages.
    """
    if not torch.cuda.is_available():
        return NotRun("no device: this machine has no NVIDIA GPU")
    logger, log = collecting_logger(module)
    loader = module.Runtime(logger)
    engine = loader.deserialize_cuda_engine(path.read_bytes())
    if engine is None:
        name = torch.cuda.get_device_name()
        return NotRun(f"{runtime} does not run this engine on the {name}: {log.last_error()}")
    return EngineClassifier(module, engine, keep=(logger, loader))


class EngineClassifier:
    """An engine with one float32 image input and one `[B, classes]` output, on the first GPU.

    A batch smaller than the profile's smallest is padded with zeros and the result cut. `keep` holds objects
    that must live as long as the engine.
    """

    def __init__(self, module: Any, engine: Any, *, keep: Any = None) -> None:
        self._keep = (engine, keep)
        names = [engine.get_tensor_name(i) for i in range(engine.num_io_tensors)]
        modes = {name: engine.get_tensor_mode(name) for name in names}
        self._input = next(name for name in names if modes[name] == module.TensorIOMode.INPUT)
        self._output = next(name for name in names if modes[name] == module.TensorIOMode.OUTPUT)
        smallest, _, largest = engine.get_tensor_profile_shape(self._input, 0)
        self._sizes = (int(smallest[0]), int(largest[0]))
        self._context = engine.create_execution_context()
        self._stream: Any = torch.cuda.Stream()  # type: ignore[no-untyped-call]

    @property
    def batch(self) -> int | None:
        """The fixed batch size, or None for a range."""
        return self._sizes[0] if self._sizes[0] == self._sizes[1] else None

    def logits(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return float32 `[N, classes]` for float32 `[N, C, H, W]`."""
        size = self._sizes[1]
        parts = [self._run(images[i : i + size]) for i in range(0, len(images), size)]
        return np.concatenate(parts)

    def _run(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        inputs = torch.zeros(max(len(images), self._sizes[0]), *images.shape[1:], device="cuda")
        inputs[: len(images)] = torch.from_numpy(images).cuda()
        self._context.set_input_shape(self._input, tuple(inputs.shape))
        outputs = torch.empty(tuple(self._context.get_tensor_shape(self._output)), device="cuda")
        self._context.set_tensor_address(self._input, inputs.data_ptr())
        self._context.set_tensor_address(self._output, outputs.data_ptr())
        torch.cuda.current_stream().synchronize()
        if not self._context.execute_async_v3(self._stream.cuda_stream):
            raise RuntimeError("the engine could not be started")
        self._stream.synchronize()
        result: NDArray[np.float32] = outputs[: len(images)].cpu().numpy()
        return result
