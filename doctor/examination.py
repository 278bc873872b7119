"""Diagnosis of the machine: packages, providers, formats, back ends, and whether the default path works."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

from compress.doctor.machine import this_machine
from compress.doctor.record import Check, Probes, Report

_CHILD = "import sys; sys.path[:] = sys.argv[2:]; from compress.doctor.probes import main; main(sys.argv[1])"


def examine() -> Report:
    """Examine this machine and its packages. Nothing is changed, and nothing that is broken raises.

    Packages are imported in a child process, so that one that crashes the interpreter is reported too. The
    child ends without unloading torch, which saves time.
    """
    with tempfile.TemporaryDirectory(prefix="compress-doctor-") as folder:
        result = Path(folder) / "probes.json"
        with subprocess.Popen(
            [sys.executable, "-P", "-c", _CHILD, str(result), *sys.path],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        ) as process:
            machine = this_machine()
            code = process.wait()
        probes = _read_probes(result, code)
    needed = {check.name: check for check in probes.packages}
    training = tuple(needed[name] for name in ("torch", "torchvision", "accelerate") if name in needed)
    export = tuple(needed[name] for name in ("onnx", "onnxscript", "onnxruntime") if name in needed)
    return Report(
        machine=machine,
        path=(
            _step("train", training),
            _step("export --format onnx", (*training, *export, *_named(probes.formats, "onnx"))),
            _step("bench --backend ort-cpu", (*training, *export, *_named(probes.backends, "ort-cpu"))),
        ),
        **{name: getattr(probes, name) for name in Probes.model_fields},
    )


def _read_probes(result: Path, code: int) -> Probes:
    """Return the results of the child process, or one failed check if it crashed."""
    try:
        return Probes.model_validate_json(result.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        pass
    try:
        name = result.with_suffix(".current").read_text(encoding="utf-8")
    except OSError:
        name = "torch"
    crash = f"signal {-code}" if code < 0 else f"exit code {code}"
    failed = Check(
        name=name,
        works=False,
        detail=f"crashes the interpreter ({crash})",
        fix=f"pip install --force-reinstall {name}",
    )
    return Probes(packages=(failed,), providers=(), formats=(failed,), backends=(failed,))


def _step(name: str, needs: tuple[Check, ...]) -> Check:
    """Return a check that works if everything that the step needs works."""
    broken = next((check for check in needs if not check.works), None)
    if broken is None:
        return Check(name=name, works=True, detail="works")
    return Check(name=name, works=False, detail=f"{broken.name}: {broken.detail}", fix=broken.fix)


def _named(checks: tuple[Check, ...], name: str) -> tuple[Check, ...]:
    """Return the check of that name; all checks if the list could not be made."""
    return tuple(check for check in checks if check.name == name) or checks
