"""The benchmark of `compress bench` verdicts, at its smallest size."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import onnx
import pytest

from benchmarks import bench_validity
from benchmarks.busy import FORMS, loaded
from compress.bench.protocol.stats import Verdict
from compress.bench.results.record import RatioRecord, SessionRecord


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> tuple[int, Path, dict[str, Any]]:
    """Exit code, path and record of one repeat with one thread on one back end."""
    path = tmp_path_factory.mktemp("validity") / "verdicts.json"
    code = bench_validity.main(arguments(path))
    return code, path, json.loads(path.read_text())


def arguments(path: Path, *more: str) -> list[str]:
    options = "--repeats 1 --halves 1 --backend ort-cpu --threads 1 --pairs 10 --sessions 2 --model vgg_small"
    return [*options.split(), "--out", str(path), "--networks", str(path.parent), *more]


@pytest.mark.slow
def test_every_comparison_has_a_row_with_its_sessions(recorded: tuple[int, Path, dict[str, Any]]) -> None:
    rows = recorded[2]["rows"]
    assert [row["candidate"] for row in rows] == ["copy", "half"]
    for row in rows:
        assert (row["backend"], row["threads"], row["load"]) == ("ort-cpu", 1, FORMS[0])
        assert len(row["sessions"]) == row["speedup"]["sessions"] == 2
        assert row["speedup"]["low"] <= row["speedup"]["ratio"] <= row["speedup"]["high"]
        assert row["verdict"] in list(Verdict)


def test_exit_code_and_record_show_whether_false_verdicts_exceed_the_limit(
    recorded: tuple[int, Path, dict[str, Any]],
) -> None:
    code, _, record = recorded
    false = [bench_validity.is_false(row["candidate"], row["verdict"]) for row in record["rows"]]
    assert [row["false"] for row in record["summary"]] == [int(wrong) for wrong in false]
    assert record["holds"] is not any(false)
    assert code == int(any(false))


def test_record_holds_command_machine_versions_and_options(
    recorded: tuple[int, Path, dict[str, Any]],
) -> None:
    record = recorded[2]
    assert record["command"].startswith("python -m benchmarks.bench_validity --repeats 1")
    assert record["machine"]["cores"] >= 1
    assert "torch" in record["versions"]
    assert record["asked"]["pairs"] == 10
    assert record["minutes"] > 0


def test_resuming_a_finished_run_measures_nothing_and_other_options_are_refused(
    recorded: tuple[int, Path, dict[str, Any]],
) -> None:
    code, path, record = recorded
    assert bench_validity.main(arguments(path, "--resume")) == code
    assert json.loads(path.read_text()) == record  # nothing was measured again
    with pytest.raises(SystemExit, match="measured with other options"):
        bench_validity.main([*arguments(path, "--resume"), "--pairs", "12"])


def test_slice_has_half_the_width_and_copy_has_the_same_bytes(
    recorded: tuple[int, Path, dict[str, Any]],
) -> None:
    full, copy, half = (recorded[1].parent / f"{name}.onnx" for name in ("full", "copy", "half"))
    assert full.read_bytes() == copy.read_bytes()
    full_widths, half_widths = (widths(path) for path in (full, half))
    assert half_widths == [width // 2 for width in full_widths]


def widths(path: Path) -> list[int]:
    weights = [tensor.dims for tensor in onnx.load(str(path)).graph.initializer]
    return sorted(dims[0] for dims in weights if len(dims) == 4)


@pytest.mark.parametrize(
    ("candidate", "verdict", "false"),
    [
        ("copy", "FASTER", True),
        ("copy", "SLOWER", True),
        ("copy", "SAME", False),
        ("copy", "UNCLEAR", False),
        ("half", "FASTER", False),
        ("half", "SAME", True),
        ("half", "SLOWER", True),
        ("half", "UNCLEAR", True),
    ],
)
def test_verdict_is_false_for_a_difference_of_equal_files_or_a_slice_not_faster(
    candidate: str, verdict: str, false: bool
) -> None:
    assert bench_validity.is_false(candidate, verdict) is false


@pytest.mark.parametrize(("wrong", "holds"), [(2, True), (3, False)])
def test_two_false_verdicts_of_twenty_are_allowed(wrong: int, holds: bool) -> None:
    rows = [row("copy", "FASTER" if i < wrong else "UNCLEAR") for i in range(20)]
    (summary,) = bench_validity.summarize(rows)
    assert (summary["comparisons"], summary["false"], summary["allowed"], summary["holds"]) == (
        20,
        wrong,
        2,
        holds,
    )
    assert summary["verdicts"] == {"FASTER": wrong, "UNCLEAR": 20 - wrong}
    assert (summary["sessions"], summary["false_alone"]) == (40, 20)


def test_no_false_verdict_on_the_slice_is_allowed() -> None:
    summary = bench_validity.summarize([row("half", "FASTER")] * 9 + [row("half", "UNCLEAR")])[0]
    assert (summary["false"], summary["allowed"], summary["holds"]) == (1, 0, False)
    assert bench_validity.render_verdict_counts([summary]).row_count == 1


def row(candidate: str, verdict: str) -> dict[str, Any]:
    return {
        "backend": "ort-cpu", "threads": 1, "candidate": candidate, "verdict": verdict,
        "speedup": {"ratio": 1.0}, "floor": 0.01, "others_load": 0.5, "seconds": 10.0,
        "sessions": [[1.0, 1.1, "FASTER"], [1.0, 1.0, "SAME"]],
    }  # fmt: skip


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [(1.1, 1.3, "FASTER"), (0.7, 0.9, "SLOWER"), (1.0, 1.01, "SAME"), (0.9, 1.2, "UNCLEAR")],
)
def test_verdict_of_a_single_session(low: float, high: float, verdict: str) -> None:
    def ratio(low: float, high: float) -> RatioRecord:
        return RatioRecord(ratio=math.sqrt(low * high), low=low, high=high, pairs=6, log_half_width=0.0)

    one = SessionRecord(noise=ratio(0.99, 1.01), speedup=ratio(low, high), others_load=0.0)
    assert bench_validity.session_verdict(one) == verdict


@pytest.mark.parametrize("form", FORMS)
def test_the_load_computes_and_ends_with_its_block(form: str) -> None:
    import time

    import psutil

    before = {child.pid for child in psutil.Process().children()}
    with loaded(2, form, seed=1):
        own = [child for child in psutil.Process().children() if child.pid not in before]
        assert len(own) == 2
        until = time.monotonic() + 60
        while any(child.cpu_times().user < 0.2 for child in own):
            assert time.monotonic() < until
            time.sleep(0.05)
    assert not any(child.is_running() for child in own)
