"""Try each execution provider of ONNX Runtime: a build also lists providers that do not run here.

A provider whose libraries are missing falls back to the CPU silently, so the session's providers are checked.
"""

from __future__ import annotations

import contextlib
import io
from typing import Any

import numpy as np

from compress.doctor import tiny
from compress.doctor.packages import FAILURES, NEEDED, probe, reason
from compress.doctor.record import Check

_ALL = "all providers"
_FATAL = 4
_WARNING = 2

_FIXES = {
    "CUDAExecutionProvider": "pip install 'onnxruntime-gpu[cuda,cudnn]'",
    "TensorrtExecutionProvider": "pip install 'onnxruntime-gpu[cuda,cudnn]' tensorrt, "
    "and put tensorrt_libs into LD_LIBRARY_PATH",
    "CPUExecutionProvider": f"pip install --force-reinstall {NEEDED['onnxruntime']}",
}


def try_providers(*, gpu: bool) -> tuple[Check, ...]:
    """Open and run a session with each provider that this build lists.

    Args:
        gpu: whether this machine has an NVIDIA GPU.
    """
    package = probe("onnxruntime", NEEDED["onnxruntime"])
    if not package.works:
        return (package.model_copy(update={"name": _ALL}),)
    try:
        import onnxruntime

        model = tiny.classifier()
        if gpu and hasattr(onnxruntime, "preload_dlls"):
            with contextlib.redirect_stdout(io.StringIO()):
                onnxruntime.preload_dlls()
        onnxruntime.set_default_logger_severity(_FATAL)
        try:
            return tuple(
                _try_provider(onnxruntime, name, model, gpu) for name in onnxruntime.get_available_providers()
            )
        finally:
            onnxruntime.set_default_logger_severity(_WARNING)
    except FAILURES as error:
        fix = f"pip install --force-reinstall onnx {NEEDED['onnxruntime']}"
        return (Check(name=_ALL, works=False, detail=f"not tried: {reason(error)}", fix=fix),)


def _try_provider(onnxruntime: Any, name: str, model: bytes, gpu: bool) -> Check:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = _FATAL
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    try:
        with contextlib.redirect_stdout(io.StringIO()):  # the reason of a fallback is printed
            session = onnxruntime.InferenceSession(model, options, providers=[name])
        used = session.get_providers()
        if name not in used:
            return _failed(name, f"silently falls back to {', '.join(used)}", gpu)
        logits = session.run(None, {"input": np.ones(tiny.SHAPE, np.float32)})[0]
    except FAILURES as error:
        return _failed(name, reason(error), gpu)
    if not np.allclose(logits, 64.0, rtol=1e-2):
        return _failed(name, f"computes {logits.ravel()[0]} instead of 64", gpu)
    return Check(name=name, works=True, detail="runs")


def _failed(name: str, detail: str, gpu: bool) -> Check:
    fix = _FIXES.get(name, "see the provider's page in ONNX Runtime's documentation")
    if name in ("CUDAExecutionProvider", "TensorrtExecutionProvider") and not gpu:
        fix = "needs an NVIDIA GPU with its driver"
    return Check(name=name, works=False, detail=detail, fix=fix)
