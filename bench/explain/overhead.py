"""Fixed cost of one node and of one call, and the part of it that a profile shows.

A chain of tiny softmaxes (which no runtime fuses) is timed as a whole without the profiler, and node by node
with it. The difference per node is the correction for profiled times. The time of one node is the launch
cost of the back end; the time of a chain of one node minus that of the node is the cost of a call.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compress.bench.backends import Profiler, RunConfig
from compress.bench.explain.robust_mean import robust_mean
from compress.bench.protocol import paired

CHAIN = 64
"""Nodes of the long chain."""

ROUND_NS = 3_000_000
"""The long chain is repeated for about this long in a round (3 ms)."""

ROUNDS = 15
"""Rounds; each measures the short chain, the long chain and the profiled chain."""


@dataclass(frozen=True)
class Overhead:
    """Fixed costs of a back end in nanoseconds.

    Attributes:
        node: cost of one more node that computes almost nothing.
        profiled: time of such a node in the profile.
        call: cost of an inference in addition to its nodes.
    """

    node: float
    profiled: float
    call: float

    @property
    def correction(self) -> float:
        """Nanoseconds to add to the profiled time of a node."""
        return self.node - self.profiled


def measure_overhead(profiler: Profiler, config: RunConfig, folder: Path) -> Overhead:
    """Measure the overhead of a back end; temporary files are written to `folder`."""
    short, long = (_write_chain(folder / f"chain{count}.onnx", count, config) for count in (1, CHAIN))
    runners = [profiler.load_probe(path, config) for path in (short, long)]
    for runner in runners:
        paired.warm_up(runner, at_least_ns=50_000_000)
    session = profiler.open(long, config)
    count = paired.repeats_for(float(runners[1].run(20).min()), ROUND_NS)
    chain_times: list[list[NDArray[np.int64]]] = [[], []]
    for _ in range(ROUNDS):
        for times, runner in zip(chain_times, runners, strict=True):
            host = runner.run(count)
            times.append(host if runner.device_ns is None else runner.device_ns)
        session.run(count)
    profile = session.finish()
    one, many = (robust_mean(np.concatenate(times).astype(np.float64)) for times in chain_times)
    node = max((many - one) / (CHAIN - 1), 1.0)
    node_times = np.array([robust_mean(times) for times in profile.times_ns.T])
    softmaxes = [i for i, entry in enumerate(profile.nodes) if "softmax" in (entry.op + entry.name).lower()]
    profiled = float(np.median(node_times[softmaxes or slice(None)]))
    return Overhead(node, profiled, max(one - node, 0.0))


def _write_chain(path: Path, count: int, config: RunConfig) -> Path:
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
