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

        known = dict(FORMATS)
    except FAILURES as error:
        detail = f"cannot be listed: {reason(error)}"
        return (Check(name="all formats", works=False, detail=detail, fix=REINSTALL),)
    return tuple(_try_format(name, found) for name, found in known.items())


def _try_format(name: str, found: Any) -> Check:
    missing = _missing_package(name, found.packages)
    if missing is not None:
        return missing
    try:
        if hasattr(found, "check"):
            found.check()
    except FAILURES as error:
        return _failed(name, error)
    return Check(name=name, works=True, detail=f"builds with {', '.join(found.packages)}")


def try_backends() -> tuple[Check, ...]:
    """Check for each back end whether it runs here; one that reads ONNX files runs a small one."""
    try:
        from compress.bench.backends.registry import backends as registered

        known = registered()
    except FAILURES as error:
        detail = f"cannot be listed: {reason(error)}"
        return (Check(name="all back ends", works=False, detail=detail, fix=REINSTALL),)
    with tempfile.TemporaryDirectory(prefix="compress-doctor-") as folder:
        path: Path | None = Path(folder) / "tiny.onnx"
        try:
            Path(folder, "tiny.onnx").write_bytes(tiny.classifier())
        except FAILURES:  # the package onnx is broken, as its own check reports
            path = None
        return tuple(_try_backend(name, found, path) for name, found in known.items())


def _try_backend(name: str, found: Any, path: Path | None) -> Check:
    from compress.bench.backends.registry import RunConfig

    missing = _missing_package(name, found.requires)
    if missing is not None:
        return missing
    config = RunConfig(batch=1, threads=1)
    try:
        if hasattr(found, "check"):
            found.check(config)
        if ".onnx" not in getattr(found, "reads", (".onnx",)):
            return Check(name=name, works=True, detail="packages and device are available")
        if path is None:
            return Check(
                name=name, works=False, detail="not tried: no ONNX file can be written", fix=REINSTALL
            )
        runner = found.load(path, config)
        try:
            runner.run(1)
        finally:
            runner.close()
    except FAILURES as error:
        return _failed(name, error)
    return Check(name=name, works=True, detail="runs")


def _missing_package(name: str, packages: Mapping[str, str]) -> Check | None:
    """Return a failed check called `name` for the first package that does not work; None if all do."""
    for module, pip in packages.items():
        found = probe(module, pip)
        if not found.works:
            return Check(name=name, works=False, detail=f"{module}: {found.detail}", fix=found.fix)
    return None


def _failed(name: str, error: BaseException) -> Check:
    if isinstance(error, CompressError):
        return Check(name=name, works=False, detail=error.message, fix=error.hint)
    return Check(name=name, works=False, detail=reason(error), fix=REINSTALL)
