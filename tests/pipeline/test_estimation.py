"""The estimate runs real steps of every method, adds up, and leaves no files."""

from __future__ import annotations

from pathlib import Path

import pytest
from tiny_training import Make

from compress import tables as show
from compress.core.errors import CompressError, Exit
from compress.core.formatting import format_duration
from compress.pipeline import Estimate, TrainRequest, estimate, run_training

SECONDS = 1.0


def files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def adds_up(result: Estimate) -> None:
    """Check that the total is the sum of its parts and lies within its range."""
    total = 0.0
    for stage in result.stages:
        m = stage.measured
        assert sum(phase.epochs for phase in m.phases) == stage.epochs
        assert m.evaluation_s > 0 and 0 < m.evaluated <= 1
        assert m.checkpoint_s > 0 and m.checkpoint_bytes > 1000
        assert m.host_bytes > 1e8 and m.device == "cpu" and m.device_bytes is None
        total += stage.setup_s + stage.epochs * m.evaluation_s + stage.checkpoints * m.checkpoint_s
        for phase in m.phases:
            assert 0 < phase.low_s <= phase.step_s <= phase.high_s
            assert phase.blocks >= 3 and phase.steps >= 3 and phase.warm_up_steps >= 2
            assert 0 <= phase.waiting <= 1
            total += phase.epochs * (phase.begin_s + phase.first_s + phase.end_s)
            total += phase.epochs * m.steps_per_epoch * phase.step_s
    middle, low, high = result.seconds
    assert middle == pytest.approx(total)
    assert low <= middle <= high
    values = result.to_json()
    assert values["hours"] == pytest.approx(total / 3600)
    assert sum(stage["seconds"] for stage in values["stages"]) == pytest.approx(total)


@pytest.mark.parametrize(
    ("method", "stages"),
    [
        ("dcff", [("dcff", [(0, 40)])]),
        ("abp", [("abp", [(0, 36), (36, 4)])]),
        ("kdfs", [("dense", [(0, 20)]), ("kdfs", [(0, 10), (10, 10)])]),
        ("l1", [("dense", [(0, 20)]), ("l1", [(0, 20)])]),
    ],
)
def test_every_method_is_measured_in_all_its_parts(
    method: str, stages: list[object], request_for: Make, tmp_path: Path
) -> None:
    request = request_for(method=method, target="macs=0.5", settings={"epochs": 40, "ema": 0.9})
    result = estimate(request, SECONDS)
    adds_up(result)
    assert [
        (stage.method, [(phase.first, phase.epochs) for phase in stage.measured.phases])
        for stage in result.stages
    ] == stages
    assert result.stages[0].measured.steps_per_epoch == 1437 // 32
    assert files(tmp_path) == []
    text = [part for part in show.render_estimate(result) if isinstance(part, str)]
    assert text[0].startswith("about ") and "digits on cpu" in text[0]


def test_longer_trainings_take_longer_in_proportion(request_for: Make) -> None:
    result = estimate(request_for(settings={"epochs": 10, "checkpoint_every": 4}), SECONDS)
    (stage,) = result.stages
    assert stage.checkpoints == 3
    (phase,) = stage.measured.phases
    an_epoch = stage.measured.steps_per_epoch * phase.step_s
    assert stage.seconds(lambda p: 2 * p.step_s) - stage.seconds() == pytest.approx(10 * an_epoch)


def test_an_existing_run_is_not_changed(request_for: Make, tmp_path: Path) -> None:
    request = request_for(settings={"epochs": 1})
    run_training(request)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.name[:5] != ".lock"}
    estimate(request, SECONDS)
    after = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.name[:5] != ".lock"}
    assert after == before


def test_too_short_a_time_is_refused() -> None:
    with pytest.raises(CompressError, match="too short") as caught:
        estimate(TrainRequest(model="vgg_small", data="digits", target="macs=0.5"), 0.1)
    assert caught.value.exit is Exit.USAGE


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0123, "12.3 ms"),
        (1.5, "1.5 s"),
        (90, "90 s"),
        (600, "10 minutes"),
        (9000, "2.5 hours"),
        (2e6, "23.1 days"),
    ],
)
def test_durations_are_in_a_person_s_units(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text
