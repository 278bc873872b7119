"""Starting the process that measures one back end, and ending it whatever happens (see `bench.child`)."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import IO, Any, Protocol, TypeVar

from bench.measure import Job, Measured, Progress
from bench.memory import importable
from compress.errors import CompressError, Exit
from compress.spec import Record

GRACE_S = 5.0
"""Seconds a process that fell silent has to end by itself."""

_log = logging.getLogger(__name__)


Result = TypeVar("Result", bound=Record)


class AnyJob(Protocol):
    """What a process is given: it says for which back end, and how it is written as JSON."""

    @property
    def backend(self) -> str:
        """Name of the back end."""

    def model_dump_json(self) -> str:
        """The job as JSON."""


def measured(job: Job, say: Progress) -> tuple[Measured, ...]:
    """Measure a job in a process of its own; see `done`."""
    return done(job, "bench.measure", Measured, say)


def done(job: AnyJob, module: str, result: type[Result], say: Progress) -> tuple[Result, ...]:
    """Do a job in a process of its own.

    Args:
        job: what to do. module: the one whose `measure` does it, and whose `Job` it is.
        result: the records it gives.
        say: told the progress; the process waits until it returns.

    Raises:
        CompressError: what the process raised, with its code and exit; or it died (exit BUILD).
    """
    script = Path(__file__).with_name("child.py")
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen(
            [sys.executable, "-P", str(script), module],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=said,
            text=True,
            encoding="utf-8",
            env=importable(),
            start_new_session=True,  # an interrupt reaches this process, which ends that one with its own
        )
        try:
            found = _conversation(process, job, result, say)
            if found is None:  # it is dying by itself; how, is worth knowing
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(GRACE_S)
        finally:
            _end(process)
        if found is None:
            raise _died(job.backend, process.returncode, said)
        return found


def _conversation(
    process: subprocess.Popen[str], job: AnyJob, result: type[Result], say: Progress
) -> tuple[Result, ...] | None:
    """Send the job, answer its progress, and return its result; None where it ends without one."""
    assert process.stdin is not None
    assert process.stdout is not None
    with contextlib.suppress(BrokenPipeError):
        _send(process.stdin, job.model_dump_json())
        for line in process.stdout:
            message: dict[str, Any] = json.loads(line)
            if "progress" in message:
                say(*message["progress"])
                _send(process.stdin, "")
            elif "warning" in message:
                _log.warning("%s", message["warning"])
            elif "error" in message:
                raise _raised(message["error"])
            else:
                return tuple(result.model_validate(entry) for entry in message["result"])
    return None


def _send(stream: IO[str], text: str) -> None:
    stream.write(text + "\n")
    stream.flush()


def _end(process: subprocess.Popen[str]) -> None:
    """End the process and whatever it started, and close its pipes."""
    if process.returncode is None:  # not waited for yet: the number is still its own
        if hasattr(os, "killpg"):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
        process.kill()
        process.wait()
    for stream in (process.stdin, process.stdout):
        if stream is not None:
            with contextlib.suppress(OSError):
                stream.close()


def _raised(fields: dict[str, Any]) -> CompressError:
    if "traceback" in fields:
        _log.info("in the process that measures:\n%s", fields["traceback"])
    return CompressError(
        fields["message"],
        hint=fields["hint"],
        code=fields["code"],
        exit=Exit(fields["exit"]),
        details=fields["details"],
    )


def _died(backend: str, code: int, said: IO[bytes]) -> CompressError:
    said.seek(0)
    lines = [line.strip() for line in said.read().decode(errors="replace").splitlines() if line.strip()]
    how = f"was ended by signal {signal.Signals(-code).name}" if code < 0 else f"ended with {code}"
    return CompressError(
        f"the process that measured {backend!r} {how}: {lines[-1] if lines else 'it said nothing'}",
        hint="the machine may be out of memory (try a smaller --batch), or the runtime is broken",
        code="backend-died",
        exit=Exit.BUILD,
        details={"backend": backend, "returncode": code, "stderr": lines[-20:]},
    )
