"""Setup that all measurements share: back ends and their settings, opened runs, progress."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from compress.artifact import RunFolder
from compress.bench import artifacts
from compress.bench.artifacts import Subject
from compress.bench.backends import OPTIONS, Backend, RunConfig, all_backends, require_backend
from compress.bench.files import Pair, Prepared
from compress.bench.protocol.worker import Progress, Side
from compress.core import nvml
from compress.core.errors import CompressError
from compress.export.trust.manifest import versions

PREPARING = 0.05
"""Share of the progress bar for preparing the networks."""

PACKAGES = (
    "onnx",
    "onnxruntime",
    "onnxruntime-gpu",
    "openvino",
    "tensorrt",
    "tensorrt-rtx",
    "numpy",
    "scipy",
)


@dataclass(frozen=True)
class BackendOptions:
    """Options that only some back ends support; see `compress.bench.backends.RunConfig`."""

    device: str = "cpu"
    channels_last: bool = False
    cuda_graph: bool = False
    transfers: bool = False
    trust: bool = False


def configured(size: int, threads: int, seed: int, choices: BackendOptions) -> RunConfig:
    """Return the settings of a session.

    Raises:
        CompressError: (USAGE) ``unknown-device``.
    """
    if choices.device not in ("cpu", "cuda"):
        raise CompressError(
            f"unknown device {choices.device!r}", hint="known: cpu, cuda", code="unknown-device"
        )
    return replace(RunConfig(size, threads, seed), **vars(choices))


def usable_backends(backend: str | Sequence[str], config: RunConfig) -> list[Backend]:
    """Return the back ends; refuse one that cannot run here, and an option that none of them supports."""
    names = backend.split(",") if isinstance(backend, str) else list(backend)
    if not all(names):
        raise CompressError(
            f"{backend!r} names no back end", hint="such as ort-cpu or ort-cpu,openvino", code="bad-option"
        )
    plain = RunConfig(config.batch, config.threads)
    for option in OPTIONS:
        _check_option(option, getattr(config, option) != getattr(plain, option), names)
    return [require_backend(name, config) for name in dict.fromkeys(names)]


def _check_option(option: str, given: bool, names: Sequence[str]) -> None:
    backends = all_backends()
    supporting = [name for name, backend in backends.items() if option in backend.options]
    if given and not set(names) & set(supporting) and set(names) <= set(backends):
        flag = f"--{option.replace('_', '-')}"
        raise CompressError(
            f"none of the back ends {', '.join(names)} supports {flag} ({option.replace('_', ' ')})",
            hint=f"leave {flag} out; the back ends that support it: {', '.join(supporting)}",
            code="bad-option",
        )


def opened(stack: contextlib.ExitStack, subjects: Sequence[tuple[Subject, Subject]]) -> dict[Path, Prepared]:
    """Open every run once, for writing; one without a compact model is refused."""
    paths = dict.fromkeys(subject.path for two in subjects for subject in two if subject.is_run)
    return {path: Prepared(stack.enter_context(RunFolder.open(path, write=True))) for path in paths}


def check_kinds(subjects: Sequence[tuple[Subject, Subject]], runtimes: Sequence[Backend]) -> None:
    """Refuse a file that one of the back ends does not read, before anything is measured."""
    for runtime in runtimes:
        for two in subjects:
            for subject in two:
                if not subject.is_run:
                    artifacts.side(subject, runtime, None)


def sides_of(two: tuple[Subject, Subject], runtime: Backend, files: dict[Path, Pair]) -> tuple[Side, Side]:
    """Return what the back end loads for both networks; `files` holds the pair of each run."""
    first, second = (artifacts.side(subject, runtime, files.get(subject.path)) for subject in two)
    return first, second


def versions_here() -> dict[str, str]:
    """Versions of the packages, and of the driver of a GPU."""
    driver = nvml.driver()
    return versions(PACKAGES) | ({} if driver is None else {"nvidia-driver": driver.version})


def place_for(out: str | Path | None, runs: dict[Path, Prepared], filename: str) -> Path | None:
    """Return where a result is written, its folder made: `out`, or in the first run; None without both."""
    place = Path(out) if out is not None else next((r.run.bench / filename for r in runs.values()), None)
    if place is not None:
        place.parent.mkdir(parents=True, exist_ok=True)
    return place


def part_of(say: Progress, start: float, length: float) -> Progress:
    """Return a progress that reports into a part of `say`'s, from `start` and of `length`."""
    return lambda what, done: say(what, start + length * done)


def silent(what: str, done: float) -> None:
    """Report nothing."""
