"""Records of engines as a format writes them, for comparing with machines that are not here."""

from __future__ import annotations

from typing import Any

from compress.export.trust.device import DeviceRecord
from compress.export.trust.manifest import FileRecord

LINUX = "Linux-6.1.0-x86_64-with-glibc2.36"
A10 = DeviceRecord(
    gpu="NVIDIA A10", compute_capability="8.6", driver="580.95.05", cuda="13.0", tensorrt="10.13.3.9"
)


def machine(**changes: str | None) -> DeviceRecord:
    """The machine the engine was built on, with changes."""
    return A10.model_copy(update=changes)


def trt(record: FileRecord, **build: Any) -> FileRecord:
    """A TensorRT engine built on the A10."""
    details = {"build": {"runtime": "tensorrt", "runtime_version": "10.13.3.9", **build}}
    return record.model_copy(
        update={
            "format": "trt",
            "device": A10,
            "details": details,
            "machine": record.machine.model_copy(update={"platform": LINUX}),
        }
    )


def rtx(record: FileRecord, target_sm: tuple[int, ...] | None = None) -> FileRecord:
    """A TensorRT-RTX engine built on a machine without a GPU."""
    build = {"runtime": "tensorrt_rtx", "runtime_version": "1.7.1.116", "target_sm": target_sm}
    return record.model_copy(
        update={"format": "trt-rtx", "device": DeviceRecord(), "details": {"build": build}}
    )
