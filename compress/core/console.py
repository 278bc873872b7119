"""Output, errors and process set-up of all commands.

Data goes to stdout, messages to stderr; an error is one line, or one JSON object with ``--json``.
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
"""Width in columns of a table that is written to a file or a pipe."""

_TRUE = ("1", "true", "t", "yes", "y", "on")


# --- output ---------------------------------------------------------------------------------------------


def print_json(command: str, values: dict[str, Any]) -> None:
    """Write the JSON object of a command to stdout; NaN and infinity become null."""
    _print_json_object({"schema_version": SCHEMA_VERSION, "command": command, **values})


def print_result(*parts: RenderableType) -> None:
    """Write text and tables to stdout; colors are used on a terminal only."""
    from rich.console import Console

    class Output(Console):
        def on_broken_pipe(self) -> None:
            raise  # the BrokenPipeError that is being handled; `_to_stdout` catches it

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
    """Yield a function that draws progress, or None if stderr is not a terminal.

    The function takes a description and the completed share between 0 and 1. It draws only when it is called:
    a drawing thread would disturb measurements.
    """
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    columns = (BarColumn(), TaskProgressColumn(), TimeRemainingColumn(), TextColumn("{task.description}"))
    bar = Progress(*columns, console=Console(stderr=True), transient=True, auto_refresh=False)
    task = bar.add_task("", total=1.0)

    def report(description: str, completed: float) -> None:
        bar.start()  # not earlier: another bar may be drawn until then
        bar.update(task, description=description, completed=completed, refresh=True)

    try:
        yield report
    finally:
        bar.stop()


def _print_json_object(value: dict[str, Any]) -> None:
    text = json.dumps(_finite(value), allow_nan=False)
    _to_stdout(lambda: print(text))


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _to_stdout(write: Callable[[], None]) -> None:
    """Write and flush; a reader that closes the pipe (`| head`) is not an error."""
    try:
        write()
        sys.stdout.flush()
    except BrokenPipeError:
        _discard(sys.stdout)


def _discard(stream: Any) -> None:
    """Redirect a stream to the null device, so that the interpreter's final flush raises nothing."""
    with contextlib.suppress(OSError, ValueError):
        null_device = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null_device, stream.fileno())
        os.close(null_device)


# --- running a command ----------------------------------------------------------------------------------


def set_up_process(arguments: Sequence[str]) -> None:
    """Set up this process: signals, encoding, and which warnings are shown."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    signal.signal(signal.SIGTERM, _interrupt)
    if is_debug(arguments):
        logging.basicConfig(level=logging.INFO)
        return
    warnings.simplefilter("ignore")
    logging.getLogger().addHandler(logging.NullHandler())
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("warning: %(message)s"))
    logger = logging.getLogger("compress")
    logger.addHandler(handler)
    logger.setLevel(logging.WARNING)
    logger.propagate = False


def run_command(command: Callable[[list[str]], int], arguments: Sequence[str]) -> int:
    """Call `command` with the arguments and return its exit code; errors are printed.

    Args:
        command: parses the arguments (without ``--debug``, which is allowed anywhere) and does the work.
        arguments: of the command line, without the program's name.
    """
    debug, as_json = is_debug(arguments), wants_json(arguments)
    try:
        code = command([argument for argument in arguments if argument != "--debug"])
        sys.stdout.flush()
        return code
    except BrokenPipeError:  # of stderr: the terminal was closed
        _discard(sys.stdout)
        _discard(sys.stderr)
        return int(Exit.INTERRUPTED)
    except SystemExit as error:
        if isinstance(error.__context__, BrokenPipeError):  # the reader of the help text has closed the pipe
            _discard(sys.stdout)
            return int(Exit.OK)
        raise
    except (Exception, KeyboardInterrupt) as error:
        if debug:
            traceback.print_exc()
        return _fail(_to_compress_error(error), as_json)


def wants_json(arguments: Sequence[str]) -> bool:
    """Whether ``--json`` is given or ``COMPRESS_JSON`` is set; does not need parsed arguments."""
    return "--json" in _before_double_dash(arguments) or _is_true("COMPRESS_JSON")


def is_debug(arguments: Sequence[str]) -> bool:
    """Whether ``--debug`` is given anywhere or ``COMPRESS_DEBUG`` is set."""
    return "--debug" in _before_double_dash(arguments) or _is_true("COMPRESS_DEBUG")


def is_first_process() -> bool:
    """Whether this process writes output and files: the only one, or rank 0 under `torchrun`."""
    return os.environ.get("RANK", "0") == "0"


def _before_double_dash(arguments: Sequence[str]) -> Sequence[str]:
    return arguments[: arguments.index("--")] if "--" in arguments else arguments


def _is_true(variable: str) -> bool:
    return os.environ.get(variable, "").strip().lower() in _TRUE


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _to_compress_error(error: BaseException) -> CompressError:
    """Return any exception as an error with a hint, a code and an exit code."""
    if isinstance(error, CompressError):
        return error
    if isinstance(error, KeyboardInterrupt) or type(error).__name__ == "Abort":
        return CompressError(
            "interrupted",
            hint="no file is incomplete; repeat the command (with --resume if a training has begun)",
            code="interrupted",
            exit=Exit.INTERRUPTED,
        )
    if hasattr(
        error, "format_message"
    ):  # an error of the argument parser, whose class depends on its version
        context = getattr(error, "ctx", None)
        path = context.command_path if context is not None else "compress"
        return CompressError(error.format_message(), hint=f"`{path} --help` lists the arguments")
    text = str(error).strip()
    return CompressError(
        f"{type(error).__name__}: {text}" if text else type(error).__name__,
        hint="this is a bug; --debug shows the traceback",
        code="internal",
        exit=Exit.INTERNAL,
    )


def _fail(error: CompressError, as_json: bool) -> int:
    message, hint = " ".join(error.message.split()), " ".join(error.hint.split())
    if as_json and is_first_process():
        body = {"code": error.code, "message": message, "hint": hint, "details": error.details}
        _print_json_object({"schema_version": SCHEMA_VERSION, "error": body})
    elif not as_json:
        with contextlib.suppress(BrokenPipeError):
            print_message(f"error: {message}" + (f"\nhint: {hint}" if hint else ""))
    return int(error.exit)
