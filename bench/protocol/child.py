"""Script of the measuring process: read a job, report the progress, send the measurements.

`compress.bench.protocol.process` starts it. Both sides send one JSON object per line. A job contains the name
of a worker module; every worker module has a record `Job` and a function ``run_job(job, say)`` that returns a
tuple of records. After a progress line this process waits for an answer, so that drawing the progress bar
never overlaps with a measurement; if the parent is gone, this process ends.

On Linux it forks for each job, before a runtime is imported or a GPU is used: each job has its own threads
and memory, and the imports are done once.
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
"""Whether each job runs in a fork. Forking is not safe on other systems, where a process runs one job."""


class Connection:
    """Messages to and from the parent process.

    Output that a runtime prints goes to stderr, since the descriptor of stdout is used for the messages.
    """

    def __init__(self) -> None:
        self._out: TextIO = os.fdopen(os.dup(1), "w", encoding="utf-8")
        os.dup2(2, 1)

    def send(self, **values: Any) -> None:
        """Send one object."""
        print(json.dumps(values), file=self._out, flush=True)

    def receive(self) -> str:
        """Return the next line; end this process if the parent has closed the connection."""
        line = sys.stdin.readline()
        if not line:
            os._exit(int(Exit.INTERRUPTED))
        return line

    def report(self, what: str, done: float) -> None:
        """Report the progress and return when the parent has answered."""
        self.send(progress=[what, done])
        self.receive()


class _ForwardingHandler(logging.Handler):
    """Sends warnings of this program to the parent process."""

    def __init__(self, connection: Connection) -> None:
        super().__init__(logging.WARNING)
        self._connection = connection

    def emit(self, record: logging.LogRecord) -> None:
        self._connection.send(warning=record.getMessage())


def main() -> None:
    """Run the jobs that arrive on stdin."""
    connection = Connection()
    warnings.simplefilter("ignore")
    logger = logging.getLogger("compress")
    logger.addHandler(_ForwardingHandler(connection))
    logger.propagate = False
    while True:
        job = connection.receive()
        if not FORKS:
            _answer(connection, job)
            return
        importlib.import_module("compress.bench.protocol.worker")  # once for all forks
        child = os.fork()
        if child == 0:
            _answer(connection, job)
            os._exit(0)  # exit handlers belong to the parent
        _, status = os.waitpid(child, 0)
        if status != 0:
            _exit_like(status)


def _answer(connection: Connection, job: str) -> None:
    """Run one job and send the measurements or the error."""
    try:
        task = json.loads(job)
        module: Any = importlib.import_module(task["module"])
        results = module.run_job(module.Job.model_validate(task["job"]), connection.report)
        connection.send(result=[entry.model_dump(mode="json") for entry in results])
    except CompressError as error:
        connection.send(error=_fields(error))
    except MemoryError:
        connection.send(error=_fields(_no_memory()))
    except Exception as error:  # a bug: the parent reports it as its own
        connection.send(error=_fields(_bug(error)) | {"traceback": traceback.format_exc()})


def _exit_like(status: int) -> None:
    """End this process as the fork ended: by the same signal or with the same exit code."""
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
    text = str(error).strip()
    return CompressError(
        f"{type(error).__name__}: {text}" if text else type(error).__name__,
        hint="this is a bug; --debug shows the traceback",
        code="internal",
        exit=Exit.INTERNAL,
    )


if __name__ == "__main__":
    main()
