"""The README is short, and its two commands are the ones that CI and the demo run."""

from __future__ import annotations

import shlex

import yaml
from pages import ROOT, generate

README = (ROOT / "README.md").read_text(encoding="utf-8")


def _setup_lines() -> list[str]:
    return [line for line in README.splitlines() if line.startswith("python3 -m venv") and "&&" in line]


def test_readme_is_under_10_kilobytes() -> None:
    assert len(README.encode()) < 10_000


def test_two_commands_do_the_set_up_themselves() -> None:
    demo, tests = _setup_lines()
    assert shlex.split(demo)[-2:] == [".venv/bin/compress", "demo"]
    assert shlex.split(tests)[-6:] == ["-m", "pytest", "-n", "auto", "-m", "not slow"]


def test_ci_runs_the_test_command_of_the_readme_to_the_letter() -> None:
    assert _setup_lines()[1] in (ROOT / ".ci" / "run").read_text(encoding="utf-8").splitlines()


def test_github_workflow_runs_the_same_checks() -> None:
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text(encoding="utf-8"))
    job = workflow["jobs"]["test"]
    assert job["strategy"]["matrix"]["python"] == ["3.11", "3.12"]
    commands = "\n".join(step.get("run", "") for step in job["steps"])
    checks = ["ruff check .", "ruff format --check .", "mypy", "lint-imports", "mkdocs build --strict"]
    for check in [*checks, 'pytest -n auto -m "not slow"', "pytest -n auto -m slow"]:
        assert check in commands


def test_every_command_of_the_program_is_in_the_readme() -> None:
    names = {command.name.split()[0] for command in generate().command_help()}
    assert {"train", "compare", "export", "bench", "verify", "doctor"} <= names
    assert [name for name in sorted(names) if f"`{name}`" not in README] == []
