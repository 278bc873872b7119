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
    group: str


@dataclass(frozen=True)
class CommandHelp:
    """One command: its name as typed, what it does, examples, and options in their order."""

    name: str
    summary: str
    usage: str
    examples: tuple[str, ...]
    options: tuple[OptionHelp, ...]

    @property
    def file(self) -> str:
        """Name of the page, such as ``bench-diff.md``."""
        return f"{self.name.replace(' ', '-')}.md"


def command_help() -> list[CommandHelp]:
    """Return every command of the program, from the description that ``compress --help --json`` prints."""
    from compress.cli import describe

    return [_command(values) for values in _leaves(describe([]))]


def _leaves(values: dict[str, Any]) -> Iterable[dict[str, Any]]:
    """Yield the commands that have no subcommands."""
    if "commands" not in values:
        yield values
    for child in values.get("commands", ()):
        yield from _leaves(child)


def _command(values: dict[str, Any]) -> CommandHelp:
    name = values["name"].removeprefix("compress ")
    words = [a["metavar"] if a["required"] else f"[{a['metavar']}]" for a in values["arguments"]]
    arguments = tuple(
        OptionHelp(f"`{argument['metavar']}`", _default(argument), argument["help"], "Arguments")
        for argument in values["arguments"]
    )
    options = tuple(
        OptionHelp(_flags(option), _default(option), option["help"], option["group"] or "Options")
        for option in values["options"]
    )
    return CommandHelp(
        name=name,
        summary=values["help"].strip(),
        usage=" ".join(["compress", name, *words, "[OPTIONS]"]),
        examples=tuple(values["examples"]),
        options=arguments + options,
    )


def _flags(option: dict[str, Any]) -> str:
    flags = ", ".join(f"`{flag}`" for flag in option["flags"])
    if option["type"] == "bool":
        return flags
    names = {
        "str": "TEXT",
        "list[str]": "TEXT",
        "path": "PATH",
        "int": "N",
        "int range": "N",
        "float": "NUMBER",
    }
    return f"{flags} `{names.get(option['type'], option['type'])}`"


def _default(values: dict[str, Any]) -> str:
    if values["required"]:
        return "required"
    return "" if values["default"] in (None, False, "", []) else f"`{values['default']}`"


def command_page(command: CommandHelp) -> str:
    """Return the Markdown page of a command."""
    parts = [f"# compress {command.name}", command.summary, _fenced(command.usage, "text")]
    if command.examples:
        parts.append("**Examples**\n\n" + _fenced("\n".join(command.examples), "sh"))
    groups: dict[str, list[OptionHelp]] = {}
    for option in command.options:
        groups.setdefault(option.group, []).append(option)
    for group, options in groups.items():
        rows = [f"| {option.flags} | {_cell(option.help)} | {option.default} |" for option in options]
        parts.append("\n".join([f"## {group}", "", "| option | meaning | default |", "|---|---|---|", *rows]))
    if command.name == "bench run":
        parts.insert(1, "`compress bench RUN` is short for `compress bench run RUN`.")
    return "\n\n".join(part for part in parts if part) + "\n"


def overview_page(commands: list[CommandHelp]) -> str:
    """Return the Markdown page that lists all commands."""
    rows = [
        f"| [`compress {command.name}`]({command.file}) | {_cell(command.summary.splitlines()[0])} |"
        for command in commands
    ]
    return "\n".join(["# Commands", "", "| command | what it does |", "|---|---|", *rows, "", OVERVIEW])


OVERVIEW = """Every command takes `--json`: exactly one JSON object on stdout, with `schema_version`, also
when it fails. Messages and progress go to stderr. `compress COMMAND --help --json` describes a command in
JSON.

An option may come from the environment too: `COMPRESS_TRAIN_EPOCHS=5` stands for `train --epochs 5`. A flag
has precedence over the environment, the environment over a recipe, a recipe over the default. No command
prompts.

`compress --install-completion` installs shell completion for commands, options and values.

The exit codes are listed in [Error and exit codes](../errors.md#exit-codes).
"""


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
    from compress.methods import METHODS

    return settings_table(METHODS[name].config_type)


def _train_settings() -> str:
    from compress.training import TrainConfig

    return settings_table(TrainConfig)


def _gate_limits() -> str:
    from compress.bench.gate.limits import Limits

    meanings = attribute_meanings(Limits)
    rows = [f"| `{name}` | {_cell(meanings.get(name, ''))} |" for name in Limits.model_fields]
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
