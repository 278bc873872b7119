"""A command at a terminal: data on stdout, messages on stderr, one line or one object for an error.

What may enter: what every command does alike. What a command computes is elsewhere, and so is how its result
looks.
"""

from __future__ import annotations

import contextlib
import io
import json
import logging
import math
import os
import signal
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from types import FrameType
from typing import TYPE_CHECKING, Any

from compress.core.errors import CompressError, Exit
from compress.core.spec import SCHEMA_VERSION

if TYPE_CHECKING:
    from rich.console import RenderableType

WIDTH = 160
"""Columns of a table that is written to a file or a pipe."""

_TRUE = ("1", "true", "t", "yes", "y", "on")


# --- what a command says --------------------------------------------------------------------------------


def print_json(command: str, values: dict[str, Any]) -> None:
    """Write the one JSON object of a command to stdout; a number that JSON has no word for becomes null."""
    _write_json({"schema_version": SCHEMA_VERSION, "command": command, **values})


def print_result(*parts: RenderableType) -> None:
    """Write text and tables to stdout, coloured on a terminal only."""
    from rich.console import Console

    class Output(Console):
        def on_broken_pipe(self) -> None:
            raise  # the BrokenPipeError that is being handled; `_to_stdout` ends it

    def write() -> None:
        wide = None if sys.stdout.isatty() or "COLUMNS" in os.environ else WIDTH
        console = Output(width=wide, highlight=False)
        for part in parts:
            console.print(part, soft_wrap=isinstance(part, str), markup=False, emoji=False)

    _to_stdout(write)


def print_message(text: str) -> None:
    """Write a message to stderr."""
    print(text, file=sys.stderr, flush=True)


@contextlib.contextmanager
def progress_bar() -> Iterator[Callable[[str, float], None] | None]:
    """Yield a function of what is being done and the share that is done; None where stderr is no terminal.

    It draws only when it is called: a thread that draws would disturb what is being timed.
    """
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    columns = (BarColumn(), TaskProgressColumn(), TimeRemainingColumn(), TextColumn("{task.description}"))
    bar = Progress(*columns, console=Console(stderr=True), transient=True, auto_refresh=False)
    task = bar.add_task("", total=1.0)

    def report(what: str, done: float) -> None:
        bar.start()  # not before: another bar may be drawn until then
        bar.update(task, description=what, completed=done, refresh=True)

    try:
        yield report
    finally:
        bar.stop()


def _write_json(value: dict[str, Any]) -> None:
    text = json.dumps(_finite(value), allow_nan=False)
    _to_stdout(lambda: print(text))


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _to_stdout(write: Callable[[], None]) -> None:
    """Write and flush; a reader that has seen enough (`| head`) is no failure of the command."""
    try:
        write()
        sys.stdout.flush()
    except BrokenPipeError:
        _discard(sys.stdout)


def _discard(stream: Any) -> None:
    """Send whatever is still written to a stream nowhere, so that the interpreter's last flush is quiet."""
    with contextlib.suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)


# --- how a command ends ---------------------------------------------------------------------------------


def set_up_process(arguments: Sequence[str]) -> None:
    """Set this process up: signals, encoding, and whose warnings are shown."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    signal.signal(signal.SIGTERM, _interrupt)
    if is_debug(arguments):
        logging.basicConfig(level=logging.INFO)
        return
    warnings.simplefilter("ignore")
    logging.getLogger().addHandler(logging.NullHandler())
    own = logging.StreamHandler(sys.stderr)
    own.setFormatter(logging.Formatter("warning: %(message)s"))
    for package in ("compress", "export", "bench", "doctor"):
        logger = logging.getLogger(package)
        logger.addHandler(own)
        logger.setLevel(logging.WARNING)
        logger.propagate = False


def run_command(command: Callable[[list[str]], int], arguments: Sequence[str]) -> int:
    """Call `command` with the arguments and return its exit code, whatever happens in it.

    Args:
        command: parses the arguments (without ``--debug``, which is allowed anywhere) and does the work.
        arguments: of the command line, without the program's name.
    """
    debug, as_json = is_debug(arguments), wants_json(arguments)
    try:
        code = command([word for word in arguments if word != "--debug"])
        sys.stdout.flush()
        return code
    except BrokenPipeError:  # of stderr, in mid-work: as when a terminal is closed
        _discard(sys.stdout)
        _discard(sys.stderr)
        return int(Exit.INTERRUPTED)
    except SystemExit as error:
        if isinstance(error.__context__, BrokenPipeError):  # the help's reader has seen enough
            _discard(sys.stdout)
            return int(Exit.OK)
        raise
    except (Exception, KeyboardInterrupt) as error:
        if debug:
            traceback.print_exc()
        return _fail(_explained(error), as_json)


def wants_json(arguments: Sequence[str]) -> bool:
    """Whether ``--json`` is given, or ``COMPRESS_JSON`` set; known before the arguments are parsed."""
    return "--json" in _before_dashes(arguments) or _is_true("COMPRESS_JSON")


def is_debug(arguments: Sequence[str]) -> bool:
    """Whether ``--debug`` is given anywhere, or ``COMPRESS_DEBUG`` set."""
    return "--debug" in _before_dashes(arguments) or _is_true("COMPRESS_DEBUG")


def is_first_process() -> bool:
    """Whether this is the one process of several (under `torchrun`) that writes to stdout."""
    return os.environ.get("RANK", "0") == "0"


def _before_dashes(arguments: Sequence[str]) -> Sequence[str]:
    return arguments[: arguments.index("--")] if "--" in arguments else arguments


def _is_true(variable: str) -> bool:
    return os.environ.get(variable, "").strip().lower() in _TRUE


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _explained(error: BaseException) -> CompressError:
    """Whatever was raised as an error with a hint, a code and an exit code."""
    if isinstance(error, CompressError):
        return error
    if isinstance(error, KeyboardInterrupt) or type(error).__name__ == "Abort":
        return CompressError(
            "interrupted",
            hint="nothing is half-written; give the command again (a training that has begun, with --resume)",
            code="interrupted",
            exit=Exit.INTERRUPTED,
        )
    if hasattr(error, "format_message"):  # the parser's own errors, whichever class its version has
        context = getattr(error, "ctx", None)
        path = context.command_path if context is not None else "compress"
        return CompressError(error.format_message(), hint=f"`{path} --help` lists what it takes")
    what = str(error).strip()
    return CompressError(
        f"{type(error).__name__}: {what}" if what else type(error).__name__,
        hint="this is a bug; --debug shows the traceback",
        code="internal",
        exit=Exit.INTERNAL,
    )


def _fail(error: CompressError, as_json: bool) -> int:
    message, hint = " ".join(error.message.split()), " ".join(error.hint.split())
    if as_json and is_first_process():
        body = {"code": error.code, "message": message, "hint": hint, "details": error.details}
        _write_json({"schema_version": SCHEMA_VERSION, "error": body})
    elif not as_json:
        with contextlib.suppress(BrokenPipeError):
            print_message(f"error: {message}" + (f"\nhint: {hint}" if hint else ""))
    return int(error.exit)
