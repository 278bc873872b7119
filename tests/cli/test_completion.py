"""Shell completion of commands, options and values, in a process of its own."""

from __future__ import annotations

from pathlib import Path

import pytest
from cli_calls import command

from compress.core.names import registered_names


def completions(cwd: Path, line: str) -> list[str]:
    """Return what bash offers at the end of a command line."""
    words = line.split(" ")
    options = {
        "_COMPRESS_COMPLETE": "complete_bash",
        "COMP_WORDS": line,
        "COMP_CWORD": str(len(words) - 1),
    }
    return command(cwd=cwd, **options).out.split()


@pytest.mark.parametrize(
    ("line", "kind"),
    [
        ("compress train --method ", "methods"),
        ("compress train --model ", "models"),
        ("compress train --data ", "datasets"),
        ("compress train --recipe ", "recipes"),
        ("compress export run --format ", "formats"),
        ("compress slice --criterion ", "criteria"),
        ("compress bench run --backend ", "backends"),
        ("compress eval run --backend ", "backends"),
    ],
)
def test_values_of_registries_are_completed(tmp_path: Path, line: str, kind: str) -> None:
    assert completions(tmp_path, line) == list(registered_names(kind))


def test_only_values_with_the_given_beginning_are_offered(tmp_path: Path) -> None:
    assert completions(tmp_path, "compress train --model resnet1") == ["resnet110"]


def test_the_last_value_of_a_list_is_completed(tmp_path: Path) -> None:
    assert completions(tmp_path, "compress compare --methods dcff,ra") == ["dcff,random"]


def test_precisions_are_completed(tmp_path: Path) -> None:
    assert completions(tmp_path, "compress export run --precision fp") == ["fp32", "fp16"]


def test_kinds_of_the_list_command_are_completed(tmp_path: Path) -> None:
    assert completions(tmp_path, "compress list m") == ["methods", "models"]


def test_bench_offers_its_commands_and_the_options_of_run(tmp_path: Path) -> None:
    assert {"run", "explain", "staircase", "scenario", "diff"} <= set(
        completions(tmp_path, "compress bench ")
    )
    assert completions(tmp_path, "compress bench --thr") == ["--threads"]
    assert completions(tmp_path, "compress bench runs/a --thr") == ["--threads"]
