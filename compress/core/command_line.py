"""Typer classes of this program: names in help texts, help as JSON, default commands of a group.

Each room builds a `CommandApp` in its `commands.py`; `compress.cli` assembles them.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import typer
from typer.core import TyperCommand, TyperGroup

from compress.core.errors import CompressError
from compress.core.names import fill_names

F = TypeVar("F", bound=Callable[..., Any])


class Command(TyperCommand):
    """A command whose help texts may hold placeholders such as ``{methods}`` (see `fill_names`)."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Write the help with the names that the registries hold."""
        for parameter in self.params:
            text = getattr(parameter, "help", None)
            if text:
                parameter.help = fill_names(text)  # type: ignore[attr-defined]
        super().format_help(ctx, formatter)


class DefaultCommandGroup(TyperGroup):
    """A group whose command `run` is called when no command is given: ``bench X`` means ``bench run X``."""

    default = "run"

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Insert the default command unless the arguments name a command or ask for the group's help."""
        first = args[0] if args else ""
        if first in self.commands or first in ("--help", "-h") or (ctx.resilient_parsing and not args):
            return super().parse_args(ctx, args)
        similar = difflib.get_close_matches(first, self.commands, n=1, cutoff=0.7)
        if similar and not Path(first).exists():
            raise CompressError(
                f"there is no command {first!r} of `{ctx.command_path}`, and no file of that name",
                hint=f"did you mean `{ctx.command_path} {similar[0]}`?",
            )
        return super().parse_args(ctx, [self.default, *args])

    def shell_complete(self, ctx: Any, incomplete: str) -> list[Any]:
        """Complete the names of the commands and the options of the default command."""
        command = self.commands[self.default]
        with command.make_context(self.default, [], parent=ctx, resilient_parsing=True) as context:
            return [*super().shell_complete(ctx, incomplete), *command.shell_complete(context, incomplete)]


class CommandApp(typer.Typer):
    """A Typer application whose commands are of the class `Command`."""

    def command(self, name: str | None = None, **settings: Any) -> Callable[[F], F]:
        """Register a command; the arguments are those of `typer.Typer.command`."""
        return super().command(name, cls=Command, **settings)


def describe_command(command: Any, path: Sequence[str], prefix: str) -> dict[str, Any]:
    """Describe a command with its options and its subcommands, as JSON types.

    Args:
        command: what `typer.main.get_command` returns, or one of its commands.
        path: names that call it, such as ``("compress", "bench", "run")``.
        prefix: of its environment variables, such as ``COMPRESS_BENCH``.
    """
    prefix = command.context_settings.get("auto_envvar_prefix", prefix)
    values: dict[str, Any] = {
        "name": " ".join(path),
        "help": fill_names(command.help or ""),
        "examples": _examples(command.epilog or ""),
        "arguments": [],
        "options": [],
    }
    with command.make_context(path[-1], [], resilient_parsing=True) as context:
        for parameter in command.params:
            if not getattr(parameter, "hidden", False):
                kind = "arguments" if parameter.param_type_name == "argument" else "options"
                values[kind].append(_describe_parameter(parameter, context, prefix))
    if hasattr(command, "commands"):
        values["commands"] = [
            describe_command(child, (*path, name), f"{prefix}_{name.upper()}")
            for name, child in command.commands.items()
            if not child.hidden
        ]
    return values


def find_command(command: Any, arguments: Sequence[str], prefix: str) -> tuple[Any, tuple[str, ...], str]:
    """Return the command that the arguments name, its path and the prefix of its environment variables."""
    path: tuple[str, ...] = ("compress",)
    for argument in arguments:
        child = getattr(command, "commands", {}).get(argument)
        if child is None:
            break
        command, path, prefix = child, (*path, argument), f"{prefix}_{argument.upper()}"
    return command, path, prefix


def _describe_parameter(parameter: Any, context: Any, prefix: str) -> dict[str, Any]:
    is_option = parameter.param_type_name == "option"
    default = parameter.default
    values = {
        "name": parameter.name,
        "type": parameter.display_type(context).strip("<>"),
        "required": parameter.required,
        "multiple": parameter.nargs == -1 or getattr(parameter, "multiple", False),
        "default": default if isinstance(default, int | float | str | None) else str(default),
        "help": fill_names(parameter.help or ""),
    }
    if not is_option:
        return {**values, "metavar": parameter.display_name_raw}
    return {
        "flags": [*parameter.opts, *parameter.secondary_opts],
        **values,
        "env": parameter.envvar or f"{prefix}_{parameter.name.upper()}",
        "group": parameter.rich_help_panel,
    }


def _examples(epilog: str) -> list[str]:
    """Return the command lines in an epilog, continued lines joined."""
    lines = epilog.replace("\\\n", " ").splitlines()
    return [" ".join(line.split()) for line in lines if line.strip().startswith("compress ")]
