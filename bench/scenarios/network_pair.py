"""The two networks of a comparison, loaded at a batch size, and the conditions while they are measured."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace

from compress.bench.backends import RunConfig, Runner, require_backend
from compress.bench.protocol.machine import OthersLoad
from compress.bench.protocol.worker import Side


@dataclass(frozen=True)
class NetworkPair:
    """Baseline and candidate, not yet loaded, and the back end that runs them."""

    backend: str
    config: RunConfig
    baseline: Side
    candidate: Side

    @property
    def sides(self) -> tuple[Side, Side]:
        """Baseline and candidate."""
        return self.baseline, self.candidate

    def load(self, stack: contextlib.ExitStack, batch: int) -> tuple[Runner, Runner]:
        """Load both for a batch size; the stack closes them."""
        config = replace(self.config, batch=batch)
        runtime = require_backend(self.backend, config)
        runners = []
        for side in self.sides:
            runner = runtime.load(side.path, replace(config, network=side.network, sha256=side.sha256))
            stack.callback(runner.close)
            runners.append(runner)
        return runners[0], runners[1]

    @contextlib.contextmanager
    def loaded(self, batch: int) -> Iterator[tuple[Runner, Runner]]:
        """Load both for the duration of a ``with`` block."""
        with contextlib.ExitStack() as stack:
            yield self.load(stack, batch)


class ConditionsMonitor:
    """Records the load of other processes and the duration since it was created."""

    def __init__(self) -> None:
        self._others, self._start = OthersLoad(), time.monotonic()

    def seconds(self) -> float:
        """Return the seconds since the monitor was created."""
        return time.monotonic() - self._start

    def fields(self) -> dict[str, float]:
        """Return the fields of `compress.bench.scenarios.record.Conditions`."""
        return {"others_load": self._others.share(), "seconds": self.seconds()}
