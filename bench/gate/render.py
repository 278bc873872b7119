"""Render the result of a quality gate as a table, as JSON, and as JUnit XML."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from xml.etree import ElementTree as xml

from rich.table import Table
from rich.text import Text

from compress.bench.gate.evaluation import GateResult, LimitResult, Outcome
from compress.core.errors import CompressError, Exit
from compress.core.files import write_bytes

_COLORS = {Outcome.PASSED: "green", Outcome.FAILED: "red", Outcome.INCONCLUSIVE: "yellow"}
_FRACTIONS = ("accuracy_drop_max", "top1_min")


def render_gate(result: GateResult) -> Table:
    """Return a Rich table with a row per limit."""
    table = Table(title=f"quality gate {result.gate}: {result.outcome}", title_justify="left")
    for name in ("rule", "back end", "network", "batch", "limit"):
        table.add_column(name)
    for name in ("value", "measured", "possible range", "margin"):
        table.add_column(name, justify="right")
    table.add_column("outcome")
    table.add_column("reason", overflow="fold")
    for check in result.checks:
        table.add_row(
            check.rule,
            check.backend,
            check.artefact,
            "-" if check.batch is None else str(check.batch),
            check.constraint,
            _number(check, check.limit),
            _number(check, check.value),
            format_range(check),
            format_margin(check),
            Text(check.outcome.value, style=_COLORS[check.outcome]),
            check.reason,
        )
    return table


def format_margin(check: LimitResult) -> str:
    """Format the distance to the limit, in percent of the limit or in points of accuracy."""
    if check.margin is None:
        return "-"
    unit = " points" if check.constraint in _FRACTIONS else "%"
    return f"{100 * check.margin:+.1f}{unit}"


def format_range(check: LimitResult) -> str:
    """Format the range of possible values."""
    if check.low is None:
        return "-"
    if check.low == check.high:
        return "exact"
    high = "?" if check.high is None else _number(check, check.high)
    return f"{_number(check, check.low)} to {high}"


def summary_lines(result: GateResult) -> list[str]:
    """Return the outcome and a hint, as lines."""
    failed, inconclusive = result.with_outcome(Outcome.FAILED), result.with_outcome(Outcome.INCONCLUSIVE)
    limits = f"{len(result.checks)} limits of {result.gate}"
    if result.outcome is Outcome.PASSED:
        return [f"all {limits} passed"]
    counts = [f"{len(failed)} failed"] if failed else []
    counts += [f"{len(inconclusive)} inconclusive"] if inconclusive else []
    return [f"error: of the {limits}, {' and '.join(counts)}", f"hint: {_hint(result)}"]


def to_json(result: GateResult) -> dict[str, Any]:
    """Return the result under `gate`, with an `error` object unless it passed."""
    values: dict[str, Any] = {"gate": result.model_dump(mode="json")}
    if result.outcome is Outcome.PASSED:
        return values
    code = "gate-failed" if result.outcome is Outcome.FAILED else "gate-inconclusive"
    message = summary_lines(result)[0].removeprefix("error: ")
    return {**values, "error": {"code": code, "message": message, "hint": _hint(result), "details": {}}}


def _hint(result: GateResult) -> str:
    if result.outcome is Outcome.FAILED:
        return "the table shows by how much; evaluate a stored result again with --replay FILE --gate FILE"
    return (
        "the table shows why; measure longer (--pairs, --budget) or on a quieter machine, or change the limit"
    )


def render_junit(result: GateResult) -> bytes:
    """Return the result as JUnit XML: a suite per back end, a case per limit.

    An inconclusive limit is an error, since pipelines show skipped cases as passed.
    """
    root = xml.Element("testsuites", {"name": f"compress gate {result.gate}", **_counts(result.checks)})
    for backend in dict.fromkeys(check.backend for check in result.checks):
        own = tuple(check for check in result.checks if check.backend == backend)
        attributes = {"name": backend, "timestamp": result.measured, **_counts(own)}
        suite = xml.SubElement(root, "testsuite", attributes)
        properties = xml.SubElement(suite, "properties")
        for name, value in (("cpu", result.machine.cpu), *(("gpu", gpu) for gpu in result.machine.gpus)):
            xml.SubElement(properties, "property", name=name, value=value)
        for check in own:
            _add_case(suite, check)
    xml.indent(root)
    text: bytes = xml.tostring(root, encoding="utf-8", xml_declaration=True)
    return text + b"\n"


def write_junit(result: GateResult, path: Path) -> None:
    """Write `render_junit` atomically; the folder is created.

    Raises:
        CompressError: the file cannot be written (exit MISSING).
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CompressError(
            f"cannot create the folder {str(path.parent)!r}: {error.strerror or error}",
            hint="give --junit a file in a writable folder",
            code="not-writable",
            exit=Exit.MISSING,
        ) from error
    write_bytes(path, render_junit(result))


def _add_case(suite: xml.Element, check: LimitResult) -> None:
    batch = "" if check.batch is None else f" batch {check.batch}"
    case = xml.SubElement(
        suite,
        "testcase",
        classname=f"{check.backend}.{check.artefact}",
        name=f"{check.constraint} = {_number(check, check.limit)}{batch} ({check.rule})",
        time="0",
    )
    message = (
        f"measured {_number(check, check.value)}, possible range {format_range(check)}, "
        f"margin {format_margin(check)}"
    )
    if check.outcome is Outcome.PASSED:
        xml.SubElement(case, "system-out").text = f"{message}; {check.reason}"
        return
    kind = "failure" if check.outcome is Outcome.FAILED else "error"
    xml.SubElement(case, kind, type=check.outcome.value, message=message).text = check.reason


def _counts(checks: tuple[LimitResult, ...]) -> dict[str, str]:
    def count(outcome: Outcome) -> str:
        return str(sum(check.outcome is outcome for check in checks))

    return {
        "tests": str(len(checks)),
        "failures": count(Outcome.FAILED),
        "errors": count(Outcome.INCONCLUSIVE),
        "skipped": "0",
        "time": "0",
    }


def _number(check: LimitResult, value: float | None) -> str:
    if value is None:
        return "-"
    if check.constraint in _FRACTIONS:
        return f"{value:.2%}"
    if check.constraint in ("macs_max", "params_max"):
        return f"{value:,.0f}"
    if check.constraint == "offline_images_per_s_min":
        return f"{value:,.0f} images/s"
    if check.constraint == "server_qps_min":
        return f"{value:,.4g} queries/s"
    if check.constraint.endswith("_ms"):
        return f"{value:.4g} ms"
    return f"{value:,.4g} MB" if check.constraint.endswith("_mb") else f"{value:.3f}x"
