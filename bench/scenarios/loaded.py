"""Both networks of a comparison, loaded at a batch size, and what the scenario around them suffers."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace

from compress.bench.backends import RunConfig, Runner, usable
from compress.bench.protocol.machine import OthersLoad
from compress.bench.protocol.measure import Side


@dataclass(frozen=True)
class Networks:
    """Baseline and candidate, not yet loaded, and the back end that runs them."""

    backend: str
    config: RunConfig
    baseline: Side
    candidate: Side

    @property
    def sides(self) -> tuple[Side, Side]:
        """Both."""
        return self.baseline, self.candidate

    def load(self, stack: contextlib.ExitStack, batch: int) -> tuple[Runner, Runner]:
        """Load both for batches of this size; the stack closes them."""
        config = replace(self.config, batch=batch)
        runtime = usable(self.backend, config)
        runners = []
        for side in self.sides:
            runner = runtime.load(side.path, replace(config, network=side.network, sha256=side.sha256))
            stack.callback(runner.close)
            runners.append(runner)
        return runners[0], runners[1]

    @contextlib.contextmanager
    def loaded(self, batch: int) -> Iterator[tuple[Runner, Runner]]:
        """Load both for as long as the block lasts."""
        with contextlib.ExitStack() as stack:
            yield self.load(stack, batch)


class Watch:
    """What a scenario suffers and takes, from the making of the object on."""

    def __init__(self) -> None:
        self._others, self._start = OthersLoad(), time.monotonic()

    def seconds(self) -> float:
        """Return how long it has taken so far."""
        return time.monotonic() - self._start

    def said(self) -> dict[str, float]:
        """Return the fields of `compress.bench.scenarios.record.Measured`."""
        return {"others_load": self._others.share(), "seconds": self.seconds()}
