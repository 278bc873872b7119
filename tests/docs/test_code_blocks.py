"""Commands, Python blocks and configuration files in the documentation are valid."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from pages import DOCS, Block, blocks, generate

PLACEHOLDERS = ("...", "COMMAND", "NAME")


def _command_lines() -> Iterator[tuple[Block, list[str]]]:
    """Yield each call of `compress` in a shell block or after a `$` in an output, split into words."""
    for block in blocks("sh", "text", "yaml"):
        for line in block.text.replace("\\\n", " ").splitlines():
            call = re.search(r"(?:^|[\s/;`{])(compress .*)", line.strip())
            is_prompt = line.lstrip().startswith("$ ")
            if call is None or (block.language == "text" and not is_prompt):
                continue
            for part in re.split(r"[;&|]+ ", call[1]):
                if part.startswith("compress "):
                    words = shlex.split(part, comments=True)
                    yield block, [word for word in words[1:] if word not in ("$@", "}")]


COMMAND_LINES = [
    pytest.param(words, id=f"{block}-{' '.join(words[:2])}") for block, words in _command_lines()
]


def _find_command(words: list[str]) -> tuple[Any, list[str]]:
    """Return the command that the words call, and its arguments."""
    from compress.cli import app

    command: Any = typer.main.get_command(app)
    while words and words[0] in getattr(command, "commands", {}):
        command, words = command.commands[words[0]], words[1:]
    if "run" in getattr(
        command, "commands", {}
    ):  # `compress bench RUN` is short for `compress bench run RUN`
        command = command.commands["run"]
    return command, words


@pytest.mark.parametrize("words", COMMAND_LINES)
def test_commands_of_the_documentation_parse(words: list[str]) -> None:
    command, arguments = _find_command(words)
    flags = {flag for p in command.params for flag in (*p.opts, *p.secondary_opts)} | {"--help", "--debug"}
    given = {word.partition("=")[0] for word in arguments if word.startswith("--")}
    assert given <= flags
    if not any(word in PLACEHOLDERS for word in arguments) and "--help" not in given:
        command.make_context("compress", list(arguments)).close()


def test_the_documentation_calls_every_command() -> None:
    called = {" ".join(words[:n]) for _, words in _command_lines() for n in (1, 2)}
    names = {command.name for command in generate().command_help()} - {"bench run"}
    assert names <= called


EXTENDING = DOCS / "extending.md"
PYTHON = [pytest.param(block, id=str(block)) for block in blocks("python") if block.page != EXTENDING]


@pytest.mark.parametrize("block", PYTHON)
def test_python_blocks_run(block: Block, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    code = compile("\n" * (block.line - 1) + block.text, str(block.page), "exec")
    if block.mark != "compile":
        exec(code, {"__name__": "documentation"})


def test_every_extension_is_registered_under_its_name(tmp_path: Path) -> None:
    """Run the page in a process of its own, so that no other test sees the extensions."""
    text = EXTENDING.read_text(encoding="utf-8")
    code = "\n".join(block.text for block in blocks("python") if block.page == EXTENDING)
    code += "\nimport json, compress, compress.bench\n"
    lists = dict(
        re.findall(
            r"^\| \[([a-z ]+)\]\(#[a-z-]+\) \|.* `(compress[\w.]*list_\w+)\(\)` \|$", text, re.MULTILINE
        )
    )
    assert len(lists) == 6
    code += f"print(json.dumps({{kind: eval(name)() for kind, name in {lists!r}.items()}}))\n"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    registered = json.loads(done.stdout.splitlines()[-1])
    for kind, names in registered.items():
        section = text.partition(f"\n## {kind[0].upper()}{kind[1:]}\n")[2].partition("\n## ")[0]
        own = re.findall(r"^@?[A-Z]+\.register\(\"([\w.-]+)\"", section, re.MULTILINE)
        assert own, kind
        assert all(any(name == word or name.startswith(f"{word}:") for name in names) for word in own), kind


@pytest.mark.parametrize("block", [pytest.param(block, id=str(block)) for block in blocks("toml")])
def test_toml_blocks_are_valid(block: Block, tmp_path: Path) -> None:
    from compress import recipes
    from compress.bench import gate

    file = tmp_path / "example.toml"
    file.write_text(block.text, encoding="utf-8")
    if block.mark == "gate":
        gate.read(file)
    elif block.mark == "recipe":
        recipes.load(str(file))
    else:
        tomllib.loads(block.text)


@pytest.mark.parametrize("block", [pytest.param(block, id=str(block)) for block in blocks("json")])
def test_json_blocks_are_valid(block: Block) -> None:
    json.loads(block.text)
