"""Start measuring processes, one per job, and end them in any case; `child.py` is their script."""

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

from compress.bench.protocol.child import FORKS
from compress.bench.protocol.measure import Job, Measured, Progress
from compress.bench.protocol.memory import importable_environment
from compress.core.errors import CompressError, Exit
from compress.core.spec import Record

MEASURE = "compress.bench.protocol.measure"
"""Module whose `measure` measures comparisons."""

GRACE_S = 5.0
"""Seconds that a process without an answer gets to end by itself."""

_log = logging.getLogger(__name__)


Result = TypeVar("Result", bound=Record)


class AnyJob(Protocol):
    """A record of what to measure on one back end."""

    @property
    def backend(self) -> str:
        """Name of the back end."""

    def model_dump(self, *, mode: str) -> dict[str, Any]:
        """Return the record as values of JSON where the mode is ``json``."""


def measured(job: Job, say: Progress) -> tuple[Measured, ...]:
    """Measure comparisons in a process of their own; see `Processes.done`."""
    return done(job, MEASURE, Measured, say)


def done(job: AnyJob, module: str, result: type[Result], say: Progress) -> tuple[Result, ...]:
    """Do one job in a process of its own; see `Processes.done`."""
    with Processes() as processes:
        return processes.done(job, module, result, say)


class Processes:
    """Does each job in a fresh process.

    Importing takes longer than many a session. So on Linux one process imports, measures nothing itself, and
    forks for each job; elsewhere each job starts one.
    """

    def __init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None
        self._said: IO[bytes] | None = None

    def __enter__(self) -> Processes:
        return self

    def __exit__(self, *exception: object) -> None:
        self._close()

    def done(self, job: AnyJob, module: str, result: type[Result], say: Progress) -> tuple[Result, ...]:
        """Do a job in a process of its own.

        Args:
            job: what to do. module: the one whose `measure` does it, and which has its `Job`.
            result: the records it gives.
            say: told the progress; the process waits until it returns.

        Raises:
            CompressError: what the process raised, with its code and exit; or it died (exit BUILD).
        """
        process = self._process or self._start()
        assert self._said is not None
        going_on = False
        try:
            found = _conversation(
                process, {"module": module, "job": job.model_dump(mode="json")}, result, say
            )
            going_on = found is not None and FORKS
            if found is None:  # it is dying by itself; how, is worth knowing
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(GRACE_S)
                _end(process)
                raise _died(job.backend, process.returncode, self._said)
            return found
        finally:
            if not going_on:
                self._close()

    def _start(self) -> subprocess.Popen[str]:
        self._said = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the process
        self._process = subprocess.Popen(
            [sys.executable, "-P", str(Path(__file__).with_name("child.py"))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._said,
            text=True,
            encoding="utf-8",
            env=importable_environment(),
            start_new_session=True,  # an interrupt reaches this process, which ends that one with its own
        )
        return self._process

    def _close(self) -> None:
        if self._process is not None:
            _end(self._process)
            self._process = None
        if self._said is not None:
            self._said.close()
            self._said = None


def _conversation(
    process: subprocess.Popen[str], asked: dict[str, Any], result: type[Result], say: Progress
) -> tuple[Result, ...] | None:
    """Send the job, answer its progress, and return its result; None where it ends without one."""
    assert process.stdin is not None
    assert process.stdout is not None
    with contextlib.suppress(BrokenPipeError):
        _send(process.stdin, json.dumps(asked))
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
        f"the process that measured {backend!r} {how}: {lines[-1] if lines else 'no output'}",
        hint="the machine may be out of memory (try a smaller --batch), or the runtime is broken",
        code="backend-died",
        exit=Exit.BUILD,
        details={"backend": backend, "returncode": code, "stderr": lines[-20:]},
    )
