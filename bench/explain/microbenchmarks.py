"""Time single layers at several widths on the same back end.

The layer and the operators that a runtime can fuse into it are written as a small ONNX file. Its time at the
nearest aligned widths shows whether a misaligned width is the cause of a loss; its time at the dense widths
shows whether the small number of channels is.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from compress.bench.backends import Profiler, ProfileSession, RunConfig
from compress.bench.explain.onnx_graph import POOLS, OnnxGraph, OnnxLayer, read_onnx_graph
from compress.bench.explain.robust_mean import robust_mean, robust_mean_half_width
from compress.bench.explain.row_mapping import group_nodes
from compress.bench.protocol import paired

ALIGNMENTS = (8, 16)
"""Widths that are multiples of these are timed: the vector registers of a processor, the tiles of a GPU."""

ROUNDS = 9
"""Rounds of a layer; all its widths are timed once in each."""

ROUND_NS = 4_000_000
"""A width is repeated for about this long in each round (4 ms)."""

MAX_REPEATS = 40
"""Most inferences of a width in a round."""

WARM_UP_REPEATS = 3
"""Inferences of a width before the rounds, and the fewest in one round."""

KEPT = frozenset(("Relu", "LeakyRelu", "Clip", "Sigmoid", "HardSigmoid", "HardSwish", "Identity")) | POOLS
"""Operators after the layer that are timed with it."""

NAME = "probe"


@dataclass(frozen=True)
class LayerSpec:
    """A single layer to be timed.

    Attributes:
        op: ``Conv`` or ``Gemm``.
        weight: shape of the weight, output channels first.
        source: shape of the input of one image.
        groups, strides, pads, dilations: parameters of a convolution.
        followers: operators after the layer: each a serialized ONNX node with its serialized constants.
    """

    op: str
    weight: tuple[int, ...]
    source: tuple[int, ...]
    groups: int = 1
    strides: tuple[int, ...] = (1, 1)
    pads: tuple[int, ...] = (0, 0, 0, 0)
    dilations: tuple[int, ...] = (1, 1)
    followers: tuple[tuple[bytes, tuple[bytes, ...]], ...] = ()

    @property
    def outputs(self) -> int:
        """Output channels or features."""
        return self.weight[0]

    @property
    def inputs(self) -> int:
        """Input channels or features."""
        return self.weight[1] * self.groups

    @property
    def macs(self) -> int:
        """MACs of one image."""
        if self.op == "Gemm":
            return math.prod(self.weight)
        sizes = (
            (size + before + after - dilation * (kernel - 1) - 1) // stride + 1
            for size, before, after, dilation, kernel, stride in zip(
                self.source[1:],
                self.pads[: len(self.pads) // 2],
                self.pads[len(self.pads) // 2 :],
                self.dilations,
                self.weight[2:],
                self.strides,
                strict=True,
            )
        )
        return math.prod(int(size) for size in sizes) * math.prod(self.weight)

    def resized(self, inputs: int, outputs: int) -> LayerSpec | None:
        """Return the layer with other widths; None if its groups do not allow them."""
        groups = self.groups
        if self.groups > 1 and self.groups == self.inputs:  # depthwise: one group per input
            if outputs * self.inputs != inputs * self.outputs:
                return None
            groups = inputs
        if inputs % groups or outputs % groups:
            return None
        return replace(
            self,
            weight=(outputs, inputs // groups, *self.weight[2:]),
            source=(inputs, *self.source[1:]),
            groups=groups,
        )


@dataclass(frozen=True)
class LayerTiming:
    """Measured time of a single layer.

    Attributes:
        spec: the layer.
        layer_ns: nanoseconds of the layer with the operators fused into it.
        pool_ns: nanoseconds of the pooling after it.
        spread: half-width of the 95% interval of `layer_ns`, as a share of it.
        kernels: kernels of the runtime that computed it.
    """

    spec: LayerSpec
    layer_ns: float
    pool_ns: float
    spread: float
    kernels: tuple[str, ...] = ()

    @property
    def ns(self) -> float:
        """Nanoseconds of the layer and the pooling."""
        return self.layer_ns + self.pool_ns

    @property
    def ns_per_mac(self) -> float:
        """Nanoseconds per MAC of the layer."""
        return self.layer_ns / max(self.spec.macs, 1)


def layer_spec(graph: OnnxGraph, layer: OnnxLayer) -> LayerSpec | None:
    """Return a layer of a network as a `LayerSpec`; None if its kind cannot be timed alone."""
    import onnx

    node = next(entry for entry in graph.model.graph.node if entry.name == layer.node)
    attributes = {entry.name: onnx.helper.get_attribute_value(entry) for entry in node.attribute}
    if layer.op == "Gemm" and attributes.get("transB") and not attributes.get("transA"):
        return LayerSpec("Gemm", layer.weight, layer.source[1:])
    if layer.op != "Conv" or len(layer.weight) != 4 or attributes.get("auto_pad", b"NOTSET") != b"NOTSET":
        return None
    return LayerSpec(
        op="Conv",
        weight=layer.weight,
        source=layer.source[1:],
        groups=layer.groups,
        strides=tuple(attributes.get("strides", (1, 1))),
        pads=tuple(attributes.get("pads", (0, 0, 0, 0))),
        dilations=tuple(attributes.get("dilations", (1, 1))),
        followers=_followers(graph, layer),
    )


def _followers(graph: OnnxGraph, layer: OnnxLayer) -> tuple[tuple[bytes, tuple[bytes, ...]], ...]:
    """Return the operators after a layer, up to the first whose constants depend on the width."""
    initializers = {entry.name: entry for entry in graph.model.graph.initializer}
    out = []
    for node in graph.followers(layer.name):
        constants = [initializers[name] for name in node.input if name in initializers]
        if node.op_type not in KEPT or any(math.prod(entry.dims) != 1 for entry in constants):
            break
        out.append((node.SerializeToString(), tuple(entry.SerializeToString() for entry in constants)))
    return tuple(out)


def alternative_widths(own: LayerSpec, dense: LayerSpec) -> dict[str, LayerSpec]:
    """Return the layer at its own, the dense, and the nearest aligned widths.

    Keys are ``own``, ``dense``, and ``8-``, ``8+``, ``16-``, ``16+`` for widths rounded down and up to a
    multiple of 8 or 16. A width that was not reduced is not changed.
    """
    specs = {"own": own}
    if (dense.inputs, dense.outputs) != (own.inputs, own.outputs):
        specs["dense"] = dense
    for to in ALIGNMENTS:
        for up, sign in ((False, "-"), (True, "+")):
            sizes = [
                one if one == most else _rounded(one, most, to, up)
                for one, most in ((own.inputs, dense.inputs), (own.outputs, dense.outputs))
            ]
            other = own.resized(*sizes)
            if other is not None and other not in specs.values():
                specs[f"{to}{sign}"] = other
    return specs


def _rounded(width: int, most: int, to: int, up: bool) -> int:
    down = max(width // to * to, min(to, most))
    return min(-(-width // to) * to, most) if up else down


def time_layers(
    profiler: Profiler, specs: Mapping[str, LayerSpec], config: RunConfig, correction_ns: float, folder: Path
) -> dict[str, LayerTiming]:
    """Time layers in alternating rounds.

    Args:
        profiler: profiler of the back end.
        specs: layers by name.
        config: settings of the measurement.
        correction_ns: added to the time of every node, see `compress.bench.explain.overhead.Overhead`.
        folder: folder for temporary files.
    """
    opened = {}
    for i, (name, spec) in enumerate(specs.items()):
        path = write_layer_onnx(spec, folder / f"{NAME}{i}.onnx", config.batch)
        opened[name] = read_onnx_graph(path, config.batch), profiler.open(path, config)
    counts = {name: _repeats(session) for name, (_, session) in opened.items()}
    for _ in range(ROUNDS):
        for name, (_, session) in opened.items():
            session.run(counts[name])
    timings = {}
    for name, (graph, session) in opened.items():
        profiled = session.finish()
        rows = group_nodes(graph, profiled)
        zero = np.zeros(len(profiled.times_ns))
        layer, pools, kernels = zero, zero, tuple[str, ...]()
        for row in rows.values():
            times = np.maximum(row.times_ns + correction_ns * len(row.nodes), 1.0)
            if row.kind == "layer":
                layer, kernels = layer + times, row.kernels
            elif row.key.split(" ")[0] in POOLS:
                pools = pools + times
        layer_ns = robust_mean(layer)
        timings[name] = LayerTiming(
            specs[name],
            layer_ns,
            robust_mean(pools),
            robust_mean_half_width(layer) / max(layer_ns, 1.0),
            kernels,
        )
    return timings


def _repeats(session: ProfileSession) -> int:
    """Warm a session up and return its inferences per round."""
    start = time.perf_counter_ns()
    session.run(WARM_UP_REPEATS)
    typical_ns = (time.perf_counter_ns() - start) / WARM_UP_REPEATS
    return min(MAX_REPEATS, max(WARM_UP_REPEATS, paired.repeats_for(typical_ns, ROUND_NS)))


def write_layer_onnx(spec: LayerSpec, path: Path, batch: int) -> Path:
    """Write a layer as an ONNX file from `[batch, C, H, W]` to `[batch, features]`; return its path."""
    from onnx import TensorProto, helper, numpy_helper, save

    rng = np.random.default_rng(0)
    weight = (rng.standard_normal(spec.weight) / math.sqrt(math.prod(spec.weight[1:]))).astype(np.float32)
    initializers = [
        numpy_helper.from_array(weight, f"{NAME}.weight"),
        numpy_helper.from_array(rng.standard_normal(spec.outputs).astype(np.float32), f"{NAME}.bias"),
    ]
    names = [f"{NAME}.weight", f"{NAME}.bias"]
    if spec.op == "Gemm":
        shape = [batch, *spec.source, 1, 1][:4]
        nodes = [
            helper.make_node("Flatten", ["input"], ["flat"], name="first"),
            helper.make_node("Gemm", ["flat", *names], ["output"], name=NAME, transB=1),
        ]
        result = [batch, spec.outputs]
    else:
        shape, result = [batch, *spec.source], None
        nodes, last = _convolution(spec, initializers, names)
        nodes.append(helper.make_node("Flatten", [last], ["output"], name="last"))
    graph = helper.make_graph(
        nodes,
        NAME,
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, result or [batch, None])],
        initializers,
    )
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9), str(path))
    return path


def _convolution(spec: LayerSpec, initializers: list[Any], names: Sequence[str]) -> tuple[list[Any], str]:
    """Return the nodes of the convolution and its followers, and the name of the last tensor."""
    from onnx import NodeProto, TensorProto, helper

    nodes = [
        helper.make_node(
            "Conv",
            ["input", *names],
            [NAME],
            name=NAME,
            group=spec.groups,
            strides=spec.strides,
            pads=spec.pads,
            dilations=spec.dilations,
            kernel_shape=spec.weight[2:],
        )
    ]
    last = NAME
    for i, (text, constants) in enumerate(spec.followers):
        node = NodeProto()
        node.ParseFromString(text)
        parsed = []
        for constant in constants:
            tensor = TensorProto()
            tensor.ParseFromString(constant)
            parsed.append(tensor)
        known = {tensor.name for tensor in parsed}
        stored = {entry.name for entry in initializers}
        initializers += [tensor for tensor in parsed if tensor.name not in stored]
        inputs = [name if name in known or not name else last for name in node.input]
        last = node.name = f"after{i}"
        del node.input[:]
        node.input.extend(inputs)
        del node.output[:]
        node.output.append(last)
        nodes.append(node)
    return nodes, last
