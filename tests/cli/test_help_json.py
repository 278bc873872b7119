"""`--help --json`: commands and options as one JSON object."""

from __future__ import annotations

from typing import Any

import typer
from cli_calls import Here

from compress import cli
from compress.core.names import KINDS


def option(described: dict[str, Any], flag: str) -> dict[str, Any]:
    """Return the described option that has a flag."""
    (found,) = [entry for entry in described["options"] if flag in entry["flags"]]
    return dict(found)


def test_the_whole_program_is_described(call: Here) -> None:
    found = call("--help", "--json").json
    group: Any = typer.main.get_command(cli.app)
    assert [command["name"] for command in found["commands"]] == [
        f"compress {name}" for name in group.commands
    ]
    (bench,) = [command for command in found["commands"] if command["name"] == "compress bench"]
    assert "compress bench explain" in [command["name"] for command in bench["commands"]]


def test_an_option_has_type_default_environment_and_help(call: Here) -> None:
    found = call("train", "--help", "--json").json
    assert found["name"] == "compress train"
    epochs = option(found, "--epochs")
    assert (epochs["type"], epochs["default"], epochs["env"]) == ("int", None, "COMPRESS_TRAIN_EPOCHS")
    assert epochs["help"] and epochs["group"] == "Training"
    assert option(found, "--align")["default"] == "auto"
    assert option(found, "--set")["env"] == "COMPRESS_TRAIN_SET"
    assert option(found, "--json")["env"] == "COMPRESS_JSON"
    assert option(found, "--drop")["multiple"] is True


def test_help_texts_hold_the_registered_names(call: Here) -> None:
    method = option(call("train", "--help", "--json").json, "--method")
    assert "abp, dcff, dense, kdfs, l1, random, scratch" in method["help"]
    assert "abp, dcff" in " ".join(call("train", "--help").out.split())


def test_arguments_and_examples_are_described(call: Here) -> None:
    found = call("slice", "--help", "--json").json
    assert found["examples"][0].startswith("compress slice --model resnet56")
    assert found["examples"][0].endswith("--out runs/cut")
    (run,) = call("export", "--help", "--json").json["arguments"]
    assert (run["name"], run["required"], run["type"]) == ("run", True, "path")


def test_commands_of_bench_share_their_environment_variables(call: Here) -> None:
    threads = option(call("bench", "explain", "--help", "--json").json, "--threads")
    assert threads["env"] == "COMPRESS_BENCH_THREADS"


def test_no_placeholder_is_left_in_any_help(call: Here) -> None:
    for name in ("train", "slice", "export", "eval", "compare"):
        text = call(name, "--help").out
        assert not any(f"{{{kind}}}" in text for kind in KINDS)
