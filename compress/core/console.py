"""Input and output of all commands: results on stdout, messages on stderr, errors, exit codes."""

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

from compress.core.errors import CompressError, Exit, did_you_mean

if TYPE_CHECKING:
    from rich.console import RenderableType

WIDTH = 160
"""Width of the output, in columns, if it goes to a file or a pipe."""

_TRUE = ("1", "true", "t", "yes", "y", "on")


# --- output ---------------------------------------------------------------------------------------------


def print_json(command: str, values: dict[str, Any]) -> None:
    """Write the one JSON object of a command to stdout; infinities and NaN become null."""
    _write_json({"command": command, **values})


def print_result(*parts: RenderableType) -> None:
    """Write text and tables to stdout, in color on a terminal only.

    Tables are laid out for the width of the terminal without breaking words (see `fit_to_width`).
    """
    from rich.console import Console

    from compress.core.table_layout import fit_to_width

    class Output(Console):
        def on_broken_pipe(self) -> None:
            raise  # the BrokenPipeError that is being handled; `_to_stdout` catches it

    def write() -> None:
        width = None if sys.stdout.isatty() or "COLUMNS" in os.environ else WIDTH
        console = Output(width=width, highlight=False)
        for part in parts:
            console.print(
                fit_to_width(part, console), soft_wrap=isinstance(part, str), markup=False, emoji=False
            )

    _to_stdout(write)


def print_message(text: str) -> None:
    """Write a message to stderr."""
    print(text, file=sys.stderr, flush=True)


@contextlib.contextmanager
def progress_bar() -> Iterator[Callable[[str, float], None] | None]:
    """Yield a function that shows a description and the finished fraction; None if stderr is no terminal.

    The bar is drawn only when the function is called: a background thread would disturb measurements.
    """
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    columns = (BarColumn(), TaskProgressColumn(), TimeRemainingColumn(), TextColumn("{task.description}"))
    bar = Progress(*columns, console=Console(stderr=True), transient=True, auto_refresh=False)
    task = bar.add_task("", total=1.0)

    def update(description: str, fraction: float) -> None:
        bar.start()  # not earlier, since another bar may be shown until now
        bar.update(task, description=description, completed=fraction, refresh=True)

    try:
        yield update
    finally:
        bar.stop()


def _write_json(value: dict[str, Any]) -> None:
    from compress.core.spec import SCHEMA_VERSION

    text = json.dumps(_finite({"schema_version": SCHEMA_VERSION, **value}), allow_nan=False)
    _to_stdout(lambda: print(text))


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _to_stdout(write: Callable[[], None]) -> None:
    """Write and flush; a closed pipe (`| head`) is not an error."""
    try:
        write()
        sys.stdout.flush()
    except BrokenPipeError:
        _discard(sys.stdout)


def _discard(stream: Any) -> None:
    """Redirect a stream to the null device, so that the interpreter's last flush does not fail."""
    with contextlib.suppress(OSError, ValueError):
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, stream.fileno())
        os.close(null)


# --- running a command ------------------------------------------------------------------------------------


def set_up_process(arguments: Sequence[str]) -> None:
    """Set up signals, the encoding of the output, and which warnings are shown."""
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
    """Call `command` with the arguments and return its exit code; exceptions become error messages.

    Args:
        command: parses the arguments (without ``--debug``, which is allowed anywhere) and does the work.
        arguments: of the command line, without the program's name.
    """
    debug, as_json = is_debug(arguments), wants_json(arguments)
    try:
        code = command([argument for argument in arguments if argument != "--debug"])
        sys.stdout.flush()
        return code
    except BrokenPipeError:  # of stderr, as when a terminal is closed
        _discard(sys.stdout)
        _discard(sys.stderr)
        return int(Exit.INTERRUPTED)
    except SystemExit as error:
        if isinstance(error.__context__, BrokenPipeError):  # the reader of the help closed the pipe
            _discard(sys.stdout)
            return int(Exit.OK)
        raise
    except (Exception, KeyboardInterrupt) as error:
        if debug:
            traceback.print_exc()
        return _print_error(_as_compress_error(error), as_json)


def wants_json(arguments: Sequence[str]) -> bool:
    """Return whether ``--json`` is given or ``COMPRESS_JSON`` set, before the arguments are parsed."""
    return "--json" in _before_dashes(arguments) or _is_true("COMPRESS_JSON")


def wants_help(arguments: Sequence[str]) -> bool:
    """Return whether ``--help`` or ``-h`` is given."""
    return not {"--help", "-h"}.isdisjoint(_before_dashes(arguments))


def is_debug(arguments: Sequence[str]) -> bool:
    """Return whether ``--debug`` is given anywhere or ``COMPRESS_DEBUG`` set."""
    return "--debug" in _before_dashes(arguments) or _is_true("COMPRESS_DEBUG")


def is_first_process() -> bool:
    """Return whether this is the one process of several (under `torchrun`) that writes to stdout."""
    return os.environ.get("RANK", "0") == "0"


def _before_dashes(arguments: Sequence[str]) -> Sequence[str]:
    return arguments[: arguments.index("--")] if "--" in arguments else arguments


def _is_true(variable: str) -> bool:
    return os.environ.get(variable, "").strip().lower() in _TRUE


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _as_compress_error(error: BaseException) -> CompressError:
    """Return any exception as an error with a hint, a code and an exit code."""
    if isinstance(error, CompressError):
        return error
    if isinstance(error, KeyboardInterrupt) or type(error).__name__ == "Abort":
        return CompressError(
            "interrupted",
            hint="no file is half-written; run the command again (add --resume to continue a training)",
            code="interrupted",
            exit=Exit.INTERRUPTED,
        )
    if hasattr(error, "format_message"):  # a usage error of Typer, whose classes are not public
        return _as_usage_error(error)
    text = str(error).strip()
    return CompressError(
        f"{type(error).__name__}: {text}" if text else type(error).__name__,
        hint="this is a bug in compress; --debug shows the traceback",
        code="internal",
        exit=Exit.INTERNAL,
    )


def _as_usage_error(error: Any) -> CompressError:
    """Return a usage error of Typer with the nearest option or command as a hint."""
    context = getattr(error, "ctx", None)
    path = context.command_path if context is not None else "compress"
    option = getattr(error, "option_name", None)
    if option is not None and context is not None and hasattr(error, "possibilities"):
        known = [flag for parameter in context.command.params for flag in parameter.opts]
        message, suggestion = f"no such option {option}", did_you_mean(option, known)
    else:
        message, mark, rest = error.format_message().partition("Did you mean ")
        suggestion = mark + rest.replace("'", "")
        message = message.replace(": Value error, ", ": ").strip().rstrip(".")
        message = f"{message[:1].lower()}{message[1:]}"
    return CompressError(message, hint=f"{suggestion} `{path} --help` shows the usage".strip())


def _print_error(error: CompressError, as_json: bool) -> int:
    """Print an error as one JSON object on stdout or as two lines on stderr; return its exit code."""
    message, hint = " ".join(error.message.split()), " ".join(error.hint.split())
    if as_json and is_first_process():
        body = {"code": error.code, "message": message, "hint": hint, "details": error.details}
        _write_json({"error": body})
    elif not as_json:
        with contextlib.suppress(BrokenPipeError):
            print_message(f"error: {message}" + (f"\nhint: {hint}" if hint else ""))
    return int(error.exit)
