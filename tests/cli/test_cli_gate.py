"""Stored results on the command line: shown again, checked by a quality gate, compared."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from xml.etree import ElementTree

import pytest
from cli_calls import Here, Outcome, command


@pytest.fixture(scope="session")
def stored(trained: tuple[Path, Outcome], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Outcome]:
    """A run that was measured with a quality gate, and the output of the command."""
    folder = tmp_path_factory.mktemp("gated")
    run = Path(shutil.copytree(trained[0], folder / "run"))
    (folder / "gate.toml").write_text("top1_min = 0.5\nmac_reduction_min = 1.5\n")
    counts = ("--pairs", 10, "--sessions", 2, "--threads", 1)
    words = (*counts, "--gate", "gate.toml", "--junit", "out/gate.xml", "--json")
    outcome = command("bench", run, *words, cwd=folder)
    assert outcome.code == 0, outcome.err
    return run, outcome


def gate(text: str) -> Path:
    """Write a quality gate to the current folder."""
    Path("gate.toml").write_text(text)
    return Path("gate.toml")


def test_a_passed_gate_is_reported_in_json_and_junit(stored: tuple[Path, Outcome]) -> None:
    run, outcome = stored
    assert outcome.json["gate"]["outcome"] == "PASSED"
    assert "error" not in outcome.json
    root = ElementTree.parse(run.parent / "out" / "gate.xml").getroot()
    assert (root.get("tests"), root.get("failures"), root.get("errors")) == ("2", "0", "0")


def test_a_replay_of_a_run_or_its_file_shows_the_stored_result(
    stored: tuple[Path, Outcome], call: Here
) -> None:
    run, outcome = stored
    assert call("bench", "--replay", run, "--json").json["result"] == outcome.json["result"]
    shown = call("bench", "--replay", run / "bench" / "results.json")
    assert shown.code == 0
    assert "Timed: one session.run" in shown.out
    assert "Energy: rapl" in shown.out


@pytest.mark.parametrize(
    ("text", "code", "word", "error"),
    [
        ("top1_min = 0.5", 0, "PASSED", None),
        ("top1_min = 1.0", 6, "FAILED", "gate-failed"),
        ("accuracy_drop_max = 0.01", 7, "INCONCLUSIVE", "gate-inconclusive"),
    ],
)
def test_the_exit_code_is_the_outcome_of_the_gate(
    stored: tuple[Path, Outcome], call: Here, text: str, code: int, word: str, error: str | None
) -> None:
    shown = call("bench", "--replay", stored[0], "--gate", gate(text))
    assert shown.code == code
    assert word in shown.out
    result = call("bench", "--replay", stored[0], "--gate", "gate.toml", "--json")
    assert result.code == code
    assert result.json["gate"]["outcome"] == word
    assert result.json.get("error", {}).get("code") == error


def test_an_invalid_gate_is_refused_before_anything_is_measured(call: Here, tmp_path: Path) -> None:
    result = call("bench", tmp_path / "no-run", "--gate", gate("speedup = 2"))
    assert result.code == 2
    assert "'speedup'" in result.err
    assert "speedup_min" in result.err


def test_a_rule_that_would_never_fail_is_refused_before_anything_is_measured(call: Here, run: Path) -> None:
    rule = gate("[[rule]]\nbackend = 'openvino'\nspeedup_min = 2")
    result = call("bench", run, "--batch", "1,4", "--gate", rule)
    assert result.code == 2
    assert "openvino" in result.err
    assert "batch sizes: 1, 4" in result.err
    assert not (run / "bench").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--batch", "8"), "--batch"),
        (("runs/a",), "runs/a"),
        (("--junit", "x.xml"), "--junit"),
    ],
)
def test_options_that_a_replay_would_ignore_are_refused(
    call: Here, words: tuple[str, ...], message: str
) -> None:
    result = call("bench", "--replay", "results.json", *words)
    assert result.code == 2
    assert message in result.err


def test_a_result_compared_with_itself_shows_no_regression(stored: tuple[Path, Outcome], call: Here) -> None:
    result = call("bench", "diff", stored[0], stored[0], "--json").json
    assert (result["command"], result["differs"]) == ("bench diff", [])
    assert "REGRESSION" not in {row["change"] for row in result["rows"]}


def test_a_result_of_another_machine_is_not_called_a_regression(
    stored: tuple[Path, Outcome], call: Here
) -> None:
    value = json.loads((stored[0] / "bench" / "results.json").read_text())
    value["machine"]["cpu"] = "another processor"
    side = value["comparisons"][0]["batches"][0]["candidate"]
    side["p50_ms"] *= 10
    side["p50_ends_ms"] = [end and 10 * end for end in side["p50_ends_ms"]]
    Path("other.json").write_text(json.dumps(value))
    result = call("bench", "diff", stored[0], "other.json")
    assert result.code == 0
    assert "another processor" in result.out
    assert "NOT COMPARABLE" in result.out
    assert "REGRESSION" not in result.out


def test_a_result_of_version_2_is_still_read(stored: tuple[Path, Outcome], call: Here) -> None:
    value = json.loads((stored[0] / "bench" / "results.json").read_text()) | {"schema_version": 2}
    for result in value["comparisons"]:
        del result["energy"]
        for entry in result["batches"]:
            del entry["gpu"]
            for name in ("baseline", "candidate"):
                for key in ("p50_ends_ms", "p99_ends_ms", "energy"):
                    del entry[name][key]
    Path("old.json").write_text(json.dumps(value))
    assert call("bench", "--replay", "old.json").code == 0
    undecided = call("bench", "--replay", "old.json", "--gate", gate("p50_max_ms = 1e6"), "--json")
    assert undecided.code == 7
    assert "measure again" in undecided.json["gate"]["checks"][0]["reason"]
