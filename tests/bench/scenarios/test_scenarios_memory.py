"""The offline sweep ends before memory runs out: by prediction, by an error, or by a limit of the user."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch

from compress.bench.backends import RunConfig, Runner
from compress.bench.protocol.worker import Side
from compress.bench.scenarios import Scenario
from compress.bench.scenarios import offline as sweep
from compress.bench.scenarios.memory_limit import (
    SWAP_BYTES,
    HostMemory,
    MemoryLimit,
    MemoryReading,
    is_out_of_memory,
)
from compress.bench.scenarios.network_pair import NetworkPair
from compress.bench.scenarios.offline import measure_offline
from compress.bench.scenarios.options import Options
from compress.bench.scenarios.record import Offline
from compress.core.errors import CompressError

MB = 10**6


class Gauge:
    """A memory meter with values set by a test."""

    name = "memory"

    def __init__(self, free: int) -> None:
        self.reading = MemoryReading(used=100 * MB, peak=100 * MB, free=free)

    def reset(self) -> None:
        pass

    def read(self) -> MemoryReading:
        return self.reading

    def peak(self, peak: int) -> None:
        self.reading = MemoryReading(self.reading.used, peak, self.reading.free, self.reading.swapped)


def options(**other: object) -> Options:
    return Options.model_validate({"scenarios": (Scenario.OFFLINE,), "pairs": 10, "max_batch": 4, **other})


def networks(dense: Path, compact: Path) -> NetworkPair:
    sides = Side(label="dense", path=dense), Side(label="compact", path=compact)
    return NetworkPair("ort-cpu", RunConfig(1, 1), *sides)


def swept(of: NetworkPair, **other: object) -> Offline:
    return measure_offline(of, options(**other), lambda what, done: None)


# --- the rule -------------------------------------------------------------------------------------------


def test_a_batch_is_measured_if_twice_the_last_growth_fits_into_free_memory() -> None:
    gauge = Gauge(free=1000 * MB)
    limit = MemoryLimit([gauge])
    gauge.peak(499 * MB)  # grown by 399 MB: 798 of 1,000 are predicted, 800 are allowed
    limit.record(8)
    assert limit.growth == 399 * MB
    assert limit.reason_against(16) is None


def test_a_batch_is_not_measured_if_it_may_exceed_its_share_of_free_memory() -> None:
    gauge = Gauge(free=1000 * MB)
    limit = MemoryLimit([gauge])
    gauge.peak(501 * MB)
    limit.record(8)
    reason = limit.reason_against(16)
    assert reason is not None
    assert "802 MB" in reason
    assert "80% of the 1,000 MB" in reason
    assert limit.reason_against(8) is None  # as large as the last one


def test_the_scarcest_memory_decides() -> None:
    host, gpu = Gauge(free=10**12), Gauge(free=500 * MB)
    gpu.name = "GPU memory"
    limit = MemoryLimit([gpu, host])
    gpu.peak(400 * MB)
    limit.record(2)
    assert (limit.reason_against(4) or "").startswith("GPU memory: a batch of 4")


def test_swapping_ends_the_sweep() -> None:
    gauge = Gauge(free=10**12)
    limit = MemoryLimit([gauge])
    gauge.reading = MemoryReading(0, 0, 10**12, swapped=SWAP_BYTES + 1)
    assert "swap" in (limit.reason_against(2) or "")


def test_the_host_meter_reads_the_peak_and_the_free_memory() -> None:
    meter = HostMemory()
    meter.reset()
    before = meter.read()
    block = np.ones(32 * MB, np.uint8)
    after = meter.read()
    assert after.peak - before.used >= 0.9 * block.nbytes
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
def test_out_of_memory_errors_are_distinguished_from_other_errors(error: Exception, is_memory: bool) -> None:
    assert is_out_of_memory(error) is is_memory
    wrapped = RuntimeError("it failed")
    wrapped.__cause__ = error
    assert is_out_of_memory(wrapped) is is_memory


# --- the sweep ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def found(narrow: Path) -> Offline:
    """A sweep of 1, 2 and 3 images."""
    return swept(networks(narrow, narrow), max_batch=3)


@pytest.mark.slow
def test_batches_double_up_to_the_largest_one_allowed(found: Offline) -> None:
    assert [entry.batch for entry in found.batches] == [1, 2, 3]
    assert "largest batch allowed is 3" in found.stopped


def test_the_throughput_is_in_its_interval_and_the_best_is_the_largest(found: Offline) -> None:
    for entry in found.batches:
        for side, best in zip((entry.baseline, entry.candidate), found.best, strict=True):
            assert side.high is not None
            assert 0 < side.low <= side.images_per_s <= side.high
            assert side.images_per_s <= best.images_per_s
        assert entry.ratio.low <= entry.ratio.ratio <= entry.ratio.high
    assert found.best_ratio == pytest.approx(found.best[1].images_per_s / found.best[0].images_per_s)
    assert found.best_low <= found.best_ratio


def test_a_batch_that_would_take_too_long_is_not_measured(narrow: Path) -> None:
    found = swept(networks(narrow, narrow), max_batch_s=1e-9)
    assert [entry.batch for entry in found.batches] == [1]
    assert found.stopped.startswith("time: a batch of 2")


def test_the_sweep_ends_before_a_batch_that_may_not_fit(
    narrow: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gauge = Gauge(free=100 * MB)
    monkeypatch.setattr(sweep, "_meters", lambda networks: [gauge])
    monkeypatch.setattr(gauge, "read", lambda: MemoryReading(0, 45 * MB, 100 * MB))
    found = swept(networks(narrow, narrow))
    assert [entry.batch for entry in found.batches] == [1]
    assert found.stopped.startswith("memory: a batch of 2 may need 90 MB")


@dataclass(frozen=True)
class Scarce(NetworkPair):
    """Networks for which a batch of 2 needs more memory than any machine has."""

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
    assert found.stopped == "memory: a batch of 2 ran out of memory"


def test_other_errors_are_not_treated_as_out_of_memory(narrow: Path, tmp_path: Path) -> None:
    with pytest.raises(CompressError, match="nowhere"):
        swept(networks(narrow, tmp_path / "nowhere.onnx"))
