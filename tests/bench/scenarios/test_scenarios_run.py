"""Scenarios of a run on ONNX Runtime: measured, stored, shown, gated and reported by the command line."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from compress import cli
from compress.bench import gate, scenarios
from compress.bench.report import report
from compress.bench.scenarios import ScenarioResult
from compress.bench.scenarios.rates import Outcome
from compress.core.errors import CompressError, Exit


@dataclass(frozen=True)
class CommandResult:
    """Exit code and output of a command."""

    code: int
    out: str
    err: str


@pytest.fixture
def call(capfd: pytest.CaptureFixture[str]) -> Any:
    def call(*arguments: object) -> CommandResult:
        capfd.readouterr()
        code = cli.run([str(argument) for argument in arguments])
        return CommandResult(code, *capfd.readouterr())

    return call


@pytest.fixture(scope="session")
def measured(untouched_run: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ScenarioResult]:
    """A run in all three scenarios; one low rate, and one above the capacity of any processor."""
    path = Path(shutil.copytree(untouched_run, tmp_path_factory.mktemp("scenarios") / "tiny-run"))
    options = scenarios.make_options(
        "server,single-stream,offline", pairs=10, qps="1e7,500", p99_bound_ms=10_000, max_batch=2
    )
    return path, scenarios.run_scenarios(path, options=options, threads=1, command=["compress", "bench"])


def only(measured: tuple[Path, ScenarioResult]) -> scenarios.record.ScenarioComparison:
    assert len(measured[1].comparisons) == 1
    return measured[1].comparisons[0]


def test_the_result_is_written_and_read_back_the_same(measured: tuple[Path, ScenarioResult]) -> None:
    path, result = measured
    assert scenarios.read(path / "bench" / "scenarios.json") == scenarios.read(path) == result
    assert not (path / "bench" / "results.json").exists()


def test_the_record_holds_the_protocol_and_the_machine(measured: tuple[Path, ScenarioResult]) -> None:
    result, actual = measured[1], only(measured)
    assert (result.schema_version, result.threads, result.command) == (1, 1, ("compress", "bench"))
    assert list(result.protocol) == ["single-stream", "offline", "server"]
    assert "session.run" in actual.timed
    assert actual.session["intra_op_num_threads"] == "1"
    assert (actual.baseline.label, actual.candidate.label) == ("dense", "compact")
    assert "onnxruntime" in " ".join(result.versions)


def test_a_single_stream_has_the_queries_that_its_percentiles_need(
    measured: tuple[Path, ScenarioResult],
) -> None:
    result = only(measured).single_stream
    assert result is not None
    for side in (result.baseline, result.candidate):
        assert side.times.count >= 1000
        for one in (side.times.p50, side.times.p90, side.times.p99):
            assert one is not None
            assert one.low_ms <= one.ms
            assert one.high_ms is None or one.ms <= one.high_ms
    assert result.speedup.low <= result.speedup.ratio <= result.speedup.high


def test_a_budget_that_is_too_short_gives_no_p99_but_keeps_the_measurements(run: Path) -> None:
    options = scenarios.make_options("single-stream", pairs=10, budget_s=1e-3)
    result = scenarios.run_scenarios(run, options=options, threads=1).comparisons[0].single_stream
    assert result is not None
    for side in (result.baseline, result.candidate):
        assert (side.times.p99 is not None) == (side.times.count >= 1000)


def test_a_low_rate_meets_the_bound_and_an_excessive_rate_exceeds_it(
    measured: tuple[Path, ScenarioResult],
) -> None:
    result = only(measured).server
    assert result is not None
    assert (result.bound_ms, result.bound_from, result.searched) == (10_000, "given", False)
    for side in (result.baseline, result.candidate):
        easy, hard = side.rates
        assert (easy.qps, hard.qps, hard.outcome) == (500, 1e7, Outcome.FAILS)
        assert easy.times.count >= 1000
        assert easy.times.p99 is not None
        end = easy.times.p99.high_ms  # none where a busy machine made queries late in a row
        held = end is not None and end <= result.bound_ms
        assert easy.outcome == (Outcome.HOLDS if held else Outcome.UNDECIDED)
        assert hard.load > 1
        assert hard.answered_qps < hard.qps
        assert 0 < easy.utilisation < hard.utilisation <= 1
        assert hard.max_queue > easy.max_queue
        assert (side.holds_qps, side.fails_qps) == (500 if held else None, 1e7)


def test_the_offline_scenario_records_why_it_ended(measured: tuple[Path, ScenarioResult]) -> None:
    result = only(measured).offline
    assert result is not None
    assert [entry.batch for entry in result.batches] == [1, 2]
    assert "largest batch allowed is 2" in result.stopped


def test_a_replay_shows_the_tables_and_notes(measured: tuple[Path, ScenarioResult], call: Any) -> None:
    shown = call("bench", "--replay", measured[0] / "bench" / "scenarios.json")
    assert shown.code == 0, shown.err
    words = " ".join(shown.out.replace("│", " ").split())
    server = only(measured).server
    assert server is not None
    outcomes = {rate.outcome for side in (server.baseline, server.candidate) for rate in side.rates}
    for text in ("single stream, latency in ms", "offline, images/s", "server, latency", *outcomes):
        assert text in words
    assert "normalizing images is not included" in words
    assert "not a conformance run" in words
    assert call("bench", "--replay", measured[0]).out == shown.out
    value = json.loads(call("bench", "--replay", measured[0], "--json").out)
    assert value["result"] == json.loads((measured[0] / "bench" / "scenarios.json").read_text())


def test_the_command_line_measures_a_scenario(run: Path, call: Any) -> None:
    words = ("--scenario", "offline", "--max-batch", "1", "--pairs", "10", "--threads", "1", "--json")
    done = call("bench", run, *words)
    assert done.code == 0, done.err
    value = json.loads(done.out)["result"]
    assert value["kind"] == "compress-scenarios"
    assert value == json.loads((run / "bench" / "scenarios.json").read_text())
    assert value["comparisons"][0]["server"] is None


@pytest.mark.parametrize(
    ("words", "messages"),
    [
        (("--scenario", "sever"), ("unknown scenario 'sever'", "Did you mean server")),
        (
            ("--scenario", "multi-stream"),
            ("unknown scenario 'multi-stream'", "single-stream, offline, server"),
        ),
        (("--scenario", "server", "--qps", "50,fast"), ("'fast' is not a valid rate", "--qps")),
        (("--scenario", "server", "--qps", "0"), ("'0' is not a valid rate",)),
        (("--scenario", "server", "--qps", "-5"), ("'-5' is not a valid rate",)),
        (("--scenario", "server", "--qps", "inf"), ("'inf' is not a valid rate",)),
        (("--scenario", "server", "--p99-bound-ms", "0"), ("above 0 ms, not 0", "--p99-bound-ms")),
        (("--scenario", "server", "--p99-bound-ms", "-1"), ("above 0 ms, not -1",)),
        (("--scenario", "server", "--queries", "999"), ("needs at least 1,000", "--queries")),
        (("--scenario", "server", "--max-server-batch", "0"), ("server batch must be at least 1, not 0",)),
        (("--scenario", "offline", "--max-batch", "0"), ("largest batch must be at least 1, not 0",)),
        (("--scenario", "offline", "--max-batch-seconds", "0"), ("above 0 seconds, not 0",)),
        (("--scenario", "offline", "--qps", "50"), ("--qps", "not measured", "offline,server")),
        (("--scenario", "offline", "--batch", "1,8"), ("--batch 1,8", "--max-batch")),
        (("--scenario", "offline", "--budget", "0"), ("budget must be above 0 seconds, not 0",)),
        (("--qps", "50"), ("--qps needs a scenario", "--scenario server")),
    ],
)
def test_impossible_options_are_refused_before_anything_is_measured(
    run: Path, call: Any, words: tuple[str, ...], messages: tuple[str, ...]
) -> None:
    done = call("bench", run, *words)
    assert done.code == int(Exit.USAGE)
    for text in messages:
        assert text in done.err
    assert not (run / "bench").exists()


def test_a_damaged_result_is_one_error(measured: tuple[Path, ScenarioResult], tmp_path: Path) -> None:
    value = json.loads((measured[0] / "bench" / "scenarios.json").read_text())
    for change, code in (({"schema_version": 99}, "schema-version"), ({"threads": "x"}, "damaged-file")):
        path = tmp_path / "scenarios.json"
        path.write_text(json.dumps(value | change))
        with pytest.raises(CompressError) as caught:
            scenarios.read(path)
        assert (caught.value.code, caught.value.exit) == (code, Exit.MISSING)


# --- the gate -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "outcome"),
    [
        ("server_qps_min = 500", "PASSED"),
        ("server_qps_min = 499.0", "PASSED"),
        ("server_qps_min = 501.0", "INCONCLUSIVE"),
        ("server_qps_min = 1e7", "FAILED"),
        ("offline_images_per_s_min = 1e-3", "PASSED"),
        ("offline_images_per_s_min = 1e12", "FAILED"),
        ("single_stream_p90_max_ms = 1e6", "PASSED"),
        ("single_stream_p99_max_ms = 1e6", "PASSED"),
        ("single_stream_p90_max_ms = 1e-9", "FAILED"),
        ("speedup_min = 1.0", "INCONCLUSIVE"),
        ("top1_min = 0.5", "PASSED"),
    ],
)
def test_a_quality_gate_evaluates_the_scenarios_with_their_intervals(
    measured: tuple[Path, ScenarioResult], tmp_path: Path, text: str, outcome: str
) -> None:
    (tmp_path / "gate.toml").write_text(text)
    quiet = _quiet(measured[1])
    result = gate.evaluate_gate(quiet, gate.read(tmp_path / "gate.toml"))
    assert [check.outcome for check in result.checks] == [outcome]


def _quiet(result: ScenarioResult) -> ScenarioResult:
    """Return the result as if measured on a quiet machine, whose intervals are narrow."""
    value = result.model_dump(mode="json")
    for actual in value["comparisons"]:
        for name in ("p90", "p99"):
            one = actual["single_stream"]["candidate"]["times"][name]
            one.update(low_ms=0.9 * one["ms"], high_ms=1.1 * one["ms"])
        for name in ("single_stream", "offline", "server"):
            actual[name]["others_load"] = 0.0
        for name in ("baseline", "candidate"):
            actual["server"][name]["rates"][0]["outcome"] = Outcome.HOLDS
            actual["server"][name]["holds_qps"] = 500
    return ScenarioResult.model_validate(value)


def test_a_miss_on_a_busy_machine_is_inconclusive(
    measured: tuple[Path, ScenarioResult], tmp_path: Path
) -> None:
    value = measured[1].model_dump(mode="json")
    value["comparisons"][0]["server"]["others_load"] = 0.5
    (tmp_path / "gate.toml").write_text("server_qps_min = 1e7")
    result = gate.evaluate_gate(ScenarioResult.model_validate(value), gate.read(tmp_path / "gate.toml"))
    assert result.checks[0].outcome == "INCONCLUSIVE"
    assert "50% of the processors" in result.checks[0].reason


def test_a_scenario_that_was_not_measured_is_inconclusive_and_gives_the_command(
    measured: tuple[Path, ScenarioResult], tmp_path: Path
) -> None:
    value = measured[1].model_dump(mode="json")
    value["comparisons"][0]["server"] = None
    (tmp_path / "gate.toml").write_text("server_qps_min = 5")
    result = gate.evaluate_gate(ScenarioResult.model_validate(value), gate.read(tmp_path / "gate.toml"))
    assert result.checks[0].outcome == "INCONCLUSIVE"
    assert "--scenario server" in result.checks[0].reason


def test_a_paired_comparison_is_evaluated_together_with_the_stored_scenarios(
    measured: tuple[Path, ScenarioResult], tmp_path: Path, call: Any
) -> None:
    path = Path(shutil.copytree(measured[0], tmp_path / "tiny-run"))
    scenarios.record.save(_quiet(measured[1]), path / "bench" / "scenarios.json")
    rules = tmp_path / "gate.toml"
    rules.write_text("server_qps_min = 500\nspeedup_min = 0.001\n")
    words = ("--pairs", "10", "--threads", "1", "--gate", rules, "--json")
    both = call("bench", path, *words)
    assert (both.code, json.loads(both.out)["gate"]["outcome"]) == (0, "PASSED"), both.err
    shown = call("bench", "--replay", path / "bench" / "scenarios.json", "--gate", rules, "--json")
    assert json.loads(shown.out)["gate"]["outcome"] == "PASSED"
    _of_another_file(path / "bench" / "scenarios.json")
    alone = call("bench", "--replay", path, "--gate", rules, "--json")
    checks = {check["constraint"]: check for check in json.loads(alone.out)["gate"]["checks"]}
    assert checks["speedup_min"]["outcome"] == "PASSED"
    assert checks["server_qps_min"]["outcome"] == "INCONCLUSIVE"


def _of_another_file(path: Path) -> None:
    value = json.loads(path.read_text())
    value["comparisons"][0]["candidate"]["sha256"] = "0" * 64
    path.write_text(json.dumps(value))


# --- the report -----------------------------------------------------------------------------------------


def test_the_report_shows_the_scenarios_with_their_curves(
    measured: tuple[Path, ScenarioResult], tmp_path: Path
) -> None:
    written = report(measured[0], out=tmp_path / "report.html")
    page, text = written.html.read_text("utf-8"), written.markdown.read_text("utf-8")
    assert ">Scenarios</h" in page
    assert "Throughput over the batch size" in page
    assert "The p99 of the latency over the rate of queries" in page
    assert "mathdefault" not in page
    assert "### Scenarios" in text
    assert "500 queries/s meet the bound, 10,000,000 exceed it" in page
    assert "500 queries/s meet the bound, 10,000,000 exceed it" in text
    assert written.facts.runs[0].scenarios == measured[1]


def test_a_report_gives_the_command_that_replaces_a_damaged_scenario_result(
    run: Path, tmp_path: Path
) -> None:
    (run / "bench").mkdir(exist_ok=True)
    (run / "bench" / "scenarios.json").write_text("{}")
    written = report(run, out=tmp_path / "report.html")
    missing = {entry.part: entry for entry in written.facts.runs[0].missing}
    assert "--scenario" in (missing["scenarios"].command or "")
