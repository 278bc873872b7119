"""What a node costs that computes next to nothing, and how much of that a profile shows.

A chain of tiny softmaxes (which no runtime fuses) is timed as a whole, without the profiler, and node by node
with it. The difference is what a profiled time has to be corrected by; the cost of one is what launching a
node takes on this back end; what a chain of one costs beside its node is the call itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compress.bench.backends import RunConfig
from compress.bench.explain.low import low
from compress.bench.explain.profilers import Profiler
from compress.bench.protocol import paired

CHAIN = 64
"""Nodes of the long chain."""

ROUND_NS = 3_000_000
"""How long the long chain is repeated in a round."""

ROUNDS = 15
"""Times each of the three is measured, in turns."""


@dataclass(frozen=True)
class Overhead:
    """Nanoseconds on this back end.

    Attributes:
        node: what one more node costs that computes next to nothing.
        profiled: what the profiler says that it takes.
        call: what an inference costs beside its nodes.
    """

    node: float
    profiled: float
    call: float

    @property
    def correction(self) -> float:
        """What is added to the profiled time of a node."""
        return self.node - self.profiled


def measure(profiler: Profiler, config: RunConfig, folder: Path) -> Overhead:
    """Measure one, in files that are made in `folder`."""
    short, long = (_chain(folder / f"chain{count}.onnx", count, config) for count in (1, CHAIN))
    runners = [profiler.timed(path, config) for path in (short, long)]
    for runner in runners:
        paired.warm_up(runner, at_least_ns=50_000_000)
    session = profiler.open(long, config)
    count = paired.repeats_for(float(runners[1].run(20).min()), ROUND_NS)
    walls: list[list[NDArray[np.int64]]] = [[], []]
    for _ in range(ROUNDS):
        for times, runner in zip(walls, runners, strict=True):
            host = runner.run(count)
            times.append(host if runner.device_ns is None else runner.device_ns)
        session.run(count)
    found = session.finish()
    one, many = (low(np.concatenate(times).astype(np.float64)) for times in walls)
    node = max((many - one) / (CHAIN - 1), 1.0)
    steady = np.array([low(times) for times in found.times_ns.T])
    softmaxes = [i for i, entry in enumerate(found.nodes) if "softmax" in (entry.op + entry.name).lower()]
    profiled = float(np.median(steady[softmaxes or slice(None)]))
    return Overhead(node, profiled, max(one - node, 0.0))


def _chain(path: Path, count: int, config: RunConfig) -> Path:
    from onnx import TensorProto, helper, save

    names = ["input", *(f"t{i}" for i in range(count)), "output"]
    nodes: list[Any] = [
        helper.make_node("Softmax", [names[i]], [names[i + 1]], name=f"softmax{i}", axis=3)
        for i in range(count)
    ]
    nodes.append(helper.make_node("Flatten", [names[count]], ["output"], name="flatten"))
    graph = helper.make_graph(
        nodes,
        "chain",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, [config.batch, 1, 1, 8])],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, [config.batch, 8])],
    )
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9), str(path))
    return path
