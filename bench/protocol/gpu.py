"""State of the GPU during a comparison: clocks, temperature, power, memory and throttling.

NVML is read between two blocks, never while one is timed.
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
"""Reasons of NVML's `nvmlDeviceGetCurrentClocksEventReasons` that mean throttling.

The other reasons (idle, clocks set by the user, sync boost) are settings, not disturbances.
"""


class GpuBlock(Record):
    """State of the GPU right after one block of pairs.

    Attributes:
        sm_mhz, memory_mhz: clocks.
        celsius: temperature.
        watts: current power.
        used_bytes: memory in use by all processes.
        throttled: the reasons of `THROTTLES` that apply.
    """

    sm_mhz: int
    memory_mhz: int
    celsius: int
    watts: float
    used_bytes: int
    throttled: tuple[str, ...] = ()


class GpuRecord(Record):
    """State of the GPU during a comparison.

    Attributes:
        blocks: one after each ABBA block, in the order measured.
        affected: indices (from 0) of the throttled blocks; pairs 2n and 2n + 1 belong to block n.
    """

    blocks: tuple[GpuBlock, ...]
    affected: tuple[int, ...]


def throttle_reasons(bits: int) -> tuple[str, ...]:
    """Return the throttling reasons of NVML's bit mask, in words."""
    return tuple(reason for bit, reason in THROTTLES.items() if bits & bit)


def gpu_record(blocks: list[GpuBlock]) -> GpuRecord:
    """Return the record of a comparison, given the states after its blocks."""
    affected = tuple(i for i, block in enumerate(blocks) if block.throttled)
    return GpuRecord(blocks=tuple(blocks), affected=affected)


def open_nvml() -> tuple[Any, Any] | str:
    """Return NVML and the handle of the GPU that torch uses, or the reason why there is none.

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
            return "PyTorch finds no NVIDIA GPU"
        identity = torch.cuda.get_device_properties(torch.cuda.current_device()).uuid
        return pynvml, pynvml.nvmlDeviceGetHandleByUUID(f"GPU-{identity}")
    except pynvml.NVMLError as error:
        return f"NVML reports: {error}"


def read_block(device: tuple[Any, Any]) -> GpuBlock | None:
    """Return the current state of the GPU of `open_nvml`; None if it cannot be read."""
    nvml, gpu = device
    try:
        return GpuBlock(
            sm_mhz=nvml.nvmlDeviceGetClockInfo(gpu, nvml.NVML_CLOCK_SM),
            memory_mhz=nvml.nvmlDeviceGetClockInfo(gpu, nvml.NVML_CLOCK_MEM),
            celsius=nvml.nvmlDeviceGetTemperature(gpu, nvml.NVML_TEMPERATURE_GPU),
            watts=nvml.nvmlDeviceGetPowerUsage(gpu) / 1e3,
            used_bytes=nvml.nvmlDeviceGetMemoryInfo(gpu).used,
            throttled=throttle_reasons(nvml.nvmlDeviceGetCurrentClocksThrottleReasons(gpu)),
        )
    except nvml.NVMLError:
        return None
