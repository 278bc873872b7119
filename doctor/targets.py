"""Try each format and back end of the registries."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from compress.core.errors import CompressError
from compress.doctor import tiny
from compress.doctor.packages import FAILURES, probe, reason
from compress.doctor.record import Check

REINSTALL = "pip install --force-reinstall compress-cnn"


def try_formats() -> tuple[Check, ...]:
    """Check for each export format whether its packages work here."""
    try:
        from compress.export.formats import FORMATS

        entries = dict(FORMATS)
    except FAILURES as error:
        return (_not_listed("all formats", error),)
    checks = tuple(_try_format(name, entry) for name, entry in entries.items())
    return (*checks, *_broken_plugins(FORMATS.failures))


def _try_format(name: str, entry: Any) -> Check:
    missing = _missing_package(name, entry.packages)
    if missing is not None:
        return missing
    try:
        if hasattr(entry, "check"):
            entry.check()
    except FAILURES as error:
        return _failed(name, error)
    return Check(name=name, works=True, detail=f"builds with {', '.join(entry.packages)}")


def try_backends() -> tuple[Check, ...]:
    """Check for each back end whether it runs here; one that reads ONNX files runs a small one."""
    try:
        from compress.bench.backends import BACKENDS, all_backends

        entries = all_backends()
    except FAILURES as error:
        return (_not_listed("all back ends", error),)
    with tempfile.TemporaryDirectory(prefix="compress-doctor-") as folder:
        path: Path | None = Path(folder) / "tiny.onnx"
        try:
            Path(folder, "tiny.onnx").write_bytes(tiny.classifier())
        except FAILURES:  # the package onnx is broken, as its own check reports
            path = None
        checks = tuple(_try_backend(name, entry, path) for name, entry in entries.items())
    return (*checks, *_broken_plugins(BACKENDS.failures))


def _try_backend(name: str, entry: Any, path: Path | None) -> Check:
    from compress.bench.backends import RunConfig

    missing = _missing_package(name, entry.packages)
    if missing is not None:
        return missing
    config = RunConfig(batch=1, threads=1)
    try:
        if hasattr(entry, "check"):
            entry.check(config)
        if ".onnx" not in getattr(entry, "reads", (".onnx",)):
            return Check(name=name, works=True, detail="packages and device are available")
        if path is None:
            detail = "not tried: no ONNX file can be written"
            return Check(name=name, works=False, detail=detail, fix=REINSTALL)
        runner = entry.load(path, config)
        try:
            runner.run(1)
        finally:
            runner.close()
    except FAILURES as error:
        return _failed(name, error)
    return Check(name=name, works=True, detail="runs")


def _not_listed(name: str, error: BaseException) -> Check:
    return Check(name=name, works=False, detail=f"cannot be listed: {reason(error)}", fix=REINSTALL)


def _broken_plugins(failures: Mapping[str, str]) -> list[Check]:
    """Return a failed check for each entry point of another package that could not be loaded."""
    fix = "repair or uninstall the package that provides it"
    return [
        Check(name=name, works=False, detail=f"broken plug-in: {why}", fix=fix)
        for name, why in failures.items()
    ]


def _missing_package(name: str, packages: Mapping[str, str]) -> Check | None:
    """Return a failed check called `name` for the first package that does not work; None if all do."""
    for module, pip in packages.items():
        check = probe(module, pip)
        if not check.works:
            return Check(name=name, works=False, detail=f"{module}: {check.detail}", fix=check.fix)
    return None


def _failed(name: str, error: BaseException) -> Check:
    if isinstance(error, CompressError):
        return Check(name=name, works=False, detail=error.message, fix=error.hint)
    return Check(name=name, works=False, detail=reason(error), fix=REINSTALL)
