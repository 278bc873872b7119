"""ONNX Runtime's execution providers, each tried: what a build lists is not what runs.

A provider whose libraries are missing falls back to the CPU in silence, so the session is asked afterwards.
"""

from __future__ import annotations

import contextlib
import io
from typing import Any

import numpy as np

from compress.doctor import tiny
from compress.doctor.packages import FAILURES, NEEDED, probe, reason
from compress.doctor.record import Check

_ALL = "all of ONNX Runtime's"
_QUIET = 4  # only what ends the process
_USUAL = 2

_MENDS = {
    "CUDAExecutionProvider": "pip install 'onnxruntime-gpu[cuda,cudnn]'",
    "TensorrtExecutionProvider": "pip install 'onnxruntime-gpu[cuda,cudnn]' tensorrt, "
    "and put tensorrt_libs into LD_LIBRARY_PATH",
    "CPUExecutionProvider": f"pip install --force-reinstall {NEEDED['onnxruntime']}",
}


def providers(*, gpu: bool) -> tuple[Check, ...]:
    """Open a session with each provider this build lists, and run it.

    Args:
        gpu: whether an NVIDIA GPU is here.
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
        onnxruntime.set_default_logger_severity(_QUIET)
        try:
            return tuple(
                _try(onnxruntime, name, model, gpu) for name in onnxruntime.get_available_providers()
            )
        finally:
            onnxruntime.set_default_logger_severity(_USUAL)
    except FAILURES as error:
        mend = f"pip install --force-reinstall onnx {NEEDED['onnxruntime']}"
        return (Check(name=_ALL, works=False, said=f"not tried: {reason(error)}", mend=mend),)


def _try(onnxruntime: Any, name: str, model: bytes, gpu: bool) -> Check:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = _QUIET
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    try:
        with contextlib.redirect_stdout(io.StringIO()):  # it prints why it falls back
            session = onnxruntime.InferenceSession(model, options, providers=[name])
        got = session.get_providers()
        if name not in got:
            return _fails(name, f"falls back in silence to {', '.join(got)}", gpu)
        logits = session.run(None, {"input": np.ones(tiny.SHAPE, np.float32)})[0]
    except FAILURES as error:
        return _fails(name, reason(error), gpu)
    if not np.allclose(logits, 64.0, rtol=1e-2):
        return _fails(name, f"computes {logits.ravel()[0]} where 64 is right", gpu)
    return Check(name=name, works=True, said="runs")


def _fails(name: str, said: str, gpu: bool) -> Check:
    mend = _MENDS.get(name, "see the provider's page in ONNX Runtime's documentation")
    if name in ("CUDAExecutionProvider", "TensorrtExecutionProvider") and not gpu:
        mend = "an NVIDIA GPU with its driver; none is here"
    return Check(name=name, works=False, said=said, mend=mend)
