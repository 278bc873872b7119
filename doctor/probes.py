"""The process that imports the packages for `compress doctor` and tries what is built on them."""

from __future__ import annotations

import os
from pathlib import Path

from compress.doctor import packages, targets
from compress.doctor.providers import try_providers
from compress.doctor.record import Probes


def run_probes(current: Path | None = None) -> Probes:
    """Import every package, then try ONNX Runtime's providers, the formats and the back ends.

    Args:
        current: file for the name of the package that is being imported, in case it crashes the process.
    """
    checks = []
    for name, pip in {**packages.NEEDED, **packages.USEFUL}.items():
        if current is not None:
            current.write_text(name, encoding="utf-8")
        checks.append(packages.probe(name, pip))
    return Probes(
        packages=tuple(checks),
        providers=try_providers(gpu=_has_gpu(checks[0].works)),
        formats=targets.try_formats(),
        backends=targets.try_backends(),
    )


def main(result: str) -> None:
    """Write the results as JSON to the file `result`, and end without unloading the packages."""
    path = Path(result)
    probes = run_probes(path.with_suffix(".current"))
    path.write_text(probes.model_dump_json(), encoding="utf-8")
    os._exit(0)


def _has_gpu(torch_works: bool) -> bool:
    """Return whether the driver lists a GPU or, if nvidia-ml-py is missing, torch sees one."""
    from compress.core import nvml

    driver = nvml.driver()
    if driver is not None and driver.gpus:
        return True
    if not torch_works:
        return False
    import torch

    return bool(torch.cuda.is_available())
