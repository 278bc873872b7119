"""Several sessions become one record: their differences count, and nothing of them is lost."""

from __future__ import annotations

import math
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from compress.bench import pipeline
from compress.bench.backends import RunConfig
from compress.bench.pipeline import _Plan, _protocol
from compress.bench.protocol.energy import EnergyRecord
from compress.bench.protocol.gpu import GpuBlock
from compress.bench.protocol.memory import Memory
from compress.bench.protocol.paired import WarmUp
from compress.bench.protocol.stats import Verdict
from compress.bench.protocol.worker import BatchMeasurements, Job, Pairs, Side, SideMeasurements
from compress.bench.results.merge_sessions import merge_sessions

WIDE = Side(label="wide", path=Path("wide.onnx"), macs=400)
NARROW = Side(label="narrow", path=Path("narrow.onnx"), macs=100)


def pairs(ratio: float, *, ns: int = 1_000_000, repeats: int = 20, blocks: int = 3) -> Pairs:
    """Pairs of which each has the ratio, the baseline taking `ns`."""
    a = np.full(2 * blocks * repeats, ns, np.int64)
    return Pairs(
        ratios=(math.log(ratio),) * 2 * blocks,
        a_ns=a,
        b_ns=(a / ratio).astype(np.int64),
        repeats=(repeats,) * 2,
    )


def side(first: bool = False, **warm: object) -> SideMeasurements:
    values = {"first_ns": 5, "count": 10, "total_ns": 100, "settled": True, "typical_ns": 1e6}
    return SideMeasurements(
        warm=WarmUp(**{**values, **warm}),  # type: ignore[arg-type]
        load_ns=7,
        memory=Memory(peak=50, added=5) if first else None,
        energy=(EnergyRecord(source="rapl", joules=1.0, watts=2.0, inferences=3),) if first else (),
    )


def taken(noise: float, speedup: float, *, first: bool = False, **changes: object) -> BatchMeasurements:
    values: dict[str, object] = {
        "batch": 1,
        "same": pairs(noise),
        "other": pairs(speedup),
        "device": None,
        "baseline": side(first),
        "candidate": side(first),
        "others_load": 0.0,
        "gpu": None,
    }
    return BatchMeasurements(**{**values, **changes})  # type: ignore[arg-type]


def block(celsius: int = 50, throttled: tuple[str, ...] = ()) -> GpuBlock:
    return GpuBlock(
        sm_mhz=1000, memory_mhz=900, celsius=celsius, watts=100.0, used_bytes=1, throttled=throttled
    )


def test_sessions_that_agree_within_themselves_and_not_with_each_other_are_unclear() -> None:
    apart = [taken(1.0, ratio, first=i == 0) for i, ratio in enumerate((1.16, 0.91, 1.16, 0.92, 1.15, 0.91))]
    result = merge_sessions(apart, WIDE, NARROW, seed=0)
    assert result.verdict is Verdict.UNCLEAR
    assert (result.speedup.low, result.speedup.high) == pytest.approx((0.91, 1.16))
    assert merge_sessions(apart[:1], WIDE, NARROW, seed=0).verdict is Verdict.FASTER


def test_sessions_whose_own_floor_differs_widen_the_floor() -> None:
    noisy = [taken(same, 1.1, first=i == 0) for i, same in enumerate((1.0, 1.2, 0.9, 1.0, 1.0, 1.0))]
    result = merge_sessions(noisy, WIDE, NARROW, seed=0)
    assert result.floor == pytest.approx(math.log(1.2))
    assert result.verdict is Verdict.UNCLEAR


def test_sessions_that_agree_give_their_verdict_and_efficiency() -> None:
    result = merge_sessions([taken(1.0, 2.0, first=i == 0) for i in range(6)], WIDE, NARROW, seed=0)
    assert result.verdict is Verdict.FASTER
    assert (result.mac_reduction, result.efficiency) == (4.0, pytest.approx(0.5))
    assert (result.speedup.pairs, result.speedup.sessions, len(result.sessions)) == (36, 6, 6)


def test_all_times_count_although_sessions_repeat_differently() -> None:
    parts = [taken(1.0, 2.0, first=i == 0, other=pairs(2.0, repeats=20 + i)) for i in range(6)]
    result = merge_sessions(parts, WIDE, NARROW, seed=0)
    assert result.baseline.count == result.candidate.count == 6 * sum(range(20, 26))
    assert result.baseline.repeats == 22
    assert (result.baseline.p50_ms, result.candidate.p50_ms) == (1.0, 0.5)


def test_the_interval_of_a_percentile_knows_that_sessions_differ() -> None:
    fast, slow = pairs(1.0, ns=1_000_000), pairs(1.0, ns=1_500_000)
    parts = [taken(1.0, 1.0, first=i == 0, other=slow if i % 2 else fast) for i in range(12)]
    ends = merge_sessions(parts, WIDE, NARROW, seed=0).baseline.p50_ends_ms
    assert ends == (1.0, 1.5)


def test_warm_ups_are_summed_and_one_that_did_not_settle_is_told() -> None:
    parts = [taken(1.0, 1.0, first=True, baseline=side(True, first_ns=9)), taken(1.0, 1.0)]
    parts.append(taken(1.0, 1.0, baseline=side(first_ns=1, settled=False)))
    result = merge_sessions(parts, WIDE, NARROW, seed=0)
    assert (result.baseline.warm_up_inferences, result.baseline.first_ms) == (30, 5e-6)
    assert (result.baseline.settled, result.candidate.settled) == (False, True)


def test_energy_and_memory_are_those_of_the_first_session() -> None:
    result = merge_sessions([taken(1.0, 1.0, first=i == 0) for i in range(3)], WIDE, NARROW, seed=0)
    assert (result.candidate.peak_bytes, result.candidate.energy[0].joules) == (50, 1.0)


def test_states_of_the_gpu_stand_one_after_the_other() -> None:
    parts = [
        taken(1.0, 1.0, first=True, gpu=(block(), block(), block())),
        taken(1.0, 1.0, gpu=(block(), block(60, ("heat",)), block())),
    ]
    result = merge_sessions(parts, WIDE, NARROW, seed=0).gpu
    assert result is not None
    assert (len(result.blocks), result.affected) == (6, (4,))
    assert merge_sessions([*parts, taken(1.0, 1.0)], WIDE, NARROW, seed=0).gpu is None


def test_the_device_is_compared_over_sessions_too() -> None:
    parts = [taken(1.0, 2.0, first=i == 0, device=pairs(3.0 + 0.1 * i)) for i in range(6)]
    result = merge_sessions(parts, WIDE, NARROW, seed=0)
    assert result.device_speedup is not None
    assert (result.device_speedup.low, result.device_speedup.high) == pytest.approx((3.0, 3.5))
    assert result.baseline.device is not None
    assert result.baseline.device.p50_ms == 1.0


def test_times_survive_the_way_between_processes() -> None:
    one = taken(1.0, 2.0, first=True)
    again = BatchMeasurements.model_validate_json(one.model_dump_json())
    np.testing.assert_array_equal(again.other.b_ns, one.other.b_ns)
    assert again.other.ratios == one.other.ratios
    assert merge_sessions([again], WIDE, NARROW, seed=0) == merge_sessions([one], WIDE, NARROW, seed=0)


@pytest.mark.parametrize(
    ("asked", "sessions", "each"),
    [(30, 6, 6), (36, 6, 6), (30, 1, 30), (10, 5, 2), (31, 3, 12), (100, 6, 18)],
)
def test_sessions_share_the_pairs_in_whole_blocks(asked: int, sessions: int, each: int) -> None:
    job = _Plan(asked, None, sessions, 4).of(_job(), 1)
    assert (job.pairs, job.session, job.sessions, job.budget_s) == (each, 1, sessions, None)


def test_comparisons_and_sessions_share_the_budget() -> None:
    job = _Plan(30, 120.0, 6, 4).of(_job(), 0)
    assert (job.budget_s, job.at_least) == (5.0, 2)


def _job() -> Job:
    return Job(backend="ort-cpu", configs=(), comparisons=(), pairs=30)


@pytest.mark.parametrize(("sessions", "words"), [(1, "over the pairs"), (3, "t-interval"), (6, "ranks")])
def test_the_protocol_says_what_the_interval_is(sessions: int, words: str) -> None:
    assert words in _protocol(sessions)


def test_sessions_with_a_budget_get_what_is_left_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    budgets, now = list[float](), [4.0]

    class FakeProcesses:
        def __enter__(self) -> FakeProcesses:
            return self

        def __exit__(self, *exception: object) -> None: ...

        def run(self, job: Job, *_: object) -> tuple[()]:
            assert job.budget_s is not None
            budgets.append(job.budget_s)
            now[0] += job.budget_s + 1.0
            return ()

    monkeypatch.setattr(pipeline.process, "WorkerProcesses", FakeProcesses)
    monkeypatch.setattr(pipeline.time, "monotonic", lambda: now[0])
    part = SimpleNamespace(
        job=_job().model_copy(update={"configs": (RunConfig(1, 1),)}), subjects=[1], measurements=[]
    )
    pipeline._run_sessions([part], _Plan(30, 20.0, 4, 1, start=0.0), lambda what, done: None)  # type: ignore[list-item]
    assert now[0] == pytest.approx(20.0)  # preparing (4 s) and each session's second of loading are in it
    assert len(budgets) == 4 and min(budgets) > 0
