"""The state of the GPU during a comparison: clocks, temperature, power, memory, and what held it back.

NVML is asked between two blocks, never while one is timed.
"""

from __future__ import annotations

from typing import Any

from compress.core.spec import Record

THROTTLES = {
    0x04: "power cap",
    0x08: "hardware slowdown",
    0x20: "software thermal slowdown",
    0x40: "hardware thermal slowdown",
    0x80: "power brake",
}
"""Reasons of NVML's `nvmlDeviceGetCurrentClocksEventReasons` for which a GPU runs slower than it should.

The others (idle, clocks that were chosen, sync boost) are settings, not disturbances.
"""


class GpuBlock(Record):
    """The state of the GPU right after one block of pairs.

    Attributes:
        sm_mhz, memory_mhz: clocks.
        celsius: temperature. watts: power now.
        used_bytes: of its memory, by every process.
        throttled: what of `THROTTLES` held it back.
    """

    sm_mhz: int
    memory_mhz: int
    celsius: int
    watts: float
    used_bytes: int
    throttled: tuple[str, ...] = ()


class GpuRecord(Record):
    """The state of the GPU over a comparison.

    Attributes:
        blocks: one after each ABBA block, in the order measured.
        affected: which of them (from 0) were throttled; pairs 2n and 2n + 1 belong to block n.
    """

    blocks: tuple[GpuBlock, ...]
    affected: tuple[int, ...]


def reasons(bits: int) -> tuple[str, ...]:
    """Return in words what held a GPU back, of NVML's bit mask."""
    return tuple(word for bit, word in THROTTLES.items() if bits & bit)


def gpu_record(blocks: list[GpuBlock]) -> GpuRecord:
    """Return the record of a comparison from the states after its blocks."""
    affected = tuple(i for i, block in enumerate(blocks) if block.throttled)
    return GpuRecord(blocks=tuple(blocks), affected=affected)


def handle() -> tuple[Any, Any] | str:
    """Return NVML and the handle of the GPU that torch uses, or why there is none.

    NVML stays open until the process ends.
    """
    try:
        import pynvml
    except ImportError:
        return "the package nvidia-ml-py is not installed"
    try:
        pynvml.nvmlInit()
        import torch

        if not torch.cuda.is_available():
            return "torch sees no NVIDIA GPU"
        identity = torch.cuda.get_device_properties(torch.cuda.current_device()).uuid
        return pynvml, pynvml.nvmlDeviceGetHandleByUUID(f"GPU-{identity}")
    except pynvml.NVMLError as error:
        return f"NVML says: {error}"


def block(found: tuple[Any, Any]) -> GpuBlock | None:
    """Return the state of now; None where the GPU does not tell."""
    nvml, gpu = found
    try:
        return GpuBlock(
            sm_mhz=nvml.nvmlDeviceGetClockInfo(gpu, nvml.NVML_CLOCK_SM),
            memory_mhz=nvml.nvmlDeviceGetClockInfo(gpu, nvml.NVML_CLOCK_MEM),
            celsius=nvml.nvmlDeviceGetTemperature(gpu, nvml.NVML_TEMPERATURE_GPU),
            watts=nvml.nvmlDeviceGetPowerUsage(gpu) / 1e3,
            used_bytes=nvml.nvmlDeviceGetMemoryInfo(gpu).used,
            throttled=reasons(nvml.nvmlDeviceGetCurrentClocksThrottleReasons(gpu)),
        )
    except nvml.NVMLError:
        return None
