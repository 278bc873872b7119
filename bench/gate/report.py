"""A gate's result for people (a table) and for pipelines (JUnit XML)."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from xml.etree import ElementTree as xml

from rich.table import Table
from rich.text import Text

from compress.bench.gate.judge import Check, GateResult, Outcome
from compress.core.errors import CompressError, Exit
from compress.core.files import write_bytes

_COLOURS = {Outcome.PASSED: "green", Outcome.FAILED: "red", Outcome.INCONCLUSIVE: "yellow"}
_FRACTIONS = ("accuracy_drop_max", "top1_min")


def table(found: GateResult) -> Table:
    """Return a row for each constraint, with its margin."""
    made = Table(title=f"gate {found.gate}: {found.outcome}", title_justify="left")
    for name in ("rule", "back end", "network", "batch", "constraint"):
        made.add_column(name)
    for name in ("limit", "found", "possible", "margin"):
        made.add_column(name, justify="right")
    made.add_column("outcome")
    made.add_column("why", overflow="fold")
    for check in found.checks:
        made.add_row(
            check.rule,
            check.backend,
            check.artefact,
            "-" if check.batch is None else str(check.batch),
            check.constraint,
            _number(check, check.limit),
            _number(check, check.value),
            possible(check),
            margin(check),
            Text(check.outcome.value, style=_COLOURS[check.outcome]),
            check.reason,
        )
    return made


def margin(check: Check) -> str:
    """Return the room to the limit, in percent of it or in points of accuracy."""
    if check.margin is None:
        return "-"
    unit = " points" if check.constraint in _FRACTIONS else "%"
    return f"{100 * check.margin:+.1f}{unit}"


def possible(check: Check) -> str:
    """Return what the measurement leaves possible."""
    if check.low is None:
        return "-"
    if check.low == check.high:
        return "exact"
    return f"{_number(check, check.low)} to {_number(check, check.high) if check.high is not None else 'any'}"


def verdict(found: GateResult) -> list[str]:
    """Say what did not pass and what may be done, as lines."""
    failed, undecided = found.having(Outcome.FAILED), found.having(Outcome.INCONCLUSIVE)
    every = f"{len(found.checks)} constraints of {found.gate}"
    if found.outcome is Outcome.PASSED:
        return [f"all {every} hold"]
    counts = [f"{len(failed)} failed"] if failed else []
    counts += [f"{len(undecided)} cannot be decided"] if undecided else []
    return [f"error: of the {every}, {' and '.join(counts)}", f"hint: {_hint(found)}"]


def to_json(found: GateResult) -> dict[str, Any]:
    """Return the result as `gate`, with an `error` as every failed command has one."""
    values: dict[str, Any] = {"gate": found.model_dump(mode="json")}
    if found.outcome is Outcome.PASSED:
        return values
    code = "gate-failed" if found.outcome is Outcome.FAILED else "gate-inconclusive"
    message = verdict(found)[0].removeprefix("error: ")
    return {**values, "error": {"code": code, "message": message, "hint": _hint(found), "details": {}}}


def _hint(found: GateResult) -> str:
    if found.outcome is Outcome.FAILED:
        return "the table says by how much; a stored result is judged again with --replay FILE --gate FILE"
    return "the table says why; measure longer (--pairs, --budget) or on a quieter machine, or move the limit"


def junit(found: GateResult) -> bytes:
    """Return the result as JUnit XML: a suite for each back end, a case for each constraint.

    What cannot be decided is an error, since pipelines show what is skipped as green.
    """
    root = xml.Element("testsuites", {"name": f"compress gate {found.gate}", **_counts(found.checks)})
    for backend in dict.fromkeys(check.backend for check in found.checks):
        own = tuple(check for check in found.checks if check.backend == backend)
        said = {"name": backend, "timestamp": found.measured, **_counts(own)}
        suite = xml.SubElement(root, "testsuite", said)
        properties = xml.SubElement(suite, "properties")
        for name, value in (("cpu", found.machine.cpu), *(("gpu", gpu) for gpu in found.machine.gpus)):
            xml.SubElement(properties, "property", name=name, value=value)
        for check in own:
            _case(suite, check)
    xml.indent(root)
    text: bytes = xml.tostring(root, encoding="utf-8", xml_declaration=True)
    return text + b"\n"


def write_junit(found: GateResult, path: Path) -> None:
    """Write `junit`, whole or not at all; its folder is made.

    Raises:
        CompressError: it cannot be written there (exit MISSING).
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CompressError(
            f"cannot make the folder {str(path.parent)!r}: {error.strerror or error}",
            hint="choose a file you may write with --junit",
            code="not-writable",
            exit=Exit.MISSING,
        ) from error
    write_bytes(path, junit(found))


def _case(suite: xml.Element, check: Check) -> None:
    batch = "" if check.batch is None else f" batch {check.batch}"
    case = xml.SubElement(
        suite,
        "testcase",
        classname=f"{check.backend}.{check.artefact}",
        name=f"{check.constraint} = {_number(check, check.limit)}{batch} ({check.rule})",
        time="0",
    )
    said = f"found {_number(check, check.value)}, possible {possible(check)}, margin {margin(check)}"
    if check.outcome is Outcome.PASSED:
        xml.SubElement(case, "system-out").text = f"{said}; {check.reason}"
        return
    kind = "failure" if check.outcome is Outcome.FAILED else "error"
    xml.SubElement(case, kind, type=check.outcome.value, message=said).text = check.reason


def _counts(checks: tuple[Check, ...]) -> dict[str, str]:
    def count(outcome: Outcome) -> str:
        return str(sum(check.outcome is outcome for check in checks))

    return {
        "tests": str(len(checks)),
        "failures": count(Outcome.FAILED),
        "errors": count(Outcome.INCONCLUSIVE),
        "skipped": "0",
        "time": "0",
    }


def _number(check: Check, value: float | None) -> str:
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
