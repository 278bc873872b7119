"""Version, help, completion, pipes, JSON output and exit codes of the program."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer
from cli_calls import ROOT, Here, arguments, command, environment

from compress import __version__, cli
from compress.core import console
from compress.core.errors import CompressError, Exit

COMMANDS = ("train", "slice", "eval", "export", "bench", "demo", "recipes", "list")
BENCH = tuple(f"bench {name}" for name in ("run", "explain", "staircase", "scenario", "diff"))


def test_version_is_one_line(tmp_path: Path) -> None:
    outcome = command("--version", cwd=tmp_path)
    assert (outcome.code, outcome.out, outcome.err) == (0, f"compress {__version__}\n", "")


def test_version_as_json_is_one_object(call: Here) -> None:
    assert call("--version", "--json").json["version"] == __version__


@pytest.mark.parametrize("words", [["--version"], ["--help"], ["train", "--help"], ["nope"]])
def test_version_help_and_usage_errors_do_not_import_torch(words: list[str]) -> None:
    code = (
        f"import sys; sys.argv = ['compress', *{words!r}]\nfrom compress import cli\n"
        "try:\n    cli.main()\nexcept SystemExit: pass\n"
        "print('torch' in sys.modules, file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=environment(), text=True, capture_output=True, check=True
    )
    assert done.stderr.splitlines()[-1] == "False"


def test_help_names_every_command_the_environment_and_the_exit_codes(call: Here) -> None:
    outcome = call("--help")
    assert outcome.code == 0
    for word in (*COMMANDS, "COMPRESS_TRAIN_EPOCHS", "130 interrupted", "compress demo"):
        assert word in outcome.out


@pytest.mark.parametrize("name", [*(name for name in COMMANDS if name != "bench"), *BENCH])
def test_help_of_a_command_explains_every_option(call: Here, name: str) -> None:
    outcome = call(*name.split(), "--help")
    assert (outcome.code, outcome.err) == (0, "")
    command: Any = typer.main.get_command(cli.app)
    for word in name.split():
        command = command.commands[word]
    options = [p for p in command.params if p.param_type_name == "option" and not p.hidden]
    assert options
    for option in options:
        assert option.help, option.name
        assert option.opts[-1] in outcome.out


@pytest.mark.parametrize("name", ["train", "slice", "eval", "export", "bench"])
def test_help_of_a_command_ends_with_an_example(call: Here, name: str) -> None:
    assert f"compress {name} " in call(name, "--help").out.partition("Example")[2]


def test_help_has_no_color_in_a_pipe(tmp_path: Path) -> None:
    assert "\x1b[" not in command("train", "--help", cwd=tmp_path).out


def test_no_command_prints_help_to_stderr(call: Here) -> None:
    outcome = call()
    assert (outcome.code, outcome.out) == (2, "")
    assert "Usage: compress" in outcome.err


def test_a_mistyped_command_is_refused_with_the_nearest(call: Here) -> None:
    outcome = call("trian")
    assert outcome.code == 2
    assert outcome.err.splitlines()[1].startswith("hint: Did you mean train?")


@pytest.mark.parametrize(
    "words",
    [
        ["train", "--modle", "x"],
        ["train", "--epochs", "x"],
        ["bench"],
        ["nope"],
        [],
        ["export", "x", "--samples", "0"],
    ],
    ids=" ".join,
)
def test_a_usage_error_is_one_json_object(call: Here, words: list[str]) -> None:
    outcome = call(*words, "--json")
    assert (outcome.code, outcome.err) == (2, "")
    error = outcome.json["error"]
    assert error["code"] == "usage"
    assert error["message"]
    assert "--help" in error["hint"]


def test_json_before_the_command_is_refused_with_its_place(call: Here) -> None:
    outcome = call("--json", "recipes")
    assert outcome.code == 2
    assert outcome.json["error"]["hint"] == "write compress recipes ... --json"


def test_json_from_the_environment_holds_for_errors_too(call: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COMPRESS_JSON", "1")
    assert len(call("recipes").json["recipes"]) >= 9
    assert call("eval", "gone").json["error"]["code"] == "missing-file"


def test_recipes_are_listed_with_their_numbers(call: Here) -> None:
    rows = {row["name"]: row for row in call("recipes", "--json").json["recipes"]}
    assert rows["dcff-vgg16-cifar10"]["published"]["macs"] == 72_770_000
    human = call("recipes").out
    assert all(name in human for name in rows)


def test_one_recipe_is_shown_with_its_commands(call: Here) -> None:
    (row,) = call("recipes", "kdfs-resnet50-imagenet-55.4", "--json").json["recipes"]
    assert "ours" in row and row["launch"]["nodes"].startswith("torchrun --nnodes 2")
    human = call("recipes", "kdfs-resnet50-imagenet-55.4").out
    assert row["launch"]["gpu"] in human and "top-1 75.80" in human
    assert call("recipes", "kdfs-resnet51").code == 2


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_shell_completes_commands(tmp_path: Path, shell: str) -> None:
    options = {
        "_COMPRESS_COMPLETE": f"complete_{shell}",
        "COMP_WORDS": "compress tr",
        "COMP_CWORD": "1",
        "_TYPER_COMPLETE_ARGS": "compress tr",
        "_TYPER_COMPLETE_FISH_ACTION": "get-args",
    }
    assert "train" in command(cwd=tmp_path, **options).out


@pytest.mark.skipif(os.name == "nt", reason="pipes close otherwise there")
@pytest.mark.parametrize("words", [["recipes"], ["recipes", "--json"], ["--version"], ["train", "--help"]])
def test_a_closed_pipe_is_not_an_error(tmp_path: Path, words: list[str]) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        arguments(*words), stdout=writer, stderr=subprocess.PIPE, cwd=tmp_path, env=environment(), check=False
    )
    os.close(writer)
    assert (done.returncode, done.stderr) == (0, b"")


def broken(words: list[str]) -> int:
    raise ValueError("what\nwas wrong")


def test_a_bug_is_one_line_without_a_traceback(capfd: pytest.CaptureFixture[str]) -> None:
    assert console.run_command(broken, []) == Exit.INTERNAL
    out, err = capfd.readouterr()
    assert out == ""
    assert err.splitlines()[0] == "error: ValueError: what was wrong"
    assert len(err.splitlines()) == 2


@pytest.mark.parametrize("words", [["--debug", "--json"], ["x", "--json", "--debug"]])
def test_debug_adds_the_traceback_on_stderr_only(capfd: pytest.CaptureFixture[str], words: list[str]) -> None:
    assert console.run_command(broken, words) == Exit.INTERNAL
    out, err = capfd.readouterr()
    assert json.loads(out)["error"]["code"] == "internal"
    assert "Traceback" in err


def test_debug_is_allowed_anywhere_on_the_line(call: Here) -> None:
    assert call("recipes", "--debug", "--json").json["recipes"]
    assert call("--debug", "recipes", "--json").json["recipes"]


def test_an_interrupt_outside_training_exits_with_130(capfd: pytest.CaptureFixture[str]) -> None:
    def interrupted(words: list[str]) -> int:
        raise KeyboardInterrupt

    assert console.run_command(interrupted, ["--json"]) == Exit.INTERRUPTED
    assert json.loads(capfd.readouterr().out)["error"]["code"] == "interrupted"


@pytest.mark.parametrize("code", list(Exit)[1:])
def test_an_error_ends_with_its_exit_code(capfd: pytest.CaptureFixture[str], code: Exit) -> None:
    def failing(words: list[str]) -> int:
        raise CompressError("no", hint="fix it", code="some", exit=code, details={"size": float("nan")})

    assert console.run_command(failing, []) == code
    assert capfd.readouterr().err == "error: no\nhint: fix it\n"
    assert console.run_command(failing, ["--json"]) == code
    error = json.loads(capfd.readouterr().out)["error"]
    assert error == {"code": "some", "message": "no", "hint": "fix it", "details": {"size": None}}


def test_only_the_first_of_several_processes_prints_an_object(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RANK", "1")
    assert console.run_command(broken, ["--json"]) == Exit.INTERNAL
    assert capfd.readouterr().out == ""
