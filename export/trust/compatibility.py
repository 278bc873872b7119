"""Compare the machine that an engine was built for with this one, without loading the engine.

A TensorRT engine runs on its exact version of TensorRT, its GPU model and its operating system; with hardware
compatibility on every GPU from Ampere on, with version compatibility on later versions too. A TensorRT-RTX
engine runs on its exact release and on the compute capabilities it was built for.
"""

from __future__ import annotations

import itertools
import platform as system
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from compress.export.trust.device import DeviceRecord, sm
from compress.export.trust.manifest import FileRecord

RUNTIMES = {"trt": "tensorrt", "trt-rtx": "tensorrt_rtx"}
"""Formats whose files are engines, with the package that runs them; other files run anywhere."""

RTX_TARGETS = (75, 80, 86, 89, 120, 121)
"""Compute capabilities that TensorRT-RTX 1.7 builds for."""

RTX_DEFAULT = (80, 86, 89)
"""Compute capabilities of a TensorRT-RTX engine built without targets, besides all from 12.0 on."""

AMPERE = 80
_LATER_MAJORS = {8: (10,), 10: (11,)}
_TITLES = {"tensorrt": "TensorRT", "tensorrt_rtx": "TensorRT-RTX"}
_MACHINES = {"x86_64": "x86_64", "amd64": "x86_64", "aarch64": "aarch64", "arm64": "aarch64"}


@dataclass(frozen=True)
class Mismatch:
    """A property in which a machine differs from the one an engine was built for."""

    what: str
    built: str
    here: str

    def __str__(self) -> str:
        return f"{self.what} {self.built} (here {self.here})"


def runtime_of(record: FileRecord) -> str | None:
    """Return the package that runs an engine, ``tensorrt`` or ``tensorrt_rtx``; None for other files."""
    runtime = build_of(record).get("runtime")
    return runtime if runtime in _TITLES else RUNTIMES.get(record.format)


def build_of(record: FileRecord) -> dict[str, Any]:
    """Return the build settings that the format wrote into the manifest."""
    build = record.details.get("build")
    return build if isinstance(build, dict) else {}


def mismatches(record: FileRecord, here: DeviceRecord, platform: str | None = None) -> tuple[Mismatch, ...]:
    """Return all properties that keep a file from running on a machine; empty for a file that is no engine.

    Args:
        record: of the file.
        here: the machine's GPU and runtimes.
        platform: its operating system and architecture, as `platform.platform` gives them; None takes this
            machine's.
    """
    runtime = runtime_of(record)
    if runtime is None:
        return ()
    if runtime == "tensorrt_rtx":
        return (*_version(record, runtime, here.tensorrt_rtx), *_rtx_device(record, here))
    return (
        *_version(record, runtime, here.tensorrt),
        *_device(record, here),
        *_platform(record, platform or system.platform()),
    )


def _version(record: FileRecord, runtime: str, here: str | None) -> Iterator[Mismatch]:
    build = build_of(record)
    built = build.get("runtime_version") or (record.device and getattr(record.device, runtime))
    if here is None:
        yield Mismatch(_TITLES[runtime], built or "of a version not recorded", "not installed")
    elif not built:
        yield Mismatch(_TITLES[runtime], "of a version not recorded", here)
    elif not _is_runnable(_numbers(built), _numbers(here), later=bool(build.get("version_compat"))):
        yield Mismatch(_TITLES[runtime], built, here)


def _is_runnable(built: tuple[int, ...], here: tuple[int, ...], *, later: bool) -> bool:
    """Whether the version `here` runs an engine of the version `built`; `later`: it is version compatible."""
    if not later or not built or not here:
        return built == here
    if here[0] != built[0]:
        return here[0] in _LATER_MAJORS.get(built[0], ())
    return here >= built


def _numbers(version: str) -> tuple[int, ...]:
    """Return ``10.13.3.9.post1`` as (10, 13, 3, 9)."""
    parts = itertools.takewhile(str.isdecimal, version.split("."))
    return tuple(map(int, parts))


def _device(record: FileRecord, here: DeviceRecord) -> Iterator[Mismatch]:
    """Compare GPU, compute capability and CUDA of a TensorRT engine."""
    built = record.device or DeviceRecord()
    if here.gpu is None:
        yield Mismatch("GPU", built.gpu or "not recorded", "none")
        return
    if build_of(record).get("hardware_compat"):
        number = sm(here.compute_capability)
        if number is None or number < AMPERE:
            yield Mismatch("compute capability", "8.0 or later", here.compute_capability or "unknown")
    else:
        for what, was, now in (
            ("GPU", built.gpu, here.gpu),
            ("compute capability", built.compute_capability, here.compute_capability),
        ):
            if was is None or was != now:
                yield Mismatch(what, was or "not recorded", now or "unknown")
    yield from _cuda(built, here)


def _rtx_device(record: FileRecord, here: DeviceRecord) -> Iterator[Mismatch]:
    """Compare compute capability and CUDA of a TensorRT-RTX engine, perhaps built without a GPU."""
    targets = targets_of(record)
    built = ", ".join(f"{n // 10}.{n % 10}" for n in targets) if targets else "8.0, 8.6, 8.9, 12.0 or later"
    number = sm(here.compute_capability)
    if here.gpu is None or number is None:
        yield Mismatch("GPU of compute capability", built, "none" if here.gpu is None else "unknown")
        return
    if number not in targets if targets else not _is_default_target(number):
        yield Mismatch("compute capability", built, here.compute_capability or "unknown")
    yield from _cuda(record.device or DeviceRecord(), here)


def targets_of(record: FileRecord) -> tuple[int, ...]:
    """Return the compute capabilities an engine was built for, such as (86, 89); empty for the default."""
    return tuple(int(number) for number in build_of(record).get("target_sm") or ())


def _cuda(built: DeviceRecord, here: DeviceRecord) -> Iterator[Mismatch]:
    """Compare CUDA versions; a driver runs files for any version up to its own major version."""
    if built.cuda is None:
        return
    was, now = _numbers(built.cuda), _numbers(here.cuda or "")
    if not now or now[:1] < was[:1]:
        yield Mismatch("CUDA", built.cuda, here.cuda or "unknown")


def _platform(record: FileRecord, here: str) -> Iterator[Mismatch]:
    was, now = _os(record.machine.platform), _os(here)
    if was != now:
        yield Mismatch("system", " ".join(was), " ".join(now))


def _os(text: str) -> tuple[str, str]:
    """Return ``Linux-5.10.0-x86_64-with-glibc2.36`` as (Linux, x86_64)."""
    parts = text.split("-")
    machine = next((_MACHINES[part.lower()] for part in parts if part.lower() in _MACHINES), "unknown")
    return parts[0], machine


def export_command(record: FileRecord, run: str, here: DeviceRecord | None = None) -> str:
    """Return the command that exports a file again with the same options, also for the machine `here`.

    Args:
        record: of the file.
        run: path of its run folder.
        here: a machine that it must run on as well; None adds none.
    """
    arguments = ["compress", "export", run, "--format", record.format]
    build = build_of(record)
    if record.precision != "fp32":
        arguments += ["--precision", record.precision]
    arguments += _batch_flag(record)
    targets = targets_of(record)
    new = sm(here.compute_capability) if here is not None else None
    if runtime_of(record) == "tensorrt_rtx" and (
        targets or (new is not None and not _is_default_target(new))
    ):
        all_targets = {*targets, *([new] if new is not None else [])}
        arguments += ["--target-sm", ",".join(map(str, sorted(all_targets)))]
    if build.get("workspace_mb"):
        arguments += ["--workspace", str(build["workspace_mb"])]
    arguments += [
        f"--{flag.replace('_', '-')}" for flag in ("hardware_compat", "version_compat") if build.get(flag)
    ]
    return shlex.join(arguments)


def _is_default_target(number: int) -> bool:
    return number in RTX_DEFAULT or number >= 120


def _batch_flag(record: FileRecord) -> list[str]:
    """Return the flag of its batch sizes; empty if it has the default."""
    profile = build_of(record).get("profile")
    if isinstance(profile, dict):
        sizes = [profile.get(key) for key in ("min", "opt", "max")]
        low, best, high = (size[0] if isinstance(size, (list, tuple)) else size for size in sizes)
        return ["--batch", str(low) if low == high else f"{low}:{best}:{high}"]
    return ["--batch", str(record.batch)] if isinstance(record.batch, int) else []
