"""Every layer of a network is matched with a node of every runtime, dense and compact."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from compress import models
from compress.bench.backends import BACKENDS, RunConfig, get_profiler
from compress.bench.backends.onnx_module import OnnxModule
from compress.bench.backends.tensorrt import layer_node
from compress.bench.explain.microbenchmarks import LayerSpec, time_layers, write_layer_onnx
from compress.bench.explain.onnx_graph import OnnxGraph, read_onnx_graph
from compress.bench.explain.overhead import measure_overhead
from compress.bench.explain.row_mapping import group_nodes, layers_without_nodes
from compress.core.errors import CompressError
from compress.export.onnx.exporter import to_onnx
from compress.graph import trace
from compress.planning import make_plan
from compress.slicing import scatter, slice_model

CONFIG = RunConfig(1, threads=1)
SAMPLE = ("vgg_small", "resnet20")
"""Always tested; the others only with ``--zoo``."""

OTHERS = ("torchvision/mobilenet_v3_small", "torchvision/shufflenet_v2_x0_5", "torchvision/squeezenet1_1")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "network" in metafunc.fixturenames:
        zoo = metafunc.config.getoption("--zoo", default=False)
        metafunc.parametrize("network", (*models.list_models(), *OTHERS) if zoo else SAMPLE)


@pytest.mark.parametrize("kind", ["dense", "sliced"])
def test_every_layer_has_a_node_and_its_macs(network: str, kind: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    size = (3, 64, 64) if network.startswith("torchvision") else (3, 32, 32)
    model = models.build(network, 10, size).eval()
    graph = trace(model, torch.zeros(2, *size))
    plan = make_plan(graph, keep=0.4)
    costs = plan.dense if kind == "dense" else plan.narrow
    chosen = model if kind == "dense" else slice_model(model, plan).eval()
    to_onnx(chosen, torch.zeros(1, *size), tmp_path / "n.onnx")
    onnx_graph = read_onnx_graph(tmp_path / "n.onnx", 1)
    assert sum(layer.macs for layer in onnx_graph.layers.values()) == costs.macs
    for backend in ("ort-cpu", "openvino"):
        assert_mapped(onnx_graph, backend)


def assert_mapped(graph: OnnxGraph, backend: str) -> None:
    """Every layer has a row, no other row is a layer, and the rows hold the whole profile."""
    session = get_profiler(backend).open(graph.path, CONFIG)
    for _ in range(2):
        session.run(2)
    profiled = session.finish()
    rows = group_nodes(graph, profiled)
    assert layers_without_nodes(graph, rows) == []
    assert {key for key, row in rows.items() if row.kind == "layer"} == set(graph.layers)
    np.testing.assert_allclose(
        sum(row.times_ns for row in rows.values()), profiled.times_ns.sum(1), rtol=1e-9
    )
    assert sum(len(row.nodes) for row in rows.values()) == len(profiled.nodes)


class Narrow(nn.Module):
    """A narrow branch whose channels are written back among zeros before the addition."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 16, 3, padding=1)
        self.branch = nn.Conv2d(16, 9, 3, padding=1)
        self.head = nn.Linear(16, 10)
        scatter(self.branch, range(9), 16)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.first(x))
        x = torch.relu(x + self.branch(x))
        return self.head(x.mean((2, 3)))


@pytest.mark.parametrize("backend", ["ort-cpu", "openvino"])
def test_writing_channels_back_is_a_separate_row(backend: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    to_onnx(Narrow().eval(), torch.zeros(1, 3, 16, 16), tmp_path / "n.onnx")
    graph = read_onnx_graph(tmp_path / "n.onnx", 1)
    assert set(graph.layers) == {"first", "branch", "head"}
    session = get_profiler(backend).open(graph.path, CONFIG)
    session.run(2)
    rows = group_nodes(graph, session.finish())
    assert "scatter" in {row.kind for row in rows.values()}


@pytest.mark.parametrize("backend", ["ort-cpu", "openvino", "torch"])
def test_a_single_layer_is_timed_on_every_back_end_of_this_machine(backend: str, tmp_path: Path) -> None:
    own = LayerSpec("Conv", (9, 5, 3, 3), (5, 16, 16), strides=(2, 2), pads=(1, 1, 1, 1))
    linear = LayerSpec("Gemm", (10, 33), (33,))
    timings = time_layers(get_profiler(backend), {"own": own, "linear": linear}, CONFIG, 0.0, tmp_path)
    assert own.macs == 8 * 8 * 9 * 5 * 9
    positive = {name: bool(timing.layer_ns > 0) for name, timing in timings.items()}
    assert positive == {"own": True, "linear": True}


def test_a_single_layer_gives_the_same_output_in_pytorch_and_onnx_runtime(tmp_path: Path) -> None:
    import onnxruntime

    spec = LayerSpec(
        "Conv", (12, 2, 3, 3), (6, 9, 9), groups=3, strides=(2, 1), pads=(0, 1, 1, 1), dilations=(1, 1)
    )
    path = write_layer_onnx(spec, tmp_path / "probe.onnx", 2)
    images = np.random.default_rng(0).standard_normal((2, 6, 9, 9), dtype=np.float32)
    expected = onnxruntime.InferenceSession(str(path)).run(None, {"input": images})[0]
    np.testing.assert_allclose(OnnxModule(path)(torch.from_numpy(images)).numpy(), expected, atol=1e-4)


@pytest.mark.parametrize("backend", ["ort-cpu", "openvino", "torch"])
def test_the_overhead_of_a_node_is_measured(backend: str, tmp_path: Path) -> None:
    overhead = measure_overhead(get_profiler(backend), CONFIG, tmp_path)
    assert overhead.node > 0
    assert overhead.profiled >= 0
    assert overhead.call >= 0


def test_the_origins_of_a_fused_layer_of_tensorrt_are_read_from_its_name() -> None:
    assert layer_node("node_Conv_3 + node_add + node_relu").origins == (
        "node_Conv_3",
        "node_add",
        "node_relu",
    )
    assert layer_node("Reformatting CopyNode for Input Tensor 0 to node_Conv_3").converts


def test_a_back_end_without_a_profiler_is_refused_with_the_ones_that_have_one() -> None:
    with pytest.raises(CompressError, match="torch-compile") as caught:
        get_profiler("torch-compile")
    assert {name for name, backend in BACKENDS.items() if backend.profiler is not None} == {
        "openvino",
        "ort-cpu",
        "torch",
        "trt",
        "trt-rtx",
    }
    assert "ort-cpu" in caught.value.hint
