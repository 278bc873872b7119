"""docs/errors.md explains every error code of the sources, and no other."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import lru_cache

from pages import DOCS, ROOT

from compress.core.errors import Exit

CODE = r"[a-z]+(-[a-z0-9]+)*"
PAGE = (DOCS / "errors.md").read_text(encoding="utf-8")
DOCUMENTED = re.findall(r"^### (\S+)$", PAGE, re.MULTILINE)


def _section(code: str) -> str:
    """Return the text about an error code."""
    return PAGE.partition(f"### {code}\n")[2].partition("\n#")[0]


def _sources() -> Iterator[ast.Module]:
    for top in ("compress", "export", "bench", "doctor", "cli.py"):
        for file in sorted((ROOT / top).rglob("*.py")) if (ROOT / top).is_dir() else [ROOT / top]:
            if not any(parent.is_symlink() for parent in (file, *file.parents)):
                yield ast.parse(file.read_text(encoding="utf-8"))


def _codes() -> set[str]:
    """Return every literal passed as `code=`, the default code, and those that are made from a name."""
    codes = {"usage"}
    for tree in _sources():
        for node in ast.walk(tree):
            if isinstance(node, ast.keyword) and node.arg == "code":
                codes |= {value for value in _strings(node.value) if re.fullmatch(CODE, value)}
            if isinstance(node, ast.Assign | ast.AnnAssign) and isinstance(node.value, ast.Call):
                target = node.targets[0] if isinstance(node, ast.Assign) else node.target
                if getattr(node.value.func, "id", "").endswith("Registry") and _is_looked_up(target):
                    codes |= _registry_code(node.value)
    return codes | {"no-model", "no-data"}


def _is_looked_up(target: ast.expr) -> bool:
    """Return whether some source looks up a user's name in the registry that is assigned to `target`."""
    return getattr(target, "id", "") in _looked_up()


@lru_cache
def _looked_up() -> frozenset[str]:
    """Return the names of the objects whose `get_or_raise` some source uses."""
    nodes = (node for tree in _sources() for node in ast.walk(tree))
    uses = (node for node in nodes if isinstance(node, ast.Attribute) and node.attr == "get_or_raise")
    return frozenset(getattr(use.value, "id", "") for use in uses)


def _registry_code(call: ast.Call) -> set[str]:
    """Return the error code for an unknown name of the registry that a call creates."""
    given = next((keyword.value for keyword in call.keywords if keyword.arg == "error_code"), None)
    if isinstance(given, ast.Constant):
        return {str(given.value)}
    kind = call.args[0] if call.args else None
    return {f"unknown-{kind.value.replace(' ', '-')}"} if isinstance(kind, ast.Constant) else set()


def _strings(node: ast.AST) -> Iterator[str]:
    """Yield the string literals of an expression, except those that index something."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield node.value
    elif not isinstance(node, ast.Subscript):
        for child in ast.iter_child_nodes(node):
            yield from _strings(child)


def test_every_error_code_is_documented_once() -> None:
    assert len(DOCUMENTED) == len(set(DOCUMENTED))
    assert sorted(_codes() - set(DOCUMENTED)) == []


def test_no_documented_error_code_is_stale() -> None:
    assert sorted(set(DOCUMENTED) - _codes()) == []


def test_every_error_code_has_a_cause_an_exit_code_and_a_remedy() -> None:
    known = {str(int(code)) for code in Exit}
    for code in DOCUMENTED:
        section = _section(code)
        exits = re.search(r"\(Exit code ([\d or]+)\.\)", section)
        assert exits is not None, code
        assert set(exits[1].split(" or ")) <= known
        assert re.search(r"^\*\*Fix:\*\* \S", section, re.MULTILINE), code


def test_exit_codes_of_errors_are_those_of_the_sources() -> None:
    used: dict[str, set[str]] = {}
    for tree in _sources():
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "CompressError":
                given = {keyword.arg: keyword.value for keyword in node.keywords}
                code, name = given.get("code"), given.get("exit")
                if isinstance(code, ast.Constant) and (name is None or isinstance(name, ast.Attribute)):
                    exit_code = Exit.USAGE if name is None else Exit[name.attr]
                    used.setdefault(str(code.value), set()).add(str(int(exit_code)))
    assert len(used) > 80
    documented = {
        code: set(re.findall(r"\d+", re.search(r"\(Exit code ([\d or]+)\.\)", _section(code))[1]))  # type: ignore[index]
        for code in used
    }
    assert {code: exits for code, exits in used.items() if not exits <= documented[code]} == {}


def test_every_exit_code_is_documented() -> None:
    table = PAGE.partition("## Exit codes")[2].partition("\n## ")[0]
    assert re.findall(r"^\| (\d+) \|", table, re.MULTILINE) == [str(int(code)) for code in Exit]
