"""The offline sweep ends before memory does: foreseen, caught, or by what the user allowed."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch

from compress.bench.backends import RunConfig, Runner
from compress.bench.protocol.measure import Side
from compress.bench.scenarios import Scenario
from compress.bench.scenarios import offline as sweep
from compress.bench.scenarios.headroom import SWAP_BYTES, Headroom, HostMemory, Reading, ran_out
from compress.bench.scenarios.loaded import Networks
from compress.bench.scenarios.offline import offline
from compress.bench.scenarios.options import Options
from compress.bench.scenarios.record import Offline
from compress.core.errors import CompressError

MB = 10**6


class Gauge:
    """A memory that a test sets."""

    what = "memory"

    def __init__(self, free: int) -> None:
        self.reading = Reading(held=100 * MB, peak=100 * MB, free=free)

    def begin(self) -> None:
        pass

    def read(self) -> Reading:
        return self.reading

    def peak(self, peak: int) -> None:
        self.reading = Reading(self.reading.held, peak, self.reading.free, self.reading.swapped)


def options(**other: object) -> Options:
    return Options.model_validate({"scenarios": (Scenario.OFFLINE,), "pairs": 10, "max_batch": 4, **other})


def networks(dense: Path, compact: Path) -> Networks:
    sides = Side(label="dense", path=dense), Side(label="compact", path=compact)
    return Networks("ort-cpu", RunConfig(1, 1), *sides)


def swept(of: Networks, **other: object) -> Offline:
    return offline(of, options(**other), lambda what, done: None)


# --- the rule -------------------------------------------------------------------------------------------


def test_a_batch_is_begun_where_twice_the_last_growth_fits_into_what_is_free() -> None:
    gauge = Gauge(free=1000 * MB)
    headroom = Headroom([gauge])
    gauge.peak(499 * MB)  # grown by 399 MB: 798 of 1,000 are foreseen, 800 are allowed
    headroom.measured(8)
    assert headroom.grown == 399 * MB
    assert headroom.forbids(16) is None


def test_a_batch_is_not_begun_where_it_would_take_more_than_its_share_of_what_is_free() -> None:
    gauge = Gauge(free=1000 * MB)
    headroom = Headroom([gauge])
    gauge.peak(501 * MB)
    headroom.measured(8)
    reason = headroom.forbids(16)
    assert reason is not None
    assert "802 MB" in reason
    assert "80% of the 1,000 MB" in reason
    assert headroom.forbids(8) is None  # as large as the last one


def test_the_memory_that_is_shortest_decides() -> None:
    host, gpu = Gauge(free=10**12), Gauge(free=500 * MB)
    gpu.what = "memory of the GPU"
    headroom = Headroom([gpu, host])
    gpu.peak(400 * MB)
    headroom.measured(2)
    assert (headroom.forbids(4) or "").startswith("memory of the GPU: a batch of 4")


def test_a_machine_that_begins_to_swap_ends_the_sweep() -> None:
    gauge = Gauge(free=10**12)
    headroom = Headroom([gauge])
    gauge.reading = Reading(0, 0, 10**12, swapped=SWAP_BYTES + 1)
    assert "swap" in (headroom.forbids(2) or "")


def test_the_host_tells_what_this_process_takes_and_could_take() -> None:
    meter = HostMemory()
    meter.begin()
    before = meter.read()
    block = np.ones(32 * MB, np.uint8)
    after = meter.read()
    assert after.peak - before.held >= 0.9 * block.nbytes
    assert 0 < after.free < 2**50


@pytest.mark.parametrize(
    ("error", "is_memory"),
    [
        (MemoryError(), True),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"), True),
        (RuntimeError("BFCArena::AllocateRawInternal Failed to allocate memory for requested buffer"), True),
        (RuntimeError("std::bad_alloc"), True),
        (CompressError("the engine needs more: out of memory", hint=""), True),
        (RuntimeError("shapes do not fit"), False),
        (CompressError("no such file", hint=""), False),
    ],
)
def test_an_end_of_memory_is_told_from_other_errors(error: Exception, is_memory: bool) -> None:
    assert ran_out(error) is is_memory
    wrapped = RuntimeError("it failed")
    wrapped.__cause__ = error
    assert ran_out(wrapped) is is_memory


# --- the sweep ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def found(narrow: Path) -> Offline:
    """A sweep of 1, 2 and 3 images."""
    return swept(networks(narrow, narrow), max_batch=3)


def test_batches_double_up_to_the_largest_one_allowed(found: Offline) -> None:
    assert [entry.batch for entry in found.batches] == [1, 2, 3]
    assert "largest batch allowed was 3" in found.stopped


def test_the_throughput_lies_in_its_interval_and_the_best_is_the_largest(found: Offline) -> None:
    for entry in found.batches:
        for side, best in zip((entry.baseline, entry.candidate), found.best, strict=True):
            assert side.high is not None
            assert 0 < side.low <= side.images_per_s <= side.high
            assert side.images_per_s <= best.images_per_s
        assert entry.ratio.low <= entry.ratio.ratio <= entry.ratio.high
    assert found.best_ratio == pytest.approx(found.best[1].images_per_s / found.best[0].images_per_s)
    assert found.best_low <= found.best_ratio


def test_a_batch_that_would_take_too_long_is_not_begun(narrow: Path) -> None:
    found = swept(networks(narrow, narrow), max_batch_s=1e-9)
    assert [entry.batch for entry in found.batches] == [1]
    assert found.stopped.startswith("time: a batch of 2")


def test_the_sweep_ends_where_the_next_batch_may_not_fit(
    narrow: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gauge = Gauge(free=100 * MB)
    monkeypatch.setattr(sweep, "_meters", lambda networks: [gauge])
    monkeypatch.setattr(gauge, "read", lambda: Reading(0, 45 * MB, 100 * MB))
    found = swept(networks(narrow, narrow))
    assert [entry.batch for entry in found.batches] == [1]
    assert found.stopped.startswith("memory: a batch of 2 would take up to 90 MB")


@dataclass(frozen=True)
class Scarce(Networks):
    """Networks for which a batch of 2 takes more memory than any machine has."""

    first: int = 2

    def load(self, stack: contextlib.ExitStack, batch: int) -> tuple[Runner, Runner]:
        if batch >= self.first:
            np.empty(2**60, np.uint8)
        return super().load(stack, batch)


def test_a_batch_that_runs_out_of_memory_ends_the_sweep_with_what_was_measured(
    narrow: Path,
) -> None:
    of = networks(narrow, narrow)
    found = swept(Scarce(of.backend, of.config, of.baseline, of.candidate))
    assert [entry.batch for entry in found.batches] == [1]
    assert found.stopped == "memory: a batch of 2 ran out of it"


def test_other_errors_are_not_taken_for_an_end_of_memory(narrow: Path, tmp_path: Path) -> None:
    with pytest.raises(CompressError, match="nowhere"):
        swept(networks(narrow, tmp_path / "nowhere.onnx"))
