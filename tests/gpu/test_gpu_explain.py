"""Profiles of layers on a GPU."""

from __future__ import annotations

from pathlib import Path

import pytest

from compress.bench.backends import RunConfig
from compress.bench.explain import overhead, probes, roofline
from compress.bench.explain.graph import read_graph
from compress.bench.explain.mapping import rows_of, unseen
from compress.bench.explain.probes import Spec, write_probe
from compress.bench.explain.profilers import profiler_for

OWN = Spec("Conv", (33, 16, 3, 3), (16, 32, 32), pads=(1, 1, 1, 1))
DENSE = Spec("Conv", (64, 16, 3, 3), (16, 32, 32), pads=(1, 1, 1, 1))
PACKAGES = {"torch": "torch", "trt": "tensorrt", "trt-rtx": "tensorrt_rtx"}
pytestmark = pytest.mark.gpu


def config(backend: str) -> RunConfig:
    return RunConfig(2, threads=1, device="cuda" if backend == "torch" else "cpu")


@pytest.mark.parametrize("backend", PACKAGES)
def test_the_layer_of_a_probe_is_found_and_timed(backend: str, tmp_path: Path) -> None:
    pytest.importorskip(PACKAGES[backend])
    path = write_probe(OWN, tmp_path / "probe.onnx", 2)
    graph = read_graph(path, 2)
    session = profiler_for(backend).open(path, config(backend))
    session.run(5)
    profiled = session.finish()
    rows = rows_of(graph, profiled)
    assert unseen(graph, rows) == []
    assert len(profiled.times_ns) == 5
    assert (rows["probe"].times_ns > 0).all()


@pytest.mark.parametrize("backend", PACKAGES)
def test_the_limits_and_the_nearest_widths_are_measured(backend: str, tmp_path: Path) -> None:
    pytest.importorskip(PACKAGES[backend])
    profiler, chosen = profiler_for(backend), config(backend)
    cost = overhead.measure(profiler, chosen, tmp_path)
    limit = roofline.measure(profiler, chosen, cost.correction, tmp_path)
    assert cost.node > 0
    assert limit.ridge > 0
    found = probes.measure(profiler, probes.alternatives(OWN, DENSE), chosen, cost.correction, tmp_path)
    assert set(found) == {"own", "dense", "8-", "8+", "16+"}
