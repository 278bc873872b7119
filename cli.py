"""The command line: assembles the commands of all rooms, parses, and turns errors into exit codes."""

from __future__ import annotations

import contextlib
import os
import sys
from typing import Annotated

import typer

from compress import __version__
from compress import commands as compress_commands
from compress.bench import commands as bench_commands
from compress.core import console
from compress.core.errors import CompressError, Exit
from compress.core.options import PRECEDENCE
from compress.doctor import commands as doctor_commands
from compress.export import commands as export_commands

EPILOG = f"""\b
Examples:
  compress demo
  compress train --model vgg16 --data cifar10 --target macs=0.5 --out runs/a
  compress eval runs/a
  compress export runs/a
  compress bench runs/a --batch 1,8
  compress report runs/a

{PRECEDENCE}

\b
Exit codes: 0 done, 1 internal error, 2 usage, 3 something is missing,
4 build failed, 5 parity or integrity failed, 6 gate failed, 7 inconclusive,
130 interrupted."""

app = typer.Typer(
    name="compress",
    help="Train a CNN narrow, cut it exactly, export it, and measure what that is worth.",
    epilog=EPILOG,
    pretty_exceptions_enable=False,
    context_settings={"auto_envvar_prefix": "COMPRESS", "help_option_names": ["-h", "--help"]},
)

for room in (compress_commands, export_commands, bench_commands, doctor_commands):
    app.add_typer(room.app)


@app.callback(invoke_without_command=True)
def _options(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
    debug: Annotated[
        bool, typer.Option("--debug", help="Show tracebacks and warnings; allowed anywhere on the line.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="With --version: print a JSON object.")] = False,
) -> None:
    if version:
        if as_json:
            console.print_json("version", {"version": __version__})
        else:
            console.print_result(f"compress {__version__}")
        raise typer.Exit
    if context.invoked_subcommand is None:
        if as_json:
            raise CompressError("no command is given", hint="`compress --help` lists the commands")
        with contextlib.redirect_stdout(sys.stderr):
            context.get_help()
        raise typer.Exit(int(Exit.USAGE))
    if as_json:
        raise CompressError(
            "--json stands before the command", hint=f"write compress {context.invoked_subcommand} ... --json"
        )


def _invoke(arguments: list[str]) -> int:
    if "_COMPRESS_COMPLETE" in os.environ:  # a shell asks for completions
        app(arguments, prog_name="compress")
    if arguments[:2] == ["bench", "diff"]:  # a run folder of that name is ./diff
        arguments = ["bench diff", *arguments[2:]]
    command = typer.main.get_command(app)
    try:
        with command.make_context("compress", arguments) as context:
            command.invoke(context)
    except typer.Exit as error:
        return error.exit_code
    return int(Exit.OK)


def run(arguments: list[str]) -> int:
    """Do what the arguments say, print the outcome, and return the exit code."""
    return console.run_command(_invoke, arguments)


def main() -> None:
    """Entry point of the console script."""
    console.set_up_process(sys.argv[1:])
    sys.exit(run(sys.argv[1:]))


if __name__ == "__main__":
    main()
