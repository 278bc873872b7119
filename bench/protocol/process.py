"""Run each job of a worker in a process of its own, and end it in any case; `child.py` is its script."""

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
from compress.bench.protocol.memory import importable_environment
from compress.bench.protocol.worker import ComparisonMeasurements, Job, Progress
from compress.core.errors import CompressError, Exit
from compress.core.spec import Record

COMPARISON_WORKER = "compress.bench.protocol.worker"
"""Worker module that measures comparisons."""

GRACE_S = 5.0
"""Seconds that a process which closed its connection gets to exit by itself."""

_log = logging.getLogger(__name__)

Result = TypeVar("Result", bound=Record)


class WorkerJob(Protocol):
    """Input of a worker: what to measure on one back end."""

    @property
    def backend(self) -> str:
        """Name of the back end."""

    def model_dump(self, *, mode: str) -> dict[str, Any]:
        """Return the record as JSON values if the mode is ``json``."""


def run_comparisons(job: Job, say: Progress) -> tuple[ComparisonMeasurements, ...]:
    """Measure comparisons in a process of their own; see `WorkerProcesses.run`."""
    return run_in_process(job, COMPARISON_WORKER, ComparisonMeasurements, say)


def run_in_process(job: WorkerJob, module: str, result: type[Result], say: Progress) -> tuple[Result, ...]:
    """Run one job in a process of its own; see `WorkerProcesses.run`."""
    with WorkerProcesses() as processes:
        return processes.run(job, module, result, say)


class WorkerProcesses:
    """Runs each job in a fresh process.

    Imports take longer than many sessions. On Linux one process does the imports, measures nothing itself and
    forks for each job; on other systems each job starts a new process.
    """

    def __init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None
        self._stderr: IO[bytes] | None = None

    def __enter__(self) -> WorkerProcesses:
        return self

    def __exit__(self, *exception: object) -> None:
        self._close()

    def run(self, job: WorkerJob, module: str, result: type[Result], say: Progress) -> tuple[Result, ...]:
        """Run a job in a process of its own.

        Args:
            job: input of the worker.
            module: name of the worker module; its ``run_job`` takes the job and its ``Job`` validates it.
            result: type of the records that ``run_job`` returns.
            say: called with the progress; the process waits until it returns.

        Raises:
            CompressError: the error that the process raised, with its code and exit; ``backend-died`` (exit
                BUILD) if the process ended without a result.
        """
        process = self._process or self._start()
        assert self._stderr is not None
        reusable = False
        try:
            request = {"module": module, "job": job.model_dump(mode="json")}
            results = _exchange_messages(process, request, result, say)
            reusable = results is not None and FORKS
            if results is None:
                with contextlib.suppress(subprocess.TimeoutExpired):  # its own exit code tells the cause
                    process.wait(GRACE_S)
                _end(process)
                raise _died(job.backend, process.returncode, self._stderr)
            return results
        finally:
            if not reusable:
                self._close()

    def _start(self) -> subprocess.Popen[str]:
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the process
        self._process = subprocess.Popen(
            [sys.executable, "-P", str(Path(__file__).with_name("child.py"))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._stderr,
            text=True,
            encoding="utf-8",
            env=importable_environment(),
            start_new_session=True,  # Ctrl+C reaches only this process, which then ends the child
        )
        return self._process

    def _close(self) -> None:
        if self._process is not None:
            _end(self._process)
            self._process = None
        if self._stderr is not None:
            self._stderr.close()
            self._stderr = None


def _exchange_messages(
    process: subprocess.Popen[str], request: dict[str, Any], result: type[Result], say: Progress
) -> tuple[Result, ...] | None:
    """Send a job, answer progress messages, return the result; None if the process ends without one."""
    assert process.stdin is not None
    assert process.stdout is not None
    with contextlib.suppress(BrokenPipeError):
        _send(process.stdin, json.dumps(request))
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
    """End the process and its children, and close its pipes."""
    if process.returncode is None:  # not waited for yet, so the process id has not been reused
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
        _log.info("traceback of the measuring process:\n%s", fields["traceback"])
    return CompressError(
        fields["message"],
        hint=fields["hint"],
        code=fields["code"],
        exit=Exit(fields["exit"]),
        details=fields["details"],
    )


def _died(backend: str, code: int, stderr: IO[bytes]) -> CompressError:
    stderr.seek(0)
    lines = [line.strip() for line in stderr.read().decode(errors="replace").splitlines() if line.strip()]
    how = f"was ended by signal {signal.Signals(-code).name}" if code < 0 else f"ended with {code}"
    return CompressError(
        f"the process that measured {backend!r} {how}: {lines[-1] if lines else 'no output'}",
        hint="the machine may be out of memory (try a smaller --batch), or the runtime is broken",
        code="backend-died",
        exit=Exit.BUILD,
        details={"backend": backend, "returncode": code, "stderr": lines[-20:]},
    )
