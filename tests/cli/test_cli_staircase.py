"""`compress bench RUN --staircase`: output and exit codes."""

from __future__ import annotations

from pathlib import Path

import pytest
from cli_calls import Here

QUICK = ("--threads", 1, "--budget", 0.1, "--staircase-widths", "7,8")


def test_a_layer_is_shown_width_by_width_and_its_files_are_named(call: Here, run: Path) -> None:
    result = call("bench", run, "--staircase", "features.conv2", *QUICK)
    assert result.code == 0, result.err
    assert "output channels" in result.out
    assert "best widths" in result.out
    assert "1 layer of 1 shape: 2 curves over 8 networks, about" in result.err
    [table] = (run / "bench").glob("latency-ort-cpu-*.json")
    assert str(table) in result.err
    assert str(run / "bench" / "staircase-ort-cpu.png") in result.err


def test_as_json_it_is_one_object_with_the_table(call: Here, run: Path) -> None:
    result = call("bench", run, "--staircase", "classifier", *QUICK, "--json")
    assert result.code == 0, result.err
    made = result.json["staircase"]
    assert made["result"]["kind"] == "compress-latency"
    assert made["measured"] == [["classifier"]]
    assert Path(made["table"]).is_file()


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (("--staircase", "features.conv9"), 2, "Did you mean features.conv"),
        (("--staircase", "all", "--batch", "1,8"), 2, "one batch size"),
        (("--staircase", "all", "--pairs", "20"), 2, "--pairs cannot be combined with --staircase"),
        (("--staircase", "all", "--backend", "nowhere"), 2, "unknown back end 'nowhere'"),
        (("--staircase-widths", "8"), 2, "add --staircase LAYER|all"),
        (("--staircase", "all", "--staircase-widths", "x"), 2, "'x' is not a list of numbers"),
    ],
)
def test_invalid_arguments_are_reported_with_their_exit_code(
    call: Here, run: Path, words: tuple[str, ...], code: int, says: str
) -> None:
    result = call("bench", run, *words)
    assert (result.code, result.out) == (code, "")
    assert says in result.err


def test_a_folder_without_a_run_exits_with_3(call: Here, tmp_path: Path) -> None:
    assert call("bench", tmp_path, "--staircase", "all").code == 3
