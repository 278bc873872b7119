"""Profiles of layers on a GPU."""

from __future__ import annotations

from pathlib import Path

import pytest

from compress.bench.backends import RunConfig, get_profiler
from compress.bench.explain.microbenchmarks import (
    LayerSpec,
    alternative_widths,
    time_layers,
    write_layer_onnx,
)
from compress.bench.explain.onnx_graph import read_onnx_graph
from compress.bench.explain.overhead import measure_overhead
from compress.bench.explain.roofline import measure_roofline
from compress.bench.explain.row_mapping import group_nodes, layers_without_nodes

OWN = LayerSpec("Conv", (33, 16, 3, 3), (16, 32, 32), pads=(1, 1, 1, 1))
DENSE = LayerSpec("Conv", (64, 16, 3, 3), (16, 32, 32), pads=(1, 1, 1, 1))
PACKAGES = {"torch": "torch", "trt": "tensorrt", "trt-rtx": "tensorrt_rtx"}
pytestmark = pytest.mark.gpu


def config(backend: str) -> RunConfig:
    return RunConfig(2, threads=1, device="cuda" if backend == "torch" else "cpu")


@pytest.mark.parametrize("backend", PACKAGES)
def test_a_single_layer_is_matched_and_timed(backend: str, tmp_path: Path) -> None:
    pytest.importorskip(PACKAGES[backend])
    path = write_layer_onnx(OWN, tmp_path / "probe.onnx", 2)
    graph = read_onnx_graph(path, 2)
    session = get_profiler(backend).open(path, config(backend))
    session.run(5)
    profiled = session.finish()
    rows = group_nodes(graph, profiled)
    assert layers_without_nodes(graph, rows) == []
    assert len(profiled.times_ns) == 5
    assert (rows["probe"].times_ns > 0).all()


@pytest.mark.parametrize("backend", PACKAGES)
def test_the_limits_and_the_nearest_widths_are_measured(backend: str, tmp_path: Path) -> None:
    pytest.importorskip(PACKAGES[backend])
    profiler, chosen = get_profiler(backend), config(backend)
    overhead = measure_overhead(profiler, chosen, tmp_path)
    roofline = measure_roofline(profiler, chosen, overhead.correction, tmp_path, on_gpu=True)
    assert overhead.node > 0
    assert roofline.ridge > 0
    specs = alternative_widths(OWN, DENSE)
    timings = time_layers(profiler, specs, chosen, overhead.correction, tmp_path)
    assert set(timings) == {"own", "dense", "8-", "8+", "16+"}
