"""The examination: machine, packages, providers, formats, back ends, and whether the default path works."""

from __future__ import annotations

from compress.doctor import packages, targets
from compress.doctor.machine import this_machine
from compress.doctor.providers import providers
from compress.doctor.record import Check, Report


def examine() -> Report:
    """Look at everything. Nothing is changed, and nothing that is broken is raised."""
    machine = this_machine()
    needed = tuple(packages.probe(*package) for package in packages.NEEDED.items())
    useful = tuple(packages.probe(*package) for package in packages.USEFUL.items())
    formats, backends = targets.formats(), targets.backends()
    return Report(
        machine=machine,
        path=(
            _step("train", needed[:3]),
            _step("export --format onnx", (*needed, *_named(formats, "onnx"))),
            _step("bench --backend ort-cpu", (*needed, *_named(backends, "ort-cpu"))),
        ),
        packages=(*needed, *useful),
        providers=providers(gpu=bool(machine.gpus) or _torch_sees_a_gpu(needed[0])),
        formats=formats,
        backends=backends,
    )


def _torch_sees_a_gpu(torch_works: Check) -> bool:
    """The driver may be there and the package to ask it missing."""
    if not torch_works.works:
        return False
    import torch

    return bool(torch.cuda.is_available())


def _step(name: str, on: tuple[Check, ...]) -> Check:
    """A step works if everything works that it rests on."""
    broken = next((check for check in on if not check.works), None)
    if broken is None:
        return Check(name=name, works=True, said="works")
    return Check(name=name, works=False, said=f"{broken.name}: {broken.said}", mend=broken.mend)


def _named(checks: tuple[Check, ...], name: str) -> tuple[Check, ...]:
    """The check of that name; all of them where the list could not be made."""
    return tuple(check for check in checks if check.name == name) or checks
