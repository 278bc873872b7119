"""MkDocs hook: write the pages that come from the sources.

- one page per command, and an overview, from the command line's own help;
- the table of models, methods, data sets, formats and back ends that the registries hold;
- the JSON schemas of the records in a run folder, from their pydantic classes.

Run it alone to print the command pages: ``python docs/generate.py``.
"""

from __future__ import annotations

import inspect
import json
import re
import typing
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files

COMMANDS = "commands"
"""Folder of the generated command pages, and the placeholder in the navigation of mkdocs.yml."""

MARKER = re.compile(r"<!-- generated: (\w+) -->")
"""Placeholder in a page that `on_page_markdown` replaces."""


# --- the command line -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class OptionHelp:
    """One option or argument of a command, as its help shows it."""

    flags: str
    default: str
    help: str
    panel: str


@dataclass(frozen=True)
class CommandHelp:
    """One command: its name as typed, what it does, examples, and options in their order."""

    name: str
    summary: str
    epilog: str
    usage: str
    options: tuple[OptionHelp, ...]

    @property
    def file(self) -> str:
        """Name of the page, such as ``bench-diff.md``."""
        return f"{self.name.replace(' ', '-')}.md"


def command_help() -> list[CommandHelp]:
    """Return every command of the program, in the order of `compress --help`."""
    import typer.main

    from compress.cli import app

    return list(_walk("", typer.main.get_command(app)))


def _walk(prefix: str, group: Any) -> Iterable[CommandHelp]:
    for name, command in getattr(group, "commands", {}).items():
        if command.hidden:
            continue
        full = f"{prefix}{name}"
        yield _described(full, command)
        yield from _walk(f"{full} ", command)


def _described(name: str, command: Any) -> CommandHelp:
    options, arguments = [], []
    for parameter in command.params:
        is_option = hasattr(parameter, "panel") or str(parameter.opts[0]).startswith("-")
        flags = ", ".join(f"`{flag}`" for flag in (*parameter.opts, *parameter.secondary_opts))
        if not is_option:
            word = parameter.metavar or parameter.name.upper()
            arguments.append(word if parameter.required else f"[{word}]")
            flags = f"`{word}`"
        elif not parameter.is_flag:
            flags += f" `{_value_name(parameter)}`"
        options.append(
            OptionHelp(flags, _default(parameter), parameter.help or "", _panel(parameter, is_option))
        )
    summary = (command.help or "").strip()
    usage = " ".join(["compress", name, *arguments, "[OPTIONS]"])
    return CommandHelp(name, summary, (command.epilog or "").strip(), usage, tuple(options))


def _value_name(parameter: Any) -> str:
    if parameter.metavar:
        return str(parameter.metavar)
    if parameter.min is not None or parameter.max is not None:
        return "N"
    return str(parameter.name).rpartition("_")[2].upper()


def _default(parameter: Any) -> str:
    value = parameter.default
    if callable(value) or value is None or value is False or value == [] or parameter.required:
        return "required" if parameter.required else ""
    return f"`{value}`"


def _panel(parameter: Any, is_option: bool) -> str:
    panel = parameter.rich_help_panel
    return panel if isinstance(panel, str) else ("Options" if is_option else "Arguments")


def command_page(command: CommandHelp) -> str:
    """Return the Markdown page of a command."""
    parts = [f"# compress {command.name}", command.summary, _fenced(command.usage, "text")]
    parts += _epilog(command.epilog)
    panels: dict[str, list[OptionHelp]] = {}
    for option in command.options:
        panels.setdefault(option.panel, []).append(option)
    for panel, options in panels.items():
        rows = [f"| {option.flags} | {_cell(option.help)} | {option.default} |" for option in options]
        parts.append("\n".join([f"## {panel}", "", "| option | meaning | default |", "|---|---|---|", *rows]))
    return "\n\n".join(part for part in parts if part) + "\n"


def overview_page(commands: list[CommandHelp]) -> str:
    """Return the Markdown page that lists all commands."""
    rows = [
        f"| [`compress {command.name}`]({command.file}) | {_cell(command.summary.splitlines()[0])} |"
        for command in commands
    ]
    return "\n".join(
        [
            "# Commands",
            "",
            "| command | what it does |",
            "|---|---|",
            *rows,
            "",
            "Every command takes `--json`: exactly one JSON object on stdout, with `schema_version`, also",
            "when it fails. Messages and progress go to stderr. An option may come from the environment too:",
            "`COMPRESS_TRAIN_EPOCHS=5` stands for `train --epochs 5`. A flag has precedence over the",
            "environment, the environment over a recipe, a recipe over the default. No command prompts.",
            "",
            "The exit codes are listed in [Error and exit codes](../errors.md#exit-codes).",
            "",
        ]
    )


def _epilog(text: str) -> list[str]:
    """Return examples as a code block and the rest as paragraphs."""
    parts = []
    for block in re.split(r"\n\s*\n", text.replace("\b\n", "").replace("\b", "").strip()):
        lines = block.splitlines()
        if lines and re.fullmatch(r"Examples?:", lines[0].strip()):
            width = min(len(line) - len(line.lstrip()) for line in lines[1:] if line.strip())
            parts.append("**Examples**\n\n" + _fenced("\n".join(line[width:] for line in lines[1:]), "sh"))
        elif block.strip():
            parts.append(" ".join(line.strip() for line in lines))
    return parts


def _fenced(text: str, language: str) -> str:
    return f"```{language}\n{text}\n```"


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").split())


# --- schemas and registries -----------------------------------------------------------------------------


def record_types() -> dict[str, Any]:
    """Return the pydantic class of each record in a run folder, by the file it is stored in."""
    from compress.artifact.compact import CompactInfo
    from compress.artifact.run import RunRecord
    from compress.bench.explain.record import Explanation
    from compress.bench.results.record import BenchResult
    from compress.bench.scenarios.record import ScenarioResult
    from compress.cost.latency import LatencyTable
    from compress.export.trust.manifest import Manifest

    return {
        "run.json": RunRecord,
        "compact/model.json": CompactInfo,
        "export/manifest.json": Manifest,
        "bench/results.json": BenchResult,
        "bench/explain-BACKEND.json": Explanation,
        "bench/latency-BACKEND-DEVICE.json": LatencyTable,
        "bench/scenarios.json": ScenarioResult,
    }


def schemas() -> str:
    """Return the JSON schema of every record as collapsible Markdown."""
    parts = []
    for file, kind in record_types().items():
        schema = json.dumps(kind.model_json_schema(), indent=2, ensure_ascii=False)
        block = "\n".join(f"    {line}" for line in _fenced(schema, "json").splitlines())
        parts.append(f'### {file}\n\n??? note "JSON schema of {file}"\n\n{block}')
    return "\n\n".join(parts)


# --- settings -------------------------------------------------------------------------------------------


def settings_table(kind: Any, *, skip: frozenset[str] = frozenset()) -> str:
    """Return the fields of a pydantic class as a table: name, values, default, meaning from the docstring."""
    meanings = attribute_meanings(kind)
    rows = [
        f"| `{name}` | {_cell(_values(field))} | {_default_value(field)} | {_cell(meanings.get(name, ''))} |"
        for name, field in kind.model_fields.items()
        if name not in skip
    ]
    return "\n".join(["| setting | values | default | meaning |", "|---|---|---|---|", *rows])


def attribute_meanings(kind: type) -> dict[str, str]:
    """Return what the ``Attributes:`` section of a class and of its bases says about each attribute.

    An entry may describe several names: ``lr, momentum: ...``, and a line several entries:
    ``lr: the rate. eps: a small number.``
    """
    meanings: dict[str, str] = {}
    for cls in reversed(kind.__mro__):
        text = inspect.cleandoc(vars(cls).get("__doc__") or "")
        section = re.search(r"^Attributes:\n((?:[ \n].*\n?)+)", text, re.MULTILINE)
        names = [str(name) for name in getattr(cls, "model_fields", {})]
        if section is None or not names:
            continue
        word = "|".join(map(re.escape, names))
        entry = rf"(?:^|(?<=\. )|(?<=\n))(?P<names>(?:{word})(?:, (?:{word}))*): "
        body = re.sub(r"\n {8,}", " ", section[1])
        body = "\n".join(line.strip() for line in body.splitlines())
        hits = list(re.finditer(entry, body))
        ends = [*(hit.start() for hit in hits[1:]), len(body)]
        for hit, end in zip(hits, ends, strict=True):
            meaning = body[hit.end() : end].strip().replace("``", "`")
            meanings |= dict.fromkeys(hit["names"].split(", "), meaning)
    return meanings


def _values(field: Any) -> str:
    kind, optional = field.annotation, ""
    arguments = typing.get_args(kind)
    if type(None) in arguments:
        optional = ", or none"
        kind = next(argument for argument in arguments if argument is not type(None))
    if typing.get_origin(kind) is typing.Literal:
        return ", ".join(f"`{value}`" for value in typing.get_args(kind)) + optional
    if typing.get_origin(kind) is tuple:
        return "list of numbers" + optional
    words = {bool: "true or false", int: "integer", float: "number", str: "text"}
    limits = []
    for limit in field.metadata:
        for name, sign in (("gt", ">"), ("ge", ">="), ("lt", "<"), ("le", "<=")):
            if getattr(limit, name, None) is not None:
                limits.append(f"{sign} {getattr(limit, name):g}")
    return " ".join([words.get(kind, str(kind)), *limits]) + optional


def _default_value(field: Any) -> str:
    value = field.default
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, tuple):
        return f"`{list(value)}`"
    return "" if value is None else f"`{value}`"


def _method_settings(name: str) -> str:
    from compress import methods

    return settings_table(methods.get(name).config_type)


def _train_settings() -> str:
    from compress.training import TrainConfig

    return settings_table(TrainConfig)


def _gate_limits() -> str:
    from compress.bench.gate.rules import Constraints

    meanings = attribute_meanings(Constraints)
    rows = [f"| `{name}` | {_cell(meanings.get(name, ''))} |" for name in Constraints.model_fields]
    return "\n".join(["| limit | of |", "|---|---|", *rows])


GENERATED: dict[str, Callable[[], str]] = {
    "schemas": schemas,
    "train_settings": _train_settings,
    "dcff_settings": lambda: _method_settings("dcff"),
    "kdfs_settings": lambda: _method_settings("kdfs"),
    "abp_settings": lambda: _method_settings("abp"),
    "baseline_settings": lambda: _method_settings("l1"),
    "gate_limits": _gate_limits,
}


# --- hooks of MkDocs ------------------------------------------------------------------------------------


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Put the pages of the commands into the navigation."""
    pages = [f"{COMMANDS}/index.md", *(f"{COMMANDS}/{command.file}" for command in command_help())]
    config.nav = [
        {"Commands": pages} if isinstance(item, dict) and item.get("Commands") == COMMANDS else item
        for item in config.nav or []
    ]
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages of the commands."""
    from mkdocs.structure.files import File

    commands = command_help()
    pages = {"index.md": overview_page(commands)} | {c.file: command_page(c) for c in commands}
    for name, text in pages.items():
        files.append(File.generated(config, f"{COMMANDS}/{name}", content=text))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Replace the placeholders of generated parts."""
    return MARKER.sub(lambda match: GENERATED[match[1]](), markdown)


if __name__ == "__main__":
    for entry in command_help():
        print(f"<!-- {Path(COMMANDS) / entry.file} -->\n{command_page(entry)}")
