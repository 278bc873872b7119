"""The process that measures: reads a job, tells how far it is, and answers with what it found.

Run as a script by `compress.bench.protocol.process`. One JSON object a line in both directions; that of a job names the module
whose `measure` takes it. After a line about its progress it waits for the other side's answer: whoever draws
is then done before the next measurement begins, and where the other side is gone, this process ends.

On Linux it forks for each job, before any runtime is imported or a GPU looked for: what is measured has
threads and memory of its own, and the seconds of importing are spent once.
"""

from __future__ import annotations

import importlib
import json
import logging
import os
import signal
import sys
import traceback
import warnings
from typing import Any, TextIO

from compress.core.errors import CompressError, Exit

FORKS = sys.platform == "linux"
"""Whether each job is measured by a fork; elsewhere libraries do not bear it, and a process does one job."""


class Line:
    """The connection to the process that started this one.

    Whatever a runtime prints goes to stderr: the descriptor of stdout is taken for the connection.
    """

    def __init__(self) -> None:
        self._out: TextIO = os.fdopen(os.dup(1), "w", encoding="utf-8")
        os.dup2(2, 1)

    def send(self, **values: Any) -> None:
        """Send one object."""
        print(json.dumps(values), file=self._out, flush=True)

    def receive(self) -> str:
        """Wait for a line; end this process where there will be none."""
        found = sys.stdin.readline()
        if not found:
            os._exit(int(Exit.INTERRUPTED))
        return found

    def say(self, what: str, done: float) -> None:
        """Tell the progress, and go on when it was heard."""
        self.send(progress=[what, done])
        self.receive()


class _Forwarded(logging.Handler):
    """Sends the warnings of this program to the other side."""

    def __init__(self, line: Line) -> None:
        super().__init__(logging.WARNING)
        self._line = line

    def emit(self, record: logging.LogRecord) -> None:
        self._line.send(warning=record.getMessage())


def main() -> None:
    """Measure the jobs on stdin."""
    line = Line()
    warnings.simplefilter("ignore")
    for package in ("compress", "export", "bench"):
        logging.getLogger(package).addHandler(_Forwarded(line))
        logging.getLogger(package).propagate = False
    while True:
        job = line.receive()
        if not FORKS:
            _answer(line, job)
            return
        importlib.import_module("compress.bench.protocol.measure")  # once for all forks
        child = os.fork()
        if child == 0:
            _answer(line, job)
            os._exit(0)  # what ends with the interpreter is the other's
        _, status = os.waitpid(child, 0)
        if status != 0:
            _end_like(status)


def _answer(line: Line, job: str) -> None:
    """Measure one job and send what was found, or what went wrong."""
    try:
        asked = json.loads(job)
        module: Any = importlib.import_module(asked["module"])
        found = module.measure(module.Job.model_validate(asked["job"]), line.say)
        line.send(result=[entry.model_dump(mode="json") for entry in found])
    except CompressError as error:
        line.send(error=_fields(error))
    except MemoryError:
        line.send(error=_fields(_no_memory()))
    except Exception as error:  # a bug: told like one of the program that started this process
        line.send(error=_fields(_bug(error)) | {"traceback": traceback.format_exc()})


def _end_like(status: int) -> None:
    """End as the fork did: by the same signal, or with the same code."""
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        if number not in (signal.SIGKILL, signal.SIGSTOP):
            signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)
    os._exit(os.waitstatus_to_exitcode(status) & 0xFF)


def _fields(error: CompressError) -> dict[str, Any]:
    return {
        "message": error.message,
        "hint": error.hint,
        "code": error.code,
        "exit": int(error.exit),
        "details": error.details,
    }


def _no_memory() -> CompressError:
    return CompressError(
        "there is not enough memory for this benchmark",
        hint="try a smaller --batch",
        code="out-of-memory",
        exit=Exit.BUILD,
    )


def _bug(error: Exception) -> CompressError:
    what = str(error).strip()
    return CompressError(
        f"{type(error).__name__}: {what}" if what else type(error).__name__,
        hint="this is a bug; --debug shows the traceback",
        code="internal",
        exit=Exit.INTERNAL,
    )


if __name__ == "__main__":
    main()
