"""The command line: assembles the commands of all rooms, parses, and returns exit codes."""

from __future__ import annotations

import contextlib
import os
import sys
from typing import Annotated, Any

import typer

from compress import __version__
from compress import commands as compress_commands
from compress.bench import commands as bench_commands
from compress.core import console
from compress.core.command_line import CommandApp, describe_command, find_command
from compress.core.errors import CompressError, Exit
from compress.core.garbage_collection import skip_collection_at_exit
from compress.core.options import PRECEDENCE, option
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

`compress COMMAND --help --json` describes commands and options as JSON.

\b
Exit codes: 0 done, 1 internal error, 2 usage, 3 something is missing,
4 build failed, 5 parity or integrity check failed, 6 quality gate failed,
7 inconclusive, 130 interrupted."""

ENVIRONMENT = "COMPRESS"
"""Prefix of the environment variables that set options."""

app = CommandApp(
    name="compress",
    help="Make CNNs smaller and faster: train compact models, slice them exactly, export, and benchmark.",
    epilog=EPILOG,
    pretty_exceptions_enable=False,
    context_settings={"auto_envvar_prefix": ENVIRONMENT, "help_option_names": ["-h", "--help"]},
)
for room in (doctor_commands, compress_commands, export_commands, bench_commands):
    app.add_typer(room.app)


@app.callback(invoke_without_command=True)
def _global_options(
    context: typer.Context,
    version: Annotated[bool, option("--version", help="Print the version.")] = False,
    debug: Annotated[
        bool, option("--debug", help="Show tracebacks and warnings; may be given anywhere on the line.")
    ] = False,
    as_json: Annotated[bool, option("--json", help="With --version: print a JSON object.")] = False,
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
            "--json must follow the command",
            hint=f"write compress {context.invoked_subcommand} ... --json",
        )


def describe(arguments: list[str]) -> dict[str, Any]:
    """Describe the command that the arguments name, with its options and subcommands, as JSON types."""
    command, path, prefix = find_command(typer.main.get_command(app), arguments, ENVIRONMENT)
    return describe_command(command, path, prefix)


def _invoke(arguments: list[str]) -> int:
    if "_COMPRESS_COMPLETE" in os.environ:  # a shell requests completions
        app(arguments, prog_name="compress")
    if console.wants_help(arguments) and console.wants_json(arguments):
        console.print_json("help", describe(arguments))
        return int(Exit.OK)
    command = typer.main.get_command(app)
    try:
        with command.make_context("compress", arguments) as context:
            command.invoke(context)
    except typer.Exit as error:
        return error.exit_code
    return int(Exit.OK)


def run(arguments: list[str]) -> int:
    """Run the command that the arguments name, and return the exit code."""
    return console.run_command(_invoke, arguments)


def main() -> None:
    """Entry point of the console script."""
    console.set_up_process(sys.argv[1:])
    skip_collection_at_exit()
    sys.exit(run(sys.argv[1:]))


if __name__ == "__main__":
    main()
