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
"""Fraction of the progress bar for preparing the networks."""

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


def run_config(batch: int, threads: int, seed: int, choices: BackendOptions) -> RunConfig:
    """Return the configuration of a session.

    Raises:
        CompressError: (USAGE) ``unknown-device``.
    """
    if choices.device not in ("cpu", "cuda"):
        raise CompressError(
            f"unknown device {choices.device!r}", hint="known: cpu, cuda", code="unknown-device"
        )
    return replace(RunConfig(batch, threads, seed), **vars(choices))


def usable_backends(backend: str | Sequence[str], config: RunConfig) -> list[Backend]:
    """Return the back ends called `backend`.

    Raises:
        CompressError: a back end is unknown or cannot run here, or none of them supports a given option.
    """
    names = backend.split(",") if isinstance(backend, str) else list(backend)
    if not all(names):
        raise CompressError(
            f"no back end is given: {backend!r}",
            hint="give --backend ort-cpu or ort-cpu,openvino",
            code="bad-option",
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


def open_runs(
    stack: contextlib.ExitStack, subjects: Sequence[tuple[Subject, Subject]]
) -> dict[Path, Prepared]:
    """Open every run once, for writing.

    Raises:
        CompressError: a run has no compact model (exit MISSING).
    """
    paths = dict.fromkeys(subject.path for two in subjects for subject in two if subject.is_run)
    return {path: Prepared(stack.enter_context(RunFolder.open(path, write=True))) for path in paths}


def require_readable(subjects: Sequence[tuple[Subject, Subject]], runtimes: Sequence[Backend]) -> None:
    """Check that every back end reads every file.

    Raises:
        CompressError: ``wrong-kind`` (exit USAGE).
    """
    for runtime in runtimes:
        for two in subjects:
            for subject in two:
                if not subject.is_run:
                    artifacts.side(subject, runtime, None)


def load_sides(two: tuple[Subject, Subject], runtime: Backend, files: dict[Path, Pair]) -> tuple[Side, Side]:
    """Return both networks of a comparison as a back end loads them; `files`: files of each run."""
    first, second = (artifacts.side(subject, runtime, files.get(subject.path)) for subject in two)
    return first, second


def versions_here() -> dict[str, str]:
    """Return the versions of the packages and of the NVIDIA driver."""
    driver = nvml.driver()
    return versions(PACKAGES) | ({} if driver is None else {"nvidia-driver": driver.version})


def result_path(out: str | Path | None, runs: dict[Path, Prepared], filename: str) -> Path | None:
    """Return the path of a result, with its folder created: `out`, or in the first run; None without both."""
    path = Path(out) if out is not None else next((r.run.bench / filename for r in runs.values()), None)
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
    return path


def subprogress(progress: Progress, start: float, length: float) -> Progress:
    """Return a callback that maps its fraction 0..1 to `start`..`start + length` of `progress`."""
    return lambda what, done: progress(what, start + length * done)


def no_progress(what: str, done: float) -> None:
    """Ignore progress."""
