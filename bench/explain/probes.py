"""Evidence by experiment: one layer alone, at its own widths and at others, on the same back end.

A probe is a small ONNX file of the layer and of what a runtime can fuse into it. The same layer at the
nearest aligned widths tells whether the width is to blame; at the dense widths, whether narrowness is.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from compress.bench.backends import RunConfig
from compress.bench.explain.graph import POOLS, Graph, Layer, read_graph
from compress.bench.explain.low import low, spread
from compress.bench.explain.mapping import rows_of
from compress.bench.explain.profilers import Profiler, Session
from compress.bench.protocol import paired

ALIGNMENTS = (8, 16)
"""Widths that are multiples of these are tried: the vector registers of a processor, the tiles of a GPU."""

ROUNDS = 9
"""Times each probe is measured, in turns with the others of its layer."""

ROUND_NS = 4_000_000
"""A probe is repeated for about this long in each round."""

MOST_IN_A_ROUND = 40
"""Most inferences of a probe in a round."""

WARM = 3
"""Inferences of a probe before the rounds, and fewest in one."""

KEPT = frozenset(("Relu", "LeakyRelu", "Clip", "Sigmoid", "HardSigmoid", "HardSwish", "Identity")) | POOLS
"""What a probe keeps of the operators after its layer."""

NAME = "probe"


@dataclass(frozen=True)
class Spec:
    """A layer alone.

    Attributes:
        op: ``Conv`` or ``Gemm``. weight: its shape, outputs first. source: shape of one image of the input.
        groups, strides, pads, dilations: of a convolution.
        followers: what comes after it: operator, and the node with its constants as ONNX text.
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
        """Channels or features it makes."""
        return self.weight[0]

    @property
    def inputs(self) -> int:
        """Channels or features it reads."""
        return self.weight[1] * self.groups

    @property
    def macs(self) -> int:
        """Of one image."""
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

    def resized(self, inputs: int, outputs: int) -> Spec | None:
        """Return the layer with other widths; None where its groups do not allow them."""
        groups = self.groups
        if self.groups > 1 and self.groups == self.inputs:  # depthwise: a group for every input
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
class Probed:
    """What a probe took.

    Attributes:
        layer_ns: the layer with what is fused into it; pool_ns: the pools after it.
        spread: relative half-width of the times' interval.
        kernels: what computed it.
    """

    spec: Spec
    layer_ns: float
    pool_ns: float
    spread: float
    kernels: tuple[str, ...] = ()

    @property
    def ns(self) -> float:
        """All of it."""
        return self.layer_ns + self.pool_ns

    @property
    def per_mac(self) -> float:
        """Nanoseconds a MAC of the layer."""
        return self.layer_ns / max(self.spec.macs, 1)


def spec_of(graph: Graph, layer: Layer) -> Spec | None:
    """Return a layer of a network as a probe; None where it is of no kind that can be one."""
    import onnx

    node = next(entry for entry in graph.model.graph.node if entry.name == layer.node)
    attributes = {entry.name: onnx.helper.get_attribute_value(entry) for entry in node.attribute}
    if layer.op == "Gemm" and attributes.get("transB") and not attributes.get("transA"):
        return Spec("Gemm", layer.weight, layer.source[1:])
    if layer.op != "Conv" or len(layer.weight) != 4 or attributes.get("auto_pad", b"NOTSET") != b"NOTSET":
        return None
    return Spec(
        op="Conv",
        weight=layer.weight,
        source=layer.source[1:],
        groups=layer.groups,
        strides=tuple(attributes.get("strides", (1, 1))),
        pads=tuple(attributes.get("pads", (0, 0, 0, 0))),
        dilations=tuple(attributes.get("dilations", (1, 1))),
        followers=_followers(graph, layer),
    )


def _followers(graph: Graph, layer: Layer) -> tuple[tuple[bytes, tuple[bytes, ...]], ...]:
    """The operators after a layer whose constants do not depend on the width."""
    held = {entry.name: entry for entry in graph.model.graph.initializer}
    out = []
    for node in graph.followers(layer.name):
        constants = [held[name] for name in node.input if name in held]
        if node.op_type not in KEPT or any(math.prod(entry.dims) != 1 for entry in constants):
            break
        out.append((node.SerializeToString(), tuple(entry.SerializeToString() for entry in constants)))
    return tuple(out)


def alternatives(own: Spec, dense: Spec) -> dict[str, Spec]:
    """Return the layer itself (``own``), at the dense widths (``dense``), and at the nearest aligned ones.

    Those are called ``8-``, ``8+``, ``16-`` and ``16+``: rounded down and up. A width that was not cut stays.
    """
    found = {"own": own}
    if (dense.inputs, dense.outputs) != (own.inputs, own.outputs):
        found["dense"] = dense
    for to in ALIGNMENTS:
        for up, sign in ((False, "-"), (True, "+")):
            sizes = [
                one if one == most else _rounded(one, most, to, up)
                for one, most in ((own.inputs, dense.inputs), (own.outputs, dense.outputs))
            ]
            other = own.resized(*sizes)
            if other is not None and other not in found.values():
                found[f"{to}{sign}"] = other
    return found


def _rounded(width: int, most: int, to: int, up: bool) -> int:
    down = max(width // to * to, min(to, most))
    return min(-(-width // to) * to, most) if up else down


def measure(
    profiler: Profiler, specs: Mapping[str, Spec], config: RunConfig, correction_ns: float, folder: Path
) -> dict[str, Probed]:
    """Measure probes in turns.

    Args:
        profiler: of the back end. specs: by name. config: of the measurement.
        correction_ns: added to the time of every node, see `compress.bench.explain.overhead.Overhead`.
        folder: where files are made.
    """
    opened = {}
    for i, (name, spec) in enumerate(specs.items()):
        path = write_probe(spec, folder / f"{NAME}{i}.onnx", config.batch)
        opened[name] = read_graph(path, config.batch), profiler.open(path, config)
    counts = {name: _count(session) for name, (_, session) in opened.items()}
    for _ in range(ROUNDS):
        for name, (_, session) in opened.items():
            session.run(counts[name])
    found = {}
    for name, (graph, session) in opened.items():
        profiled = session.finish()
        rows = rows_of(graph, profiled)
        zero = np.zeros(len(profiled.times_ns))
        layer, pools, kernels = zero, zero, tuple[str, ...]()
        for row in rows.values():
            times = np.maximum(row.times_ns + correction_ns * len(row.nodes), 1.0)
            if row.kind == "layer":
                layer, kernels = layer + times, row.kernels
            elif row.key.split(" ")[0] in POOLS:
                pools = pools + times
        found[name] = Probed(
            specs[name],
            low(layer),
            low(pools),
            spread(layer) / max(low(layer), 1.0),
            kernels,
        )
    return found


def _count(session: Session) -> int:
    """How many inferences of a probe make a round."""
    start = time.perf_counter_ns()
    session.run(WARM)
    return min(
        MOST_IN_A_ROUND, max(WARM, paired.repeats_for((time.perf_counter_ns() - start) / WARM, ROUND_NS))
    )


def write_probe(spec: Spec, path: Path, batch: int) -> Path:
    """Write a probe as an ONNX file `[batch, C, H, W]` to `[batch, features]`; return its path."""
    from onnx import TensorProto, helper, numpy_helper, save

    rng = np.random.default_rng(0)
    weight = (rng.standard_normal(spec.weight) / math.sqrt(math.prod(spec.weight[1:]))).astype(np.float32)
    held = [
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
        nodes, last = _convolution(spec, held, names)
        nodes.append(helper.make_node("Flatten", [last], ["output"], name="last"))
    graph = helper.make_graph(
        nodes,
        NAME,
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, result or [batch, None])],
        held,
    )
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9), str(path))
    return path


def _convolution(spec: Spec, held: list[Any], names: Sequence[str]) -> tuple[list[Any], str]:
    """The convolution with its followers, and the name of the last result."""
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
        held += [tensor for tensor in parsed if tensor.name not in {entry.name for entry in held}]
        inputs = [name if name in known or not name else last for name in node.input]
        last = node.name = f"after{i}"
        del node.input[:]
        node.input.extend(inputs)
        del node.output[:]
        node.output.append(last)
        nodes.append(node)
    return nodes, last
