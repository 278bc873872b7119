"""Two results are compared where they can be; another machine or configuration is named, never blamed."""

from __future__ import annotations

import io
from typing import Any

import pytest
from made_results import artifact, batch, comparison, result, speed
from rich.console import Console

from compress.bench.protocol.machine import CpuState
from compress.bench.results.diff import Change, Diff, diff, render_diff
from compress.bench.results.record import BenchResult
from compress.core.machine import Machine


def slower(**other: Any) -> BenchResult:
    """The compact network needs 3 ms instead of 2, and is 1.33 times as fast as the dense one."""
    times = {"p50_ms": 3.0, "p50_ends_ms": (2.95, 3.05), "p99_ms": 6.0, "p99_ends_ms": (5.8, 6.2)}
    return result(comparison(batch(candidate=times, speedup=speed(1.33, 1.3, 1.36))), **other)


def changes(actual: Diff) -> dict[str, Change]:
    return {row.quantity: row.change for row in actual.rows}


TIMED = ("p50 ms", "p99 ms", "speed-up")


def test_a_slower_network_on_the_same_machine_is_a_regression() -> None:
    actual = changes(diff(result(), slower()))
    assert {actual[name] for name in TIMED} == {Change.REGRESSION}


def test_the_same_the_other_way_round_is_an_improvement() -> None:
    actual = changes(diff(slower(), result()))
    assert {actual[name] for name in TIMED} == {Change.IMPROVEMENT}


OTHER: list[tuple[dict[str, Any], str]] = [
    ({"machine": Machine(cpu="Xeon", cores=2, memory_bytes=8_000_000_000, platform="Linux")}, "machine: cpu"),
    ({"threads": 2}, "threads"),
    ({"versions": {"onnxruntime": "1.30.0"}}, "version of onnxruntime"),
    ({"before": CpuState(governor="powersave", load_average=None)}, "governor"),
]


@pytest.mark.parametrize(("other", "what"), OTHER)
def test_another_machine_or_configuration_is_named_and_no_regression(
    other: dict[str, Any], what: str
) -> None:
    actual = diff(result(), slower(**other))
    assert [entry.what for entry in actual.differs] == [what]
    rows = [row for row in actual.rows if row.quantity in TIMED]
    assert {row.change for row in rows} == {Change.NOT_COMPARABLE}
    assert all(what in row.reason for row in rows)


def test_another_session_is_named_for_its_back_end_only() -> None:
    second = result(
        comparison(batch(), session={"intra_op_num_threads": "2"}), comparison(batch(), backend="openvino")
    )
    actual = diff(result(comparison(), comparison(backend="openvino")), second)
    assert [entry.what for entry in actual.differs] == ["ort-cpu: intra_op_num_threads"]
    forbidden = {row.backend for row in actual.rows if row.change is Change.NOT_COMPARABLE}
    assert forbidden == {"ort-cpu"}


def test_what_is_counted_is_compared_across_machines() -> None:
    machine = Machine(cpu="Xeon", cores=64, memory_bytes=1, platform="Linux")
    second = result(comparison(candidate=artifact("compact", top1=0.8, macs=90)), machine=machine)
    actual = changes(diff(result(), second))
    assert (actual["top-1"], actual["MACs"]) == (Change.REGRESSION, Change.IMPROVEMENT)
    assert actual["parameters"] is Change.SAME


def test_accuracies_of_other_images_are_not_compared() -> None:
    second = result(comparison(candidate=artifact("compact", top1=0.5, top1_images=256)))
    assert changes(diff(result(), second))["top-1"] is Change.NOT_COMPARABLE


def test_other_batch_sizes_are_listed_and_not_compared() -> None:
    actual = diff(result(comparison(batch(1), batch(8))), result(comparison(batch(1), batch(32))))
    assert actual.only_first == ("compact against dense on ort-cpu, batch 8",)
    assert actual.only_second == ("compact against dense on ort-cpu, batch 32",)
    assert {row.batch for row in actual.rows} == {None, 1}


def test_a_change_inside_the_noise_floor_is_unclear() -> None:
    second = result(comparison(batch(candidate={"p50_ms": 2.2}, floor=0.2)))
    assert changes(diff(result(), second))["p50 ms"] is Change.UNCLEAR


def test_ranges_within_two_percent_are_the_same() -> None:
    narrow = comparison(batch(candidate={"p50_ends_ms": (1.995, 2.005)}, floor=0.002))
    assert changes(diff(result(narrow), result(narrow)))["p50 ms"] is Change.SAME


def test_a_time_measured_beside_other_work_is_unclear_and_the_paired_ratio_is_not() -> None:
    busy = slower()
    loaded = busy.comparisons[0].batches[0].model_copy(update={"others_load": 0.5})
    actual = changes(diff(result(), result(comparison(loaded))))
    assert actual["p50 ms"] is Change.UNCLEAR
    assert actual["speed-up"] is Change.REGRESSION


def test_the_table_says_what_differs_and_that_times_are_not_compared() -> None:
    console = Console(width=200, record=True, file=io.StringIO())
    console.print(render_diff(diff(result(), slower(threads=2), ("old.json", "new.json"))))
    text = console.export_text()
    assert all(word in text for word in ("old.json", "new.json", "threads", "NOT COMPARABLE"))
    assert "Times are not compared" in text
    assert "REGRESSION" not in text
