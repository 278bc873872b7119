"""The README's commands are the ones that CI and the demo run."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

ROOT = Path(__file__).parents[1]
COMMAND = re.compile(r'@app\.command\((?:"([a-z ]+)")?[^\n]*\)\ndef (\w+)')
README = (ROOT / "README.md").read_text(encoding="utf-8")


def _setup_lines() -> list[str]:
    return [line for line in README.splitlines() if line.startswith("python3 -m venv")]


def test_two_commands_do_the_set_up_themselves() -> None:
    demo, tests = _setup_lines()
    assert shlex.split(demo)[-2:] == [".venv/bin/compress", "demo"]
    assert "pytest" in tests


def test_ci_runs_the_test_command_of_the_readme_to_the_letter() -> None:
    assert _setup_lines()[1] in (ROOT / ".ci" / "run").read_text(encoding="utf-8").splitlines()


def test_every_command_of_the_program_is_in_the_readme() -> None:
    text = (ROOT / "cli.py").read_text(encoding="utf-8")
    found = {name or function.rstrip("_") for name, function in COMMAND.findall(text)}
    assert {"train", "compare", "export", "bench", "verify", "doctor"} <= found
    for name in found:
        assert f"| `compress {name}` |" in README
