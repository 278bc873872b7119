"""Formats and back ends, as their registries list them: a new one appears here by itself."""

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


def formats() -> tuple[Check, ...]:
    """Say of each export format whether its packages work here."""
    try:
        from compress.export.formats import FORMATS

        known = dict(FORMATS)
    except FAILURES as error:
        said = f"cannot be listed: {reason(error)}"
        return (Check(name="every format", works=False, said=said, mend=REINSTALL),)
    return tuple(_format(name, found) for name, found in known.items())


def _format(name: str, found: Any) -> Check:
    missing = _requires(name, found.packages)
    if missing is not None:
        return missing
    try:
        if hasattr(found, "check"):
            found.check()
    except FAILURES as error:
        return _failed(name, error)
    return Check(name=name, works=True, said=f"builds with {', '.join(found.packages)}")


def backends() -> tuple[Check, ...]:
    """Say of each back end whether it runs here; one that reads ONNX files runs a small one."""
    try:
        from compress.bench.backends.registry import backends as registered

        known = registered()
    except FAILURES as error:
        said = f"cannot be listed: {reason(error)}"
        return (Check(name="every back end", works=False, said=said, mend=REINSTALL),)
    with tempfile.TemporaryDirectory(prefix="compress-doctor-") as folder:
        path: Path | None = Path(folder) / "tiny.onnx"
        try:
            Path(folder, "tiny.onnx").write_bytes(tiny.classifier())
        except FAILURES:  # the package onnx is broken, which its own check says
            path = None
        return tuple(_backend(name, found, path) for name, found in known.items())


def _backend(name: str, found: Any, path: Path | None) -> Check:
    from compress.bench.backends.registry import RunConfig

    missing = _requires(name, found.requires)
    if missing is not None:
        return missing
    config = RunConfig(batch=1, threads=1)
    try:
        if hasattr(found, "check"):
            found.check(config)
        if ".onnx" not in getattr(found, "reads", (".onnx",)):
            return Check(name=name, works=True, said="its packages and its device are here")
        if path is None:
            return Check(name=name, works=False, said="not tried: no ONNX file can be made", mend=REINSTALL)
        runner = found.load(path, config)
        try:
            runner.run(1)
        finally:
            runner.close()
    except FAILURES as error:
        return _failed(name, error)
    return Check(name=name, works=True, said="runs")


def _requires(name: str, packages: Mapping[str, str]) -> Check | None:
    """Return the first of the packages that does not work, as the check of what needs it."""
    for module, pip in packages.items():
        found = probe(module, pip)
        if not found.works:
            return Check(name=name, works=False, said=f"{module}: {found.said}", mend=found.mend)
    return None


def _failed(name: str, error: BaseException) -> Check:
    if isinstance(error, CompressError):
        return Check(name=name, works=False, said=error.message, mend=error.hint)
    return Check(name=name, works=False, said=reason(error), mend=REINSTALL)
