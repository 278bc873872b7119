"""`--help --json`: commands and options as one JSON object."""

from __future__ import annotations

from typing import Any

import typer
from cli_calls import Here

from compress import cli
from compress.core.names import KINDS


def option(described: dict[str, Any], flag: str) -> dict[str, Any]:
    """Return the described option that has a flag."""
    (results,) = [entry for entry in described["options"] if flag in entry["flags"]]
    return dict(results)


def test_the_whole_program_is_described(call: Here) -> None:
    result = call("--help", "--json").json
    group: Any = typer.main.get_command(cli.app)
    assert [command["name"] for command in result["commands"]] == [
        f"compress {name}" for name in group.commands
    ]
    (bench,) = [command for command in result["commands"] if command["name"] == "compress bench"]
    assert "compress bench explain" in [command["name"] for command in bench["commands"]]


def test_an_option_has_type_default_environment_and_help(call: Here) -> None:
    result = call("train", "--help", "--json").json
    assert result["name"] == "compress train"
    epochs = option(result, "--epochs")
    assert (epochs["type"], epochs["default"], epochs["env"]) == ("int", None, "COMPRESS_TRAIN_EPOCHS")
    assert epochs["help"] and epochs["group"] == "Training"
    assert option(result, "--align")["default"] == "auto"
    assert option(result, "--set")["env"] == "COMPRESS_TRAIN_SET"
    assert option(result, "--json")["env"] == "COMPRESS_JSON"
    assert option(result, "--drop")["multiple"] is True


def test_help_texts_hold_the_registered_names(call: Here) -> None:
    method = option(call("train", "--help", "--json").json, "--method")
    assert "abp, dcff, dense, kdfs, l1, random, scratch" in method["help"]
    assert "abp, dcff" in " ".join(call("train", "--help").out.split())


def test_arguments_and_examples_are_described(call: Here) -> None:
    result = call("slice", "--help", "--json").json
    assert result["examples"][0].startswith("compress slice --model resnet56")
    assert result["examples"][0].endswith("--out runs/cut")
    (run,) = call("export", "--help", "--json").json["arguments"]
    assert (run["name"], run["required"], run["type"]) == ("run", True, "path")


def test_commands_of_bench_share_their_environment_variables(call: Here) -> None:
    threads = option(call("bench", "explain", "--help", "--json").json, "--threads")
    assert threads["env"] == "COMPRESS_BENCH_THREADS"


def test_no_placeholder_is_left_in_any_help(call: Here) -> None:
    for name in ("train", "slice", "export", "eval", "compare"):
        text = call(name, "--help").out
        assert not any(f"{{{kind}}}" in text for kind in KINDS)
