"""Quality gates pass and fail only what the measurement decides, and show the margin."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from made_results import artifact, batch, comparison, result, side, speed
from rich.console import Console

from compress.bench.gate import (
    LimitResult,
    Limits,
    Outcome,
    QualityGate,
    evaluate_gate,
    read,
    render_gate,
    render_junit,
    to_json,
)
from compress.bench.gate.evaluation import COUNTED_VALUES, PAIRED_VALUES
from compress.bench.gate.scenario_limits import SCENARIO_VALUES
from compress.bench.results.record import BatchRecord, BenchResult
from compress.core.errors import CompressError, Exit

PASSED, FAILED, INCONCLUSIVE = Outcome.PASSED, Outcome.FAILED, Outcome.INCONCLUSIVE


def only(actual: BenchResult, **constraints: Any) -> LimitResult:
    """Return the result of a single limit."""
    checks = evaluate_gate(actual, QualityGate.model_validate(constraints)).checks
    assert len(checks) == 1
    return checks[0]


def of(entry: BatchRecord) -> BenchResult:
    return result(comparison(entry))


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "gate.toml"
    path.write_text(text)
    return path


def test_every_limit_has_a_value() -> None:
    assert {*COUNTED_VALUES, *PAIRED_VALUES, *SCENARIO_VALUES} == set(Limits.model_fields)


@pytest.mark.parametrize(
    ("limit", "outcome"), [(1.9, PASSED), (1.96, INCONCLUSIVE), (2.04, INCONCLUSIVE), (2.1, FAILED)]
)
def test_a_limit_inside_the_interval_cannot_be_decided(limit: float, outcome: Outcome) -> None:
    assert only(result(), speedup_min=limit).outcome is outcome


@pytest.mark.parametrize(("limit", "outcome"), [(1.7, PASSED), (1.9, INCONCLUSIVE), (2.3, FAILED)])
def test_a_limit_nearer_than_the_noise_floor_cannot_be_decided(limit: float, outcome: Outcome) -> None:
    assert only(of(batch(floor=0.1)), speedup_min=limit).outcome is outcome


@pytest.mark.parametrize(("limit", "outcome"), [(1.95, PASSED), (1.97, INCONCLUSIVE), (2.05, FAILED)])
def test_a_limit_nearer_than_two_percent_cannot_be_decided(limit: float, outcome: Outcome) -> None:
    sharp = of(batch(speedup=speed(2.0, 1.999, 2.001), floor=0.001))
    assert only(sharp, speedup_min=limit).outcome is outcome


@pytest.mark.parametrize(("limit", "outcome"), [(52, PASSED), (50, INCONCLUSIVE), (48, FAILED)])
def test_memory_that_was_measured_once_is_not_exact(limit: float, outcome: Outcome) -> None:
    assert only(result(), peak_max_mb=limit).outcome is outcome


@pytest.mark.parametrize(("limit", "outcome"), [(2.1, PASSED), (2.01, INCONCLUSIVE), (1.9, FAILED)])
def test_a_median_time_is_evaluated_with_its_interval(limit: float, outcome: Outcome) -> None:
    assert only(result(), p50_max_ms=limit).outcome is outcome


def test_a_p99_of_too_few_samples_is_inconclusive_and_gives_the_pairs_it_needs() -> None:
    few = batch(candidate={"count": 800, "repeats": 30, "p99_ms": None, "p99_ends_ms": None})
    check = only(of(few), p99_max_ms=100)
    assert (check.outcome, check.value, check.margin) == (INCONCLUSIVE, None, None)
    assert "1,000 samples" in check.reason
    assert "--pairs 34" in check.reason


def test_a_percentile_whose_interval_has_no_upper_end_never_passes() -> None:
    check = only(of(batch(candidate={"p99_ends_ms": (3.9, None)})), p99_max_ms=1e6)
    assert (check.outcome, check.high) == (INCONCLUSIVE, None)


def test_a_time_without_an_interval_is_inconclusive() -> None:
    check = only(of(batch(candidate={"p50_ends_ms": None})), p50_max_ms=1e6)
    assert check.outcome is INCONCLUSIVE
    assert "measure again" in check.reason


@pytest.mark.parametrize(("limit", "outcome"), [(1.0, INCONCLUSIVE), (3.0, PASSED)])
def test_a_time_that_others_made_longer_may_pass_but_not_fail(limit: float, outcome: Outcome) -> None:
    assert only(of(batch(others_load=0.4)), p50_max_ms=limit).outcome is outcome


def test_efficiency_is_evaluated_with_the_interval_of_the_speed_up() -> None:
    assert only(result(), efficiency_min=0.48).outcome is PASSED
    assert only(result(), efficiency_min=0.5).outcome is INCONCLUSIVE
    assert only(of(batch(mac_reduction=None)), efficiency_min=0.1).outcome is INCONCLUSIVE


def test_the_speed_up_on_the_device_is_inconclusive_without_a_device() -> None:
    assert only(result(), device_speedup_min=0.1).outcome is INCONCLUSIVE
    assert only(of(batch(device_speedup=speed(3.0, 2.9, 3.1))), device_speedup_min=2.5).outcome is PASSED


@pytest.mark.parametrize(
    ("constraint", "holds", "fails"),
    [
        ("accuracy_drop_max", 0.01, 0.0099),
        ("top1_min", 0.89, 0.9),
        ("size_max_mb", 1, 0.99),
        ("macs_max", 100, 99),
        ("params_max", 10, 9),
        ("mac_reduction_min", 4, 4.1),
    ],
)
def test_a_counted_value_passes_up_to_its_limit(constraint: str, holds: float, fails: float) -> None:
    assert only(result(), **{constraint: holds}).outcome is PASSED
    assert only(result(), **{constraint: fails}).outcome is FAILED


def test_a_drop_from_an_unknown_accuracy_is_inconclusive() -> None:
    check = only(result(comparison(baseline=artifact("dense", top1=None))), accuracy_drop_max=1)
    assert check.outcome is INCONCLUSIVE
    assert "'dense'" in check.reason


@pytest.mark.parametrize("images", [256, None])
def test_a_drop_between_accuracies_of_other_images_is_inconclusive(images: int | None) -> None:
    actual = result(comparison(candidate=artifact("int8", top1_images=images)))
    check = only(actual, accuracy_drop_max=0.5)
    assert check.outcome is INCONCLUSIVE
    assert "different images (10,000 and" in check.reason


@pytest.mark.parametrize(
    ("constraint", "limit", "margin"),
    [("speedup_min", 1.6, 0.25), ("p50_max_ms", 4, 0.5), ("macs_max", 80, -0.25), ("top1_min", 0.8, 0.09)],
)
def test_the_margin_is_the_distance_to_the_limit(constraint: str, limit: float, margin: float) -> None:
    assert only(result(), **{constraint: limit}).margin == pytest.approx(margin)


def test_a_rule_applies_to_its_artifact_back_end_and_batch() -> None:
    actual = result(
        comparison(batch(1), batch(8)),
        comparison(batch(1), backend="openvino"),
        comparison(batch(1), candidate=artifact("int8")),
    )

    def targets_of(**rule: Any) -> list[tuple[str, str, int | None]]:
        gate = QualityGate.model_validate({"rule": [{**rule, "speedup_min": 1}]})
        return [(c.backend, c.artefact, c.batch) for c in evaluate_gate(actual, gate).checks]

    assert targets_of(batch=8) == [("ort-cpu", "compact", 8)]
    assert targets_of(backend="open*") == [("openvino", "compact", 1)]
    assert targets_of(artefact="int8*") == [("ort-cpu", "int8", 1)]
    assert len(targets_of()) == 4


def test_a_rule_that_applies_to_nothing_is_refused_with_the_targets() -> None:
    gate = QualityGate.model_validate({"rule": [{"backend": "openvno", "speedup_min": 1}]})
    with pytest.raises(CompressError, match="openvno") as caught:
        evaluate_gate(result(), gate)
    assert "back ends: ort-cpu" in caught.value.hint
    assert caught.value.exit is Exit.USAGE


@pytest.mark.parametrize(
    ("constraints", "code"),
    [
        ({"speedup_min": 1.5}, Exit.OK),
        ({"speedup_min": 2.0}, Exit.INCONCLUSIVE),
        ({"speedup_min": 2.0, "top1_min": 0.95}, Exit.GATE),
    ],
)
def test_a_failure_takes_precedence_over_an_inconclusive_limit(
    constraints: dict[str, float], code: Exit
) -> None:
    assert evaluate_gate(result(), QualityGate.model_validate(constraints)).exit is code


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ("speedup = 1.5", "'speedup'", "speedup_min"),
        ("batch = 1\nspeedup_min = 1", "'batch'", "[[rule]]"),
        ("[[rule]]\nspeedup_min = 1\n[[rule]]\np50_max = 2", "'p50_max' of rule 2", "p50_max_ms"),
        ("speedup_min = 'fast'", "speedup_min = 'fast'", "number"),
        ("speedup_min = true", "speedup_min = True", "number"),
        ("p50_max_ms = 0", "p50_max_ms = 0", "greater than 0"),
        ("accuracy_drop_max = 2", "accuracy_drop_max = 2", "less than or equal to 1"),
        ("[[rule]]\nbackend = 'trt'", "sets no limit in rule 1", "speedup_min"),
        ("", "sets no limit", "speedup_min"),
        ("speedup_min 1.5", "is not valid TOML", "speedup_min = 1.5"),
    ],
)
def test_an_invalid_gate_is_refused_with_its_key_and_a_hint(
    text: str, message: str, hint: str, tmp_path: Path
) -> None:
    with pytest.raises(CompressError) as caught:
        read(written(tmp_path, text))
    assert message in caught.value.message
    assert hint in caught.value.hint
    assert caught.value.exit is Exit.USAGE


def test_a_missing_gate_file_is_reported(tmp_path: Path) -> None:
    with pytest.raises(CompressError, match=r"gone\.toml") as caught:
        read(tmp_path / "gone.toml")
    assert caught.value.exit is Exit.MISSING


def test_a_file_has_top_level_limits_and_rules(tmp_path: Path) -> None:
    gate = read(
        written(tmp_path, "top1_min = 0.5\n[[rule]]\nartefact = 'compact'\nbatch = 1\nspeedup_min = 1")
    )
    assert [(title, rule.set_limits()) for title, rule in gate.rules()] == [
        ("all", {"top1_min": 0.5}),
        ("rule 1", {"speedup_min": 1.0}),
    ]


def test_junit_counts_failures_and_shows_inconclusive_limits_as_errors() -> None:
    gate = QualityGate.model_validate({"speedup_min": 2.0, "top1_min": 0.95, "macs_max": 100})
    root = ElementTree.fromstring(render_junit(evaluate_gate(result(), gate)))
    suite = root[0]
    assert {key: suite.get(key) for key in ("tests", "failures", "errors", "skipped")} == {
        "tests": "3",
        "failures": "1",
        "errors": "1",
        "skipped": "0",
    }
    cases = {case.get("name", "").split(" ")[0]: case for case in suite.iter("testcase")}
    assert cases["top1_min"].find("failure") is not None
    assert cases["speedup_min"].find("error") is not None
    assert [child.tag for child in cases["macs_max"]] == ["system-out"]


def test_the_table_names_each_limit_with_its_margin_and_outcome() -> None:
    console = Console(width=200, record=True, file=io.StringIO())
    console.print(
        render_gate(
            evaluate_gate(result(), QualityGate.model_validate({"speedup_min": 1.6, "top1_min": 0.95}))
        )
    )
    text = console.export_text()
    assert all(word in text for word in ("1.600x", "+25.0%", "PASSED", "95.00%", "-6.0 points", "FAILED"))


def test_json_has_an_error_only_if_a_limit_did_not_pass() -> None:
    good, bad = (
        evaluate_gate(result(), QualityGate.model_validate({"speedup_min": limit})) for limit in (1.5, 9)
    )
    assert to_json(good).keys() == {"gate"}
    assert to_json(bad)["error"]["code"] == "gate-failed"
    assert to_json(bad)["gate"]["checks"][0]["margin"] == pytest.approx(2 / 9 - 1)


def test_only_the_candidate_is_evaluated() -> None:
    slow_baseline = batch(baseline=side("dense", 400.0))
    assert only(of(slow_baseline), p50_max_ms=3).outcome is PASSED
