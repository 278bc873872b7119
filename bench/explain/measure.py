"""Explaining one run on one back end, in a process of its own: blocks, limits, account, probes, causes."""

from __future__ import annotations

import contextlib
import tempfile
from dataclasses import replace
from pathlib import Path

from compress.bench.backends import usable
from compress.bench.explain import blocks, overhead, probes, roofline
from compress.bench.explain.account import Account
from compress.bench.explain.job import Found, Job
from compress.bench.explain.probes import Probed, Spec
from compress.bench.explain.profilers import profiler_for
from compress.bench.protocol.measure import Progress

__all__ = ["Found", "Job", "measure"]


def measure(job: Job, say: Progress) -> tuple[Found]:
    """Explain a run; the one result is in a tuple, as every process's results are.

    Raises:
        CompressError: the back end has no profiler or cannot run here, or the networks cannot be loaded.
    """
    runtime, profiler = usable(job.backend, job.config), profiler_for(job.backend)
    configs = [
        replace(job.config, network=side.network, sha256=side.sha256) for side in (job.dense, job.compact)
    ]
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="explain-")))
        say("measuring what a node costs", 0.0)
        cost = overhead.measure(profiler, job.config, folder)
        say("measuring the roofline", 0.05)
        limit = roofline.measure(profiler, job.config, cost.correction, folder)
        say("loading", 0.1)
        sides = (job.dense, configs[0]), (job.dense, configs[0]), (job.compact, configs[1])
        dense, again, compact = (runtime.load(side.path, config) for side, config in sides)
        for runner in (dense, again, compact):
            stack.callback(runner.close)
        sessions = (profiler.open(job.dense.path, configs[0]), profiler.open(job.compact.path, configs[1]))
        measured = blocks.measure(
            (dense, again, compact), sessions, job.blocks, lambda done: say("profiling", 0.12 + 0.5 * done)
        )
        account = Account(job, measured, cost)
        wanted = account.worth_a_probe()
        probed: dict[str, dict[str, Probed]] = {}
        cache: dict[tuple[Spec, Spec], dict[str, Probed]] = {}
        for i, (name, two) in enumerate(wanted.items()):
            say(f"probing {name}", 0.65 + 0.35 * i / len(wanted))
            if two not in cache:
                every = probes.alternatives(*two)
                cache[two] = probes.measure(profiler, every, job.config, cost.correction, folder)
            probed[name] = cache[two]
        rows = account.rows(probed, limit)
        return (
            account.found(
                rows,
                limit,
                session=dense.settings,
                timed=runtime.timed(job.config),
                source=profiler.source,
            ),
        )
