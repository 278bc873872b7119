"""Networks with known service times, on a virtual clock that advances only while they work or wait."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from compress.bench.backends import RunConfig
from compress.bench.protocol.worker import Side
from compress.bench.scenarios.clock import VirtualClock
from compress.bench.scenarios.network_pair import NetworkPair

MS = 1_000_000


class Machine:
    """A runner whose inference takes `service_ns`, multiplied by the slowness of the machine at that time."""

    settings: dict[str, str] = {}  # noqa: RUF012
    device_ns = None
    load_ns = 1
    image_shape = (1, 8, 8)
    num_classes = 10

    def __init__(self, clock: VirtualClock, service_ns: int, slowness: Callable[[int], float]) -> None:
        self.clock, self.service_ns, self.slowness = clock, service_ns, slowness

    def run(self, count: int) -> NDArray[np.int64]:
        each = round(self.service_ns * self.slowness(self.clock.now()))
        self.clock.advance(count * each)
        return np.full(count, each)

    def logits(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        raise NotImplementedError

    def close(self) -> None:
        pass


@dataclass(frozen=True)
class Synthetic(NetworkPair):
    """Dense and compact network; the time of a batch is a function of its size and of the clock."""

    clock: VirtualClock = field(default_factory=VirtualClock)
    times: tuple[Callable[[int], int], Callable[[int], int]] = (lambda b: 2 * MS, lambda b: MS)
    slowness: Callable[[int], float] = lambda now: 1.0

    def load(self, stack: contextlib.ExitStack, batch: int) -> tuple[Machine, Machine]:
        one, other = (Machine(self.clock, time(batch), self.slowness) for time in self.times)
        return one, other


def synthetic(
    dense: Callable[[int], int] = lambda batch: 2 * MS,
    compact: Callable[[int], int] = lambda batch: MS,
    slowness: Callable[[int], float] = lambda now: 1.0,
) -> Synthetic:
    """Return networks with these service times on a machine with this slowness over the clock."""
    sides = Side(label="dense", path=Path("dense")), Side(label="compact", path=Path("compact"))
    return Synthetic("none", RunConfig(1, 1), *sides, times=(dense, compact), slowness=slowness)


def md1_mean_wait(load: float, service: float) -> float:
    """Return the mean wait of the M/D/1 queue (Pollaczek-Khinchine formula)."""
    return load * service / (2 * (1 - load))


def md1_wait_cdf(wait: float, load: float) -> float:
    """Return the share of queries of an M/D/1 queue that wait at most `wait` service times (Erlang, 1909)."""
    terms = (
        (load * (k - wait)) ** k / math.factorial(k) * math.exp(-load * (k - wait))
        for k in range(math.floor(wait) + 1)
    )
    return (1 - load) * sum(terms)


def md1_p99(load: float) -> float:
    """Return the 99th percentile of the latency of the M/D/1 queue, in service times."""
    low, high = 0.0, 15.0
    while high - low > 1e-6:
        middle = (low + high) / 2
        low, high = (middle, high) if md1_wait_cdf(middle, load) < 0.99 else (low, middle)
    return 1 + high
