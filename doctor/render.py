"""Text and table of a diagnosis."""

from __future__ import annotations

from rich.table import Table
from rich.text import Text

from compress.doctor.record import Check, Machine, Report

_GIB = 1 << 30


def render_report(report: Report) -> list[Table | str]:
    """Return the lines about the machine and the table of all checks."""
    table = Table()
    table.add_column("")
    table.add_column("name", no_wrap=True)
    table.add_column("works")
    table.add_column("detail")
    table.add_column("how to fix it")
    for title, checks in (
        ("default path", report.path),
        ("packages", report.packages),
        ("ONNX Runtime", report.providers),
        ("formats", report.formats),
        ("back ends", report.backends),
    ):
        for i, check in enumerate(checks):
            table.add_row("" if i else title, *_cells(check), end_section=i == len(checks) - 1)
    return [*_machine(report.machine), table]


def summarize(report: Report) -> str:
    """Return the result in one line."""
    if report.works:
        return "the default path works: train, export to ONNX, measure on the CPU"
    broken = next(check for check in report.path if not check.works)
    return f"the default path does not work: {broken.name}; {broken.detail}; {broken.fix}"


def _cells(check: Check) -> tuple[Text, Text, Text, Text]:
    mark = Text("yes", style="green") if check.works else Text("no", style="red")
    return Text(check.name), mark, Text(check.detail), Text(check.fix)


def _machine(machine: Machine) -> list[Table | str]:
    lines: list[Table | str] = [
        f"Python {machine.python} ({machine.executable}), {machine.platform}",
        f"{machine.cores} cores, memory {_gib(machine.memory_bytes)} "
        f"({_gib(machine.memory_free_bytes)} free), disk {_gib(machine.disk_free_bytes)} free",
    ]
    if machine.driver is None:
        return [*lines, "no NVIDIA driver, or nvidia-ml-py is not installed"]
    lines.append(f"NVIDIA driver {machine.driver}, CUDA up to {machine.cuda}, {len(machine.gpus)} GPUs")
    for gpu in machine.gpus:
        lines.append(f"{gpu.name}, compute capability {gpu.compute_capability}, {_gib(gpu.memory_bytes)}")
    return lines


def _gib(size: int | None) -> str:
    return "unknown" if size is None else f"{size / _GIB:.1f} GiB"
