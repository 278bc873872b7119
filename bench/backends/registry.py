"""Registry of the back ends, and look-up by name."""

from __future__ import annotations

from pathlib import Path

from compress.bench.backends.base import (
    FOLDER,
    Backend,
    Profiler,
    RunConfig,
    file_kind,
    supported_config,
)
from compress.core.errors import CompressError, Exit
from compress.core.registry import Registry, subclass_of
from compress.export.formats import require_packages

BACKENDS: Registry[type[Backend]] = Registry(
    "back end",
    group="backends",
    package="compress.bench.backends",
    convert=subclass_of(Backend),  # type: ignore[type-abstract]
    error_code="unknown-backend",
)
"""All back ends by name."""


def list_backends() -> list[str]:
    """Return the names of all back ends, sorted.

    Example:
        >>> "ort-cpu" in list_backends()
        True
    """
    return BACKENDS.names()


def all_backends() -> dict[str, Backend]:
    """Return an instance of every back end by name, whether its packages are installed or not."""
    return {name: BACKENDS[name]() for name in list_backends()}


def get_backend(name: str) -> Backend:
    """Return the back end called `name`, after checking that its packages are installed.

    Raises:
        CompressError: the name is unknown (exit USAGE) or a package is missing (exit MISSING).
    """
    backend = BACKENDS.get_or_raise(name)()
    require_packages(backend.packages, f"the back end {name!r}")
    return backend


def require_backend(name: str, config: RunConfig) -> Backend:
    """Return the back end called `name` if it can run here as configured.

    Raises:
        CompressError: as `get_backend` and `Backend.check`.
    """
    backend = get_backend(name)
    backend.check(supported_config(backend, config))
    return backend


def get_profiler(name: str) -> Profiler:
    """Return the profiler of the back end called `name`.

    Raises:
        CompressError: the back end is unknown (``unknown-backend``) or has no profiler (``no-profiler``).
    """
    profiler = BACKENDS.get_or_raise(name).profiler
    if profiler is None:
        known = [other for other, backend in BACKENDS.items() if backend.profiler is not None]
        raise CompressError(
            f"the back end {name!r} does not report the time of each layer",
            hint=f"--explain works with: {', '.join(known)}",
            code="no-profiler",
            details={"backend": name, "known": known},
        )
    return profiler


def check_reads(backend: Backend, path: Path) -> None:
    """Check that the back end can load a path.

    Raises:
        CompressError: the path does not exist (exit MISSING), or only other back ends read it (exit USAGE).
    """
    if not path.exists():
        raise CompressError(
            f"there is no file {str(path)!r}",
            hint="check the path, or export a run with `compress export RUN`",
            code="missing-file",
            exit=Exit.MISSING,
        )
    kind = file_kind(path)
    if kind in backend.reads:
        return
    others = [name for name, other in BACKENDS.items() if kind in other.reads]
    given = "a run folder" if kind == FOLDER else f"a {kind} file" if kind else "a file without a suffix"
    reads = " and ".join("run folders" if suffix == FOLDER else suffix for suffix in backend.reads)
    raise CompressError(
        f"the back end {backend.name!r} does not read {given} ({str(path)!r}); it reads {reads}",
        hint=f"back ends that read it: {', '.join(others)}" if others else "give an exported file or a run",
        code="wrong-kind",
        details={"backend": backend.name, "reads": list(backend.reads), "path": str(path)},
    )
