"""Convert the layers of an ONNX model to FP16 or BF16; its inputs and outputs stay float32.

ONNX Runtime's converter sets the types and inserts casts. It supports only FP16; for BF16 the types of its
result are changed and the weights rounded again from float32. Between two float32 layers it inserts a cast to
16 bits and back, which loses precision; these pairs are removed.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np

from compress.export.precision.ranges import KeptNode

Half = Literal["fp16", "bf16"]


NOT_IN_TENSORRT = {"bf16": ("HardSwish", "Mish"), "fp16": ()}
"""Operators that ONNX supports in the type and TensorRT's parser does not."""


def to_half(model: Any, precision: Half, kept: Sequence[KeptNode]) -> Any:
    """Return the model in FP16 or BF16.

    Args:
        model: an ONNX model in float32, with the types of its inner tensors. Every node has a name.
        precision: the type.
        kept: nodes that stay in float32.
    """
    import onnx
    from onnxruntime.transformers.float16 import DEFAULT_OP_BLOCK_LIST, convert_float_to_float16
    from onnxruntime.transformers.onnx_model import OnnxModel

    half = onnx.ModelProto()
    half.CopyFrom(model)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # one warning per weight that is rounded to FP16's smallest number
        half = convert_float_to_float16(
            half,
            keep_io_types=True,
            op_block_list=DEFAULT_OP_BLOCK_LIST if precision == "fp16" else [],
            node_block_list=[node.node for node in kept],
        )
    if precision == "bf16":
        _change_to_bf16(half, model)
    _drop_duplicate_casts(half)
    _remove_cast_pairs(half)
    del half.graph.value_info[:]  # outdated types; readers infer them again
    wrapped = OnnxModel(half)
    wrapped.topological_sort()
    return wrapped.model


def unsupported_nodes(model: Any, precision: Half) -> list[KeptNode]:
    """Return the nodes whose operator lacks the 16-bit type, in the model's operator set or in TensorRT."""
    import onnx

    type_name = "tensor(float16)" if precision == "fp16" else "tensor(bfloat16)"
    opset = next(int(entry.version) for entry in model.opset_import if entry.domain in ("", "ai.onnx"))
    kept = []
    for node in model.graph.node:
        if not onnx.defs.has(node.op_type, node.domain):
            kept.append(KeptNode(node.name, node.op_type, "unsupported"))
            continue
        schema = onnx.defs.get_schema(node.op_type, opset, node.domain)
        floats = [c for c in schema.type_constraints if "tensor(float)" in c.allowed_type_strs]
        is_supported = any(type_name in c.allowed_type_strs for c in floats)
        if (floats and not is_supported) or node.op_type in NOT_IN_TENSORRT[precision]:
            kept.append(KeptNode(node.name, node.op_type, "unsupported"))
    return kept


def _change_to_bf16(half: Any, original: Any) -> None:
    """Change FP16 types and weights to BF16; weights are rounded from those of the float32 model."""
    from onnx import TensorProto

    weights = {weight.name: weight for weight in original.graph.initializer}
    attributes = {node.name: {a.name: a for a in node.attribute} for node in original.graph.node}
    for weight in half.graph.initializer:
        if weight.data_type == TensorProto.FLOAT16:
            weight.CopyFrom(_to_bf16(weights[weight.name]))
    for value in half.graph.value_info:
        if value.type.tensor_type.elem_type == TensorProto.FLOAT16:
            value.type.tensor_type.elem_type = TensorProto.BFLOAT16
    for node in half.graph.node:
        for attribute in node.attribute:
            if attribute.name in ("to", "dtype") and attribute.i == TensorProto.FLOAT16:
                attribute.i = TensorProto.BFLOAT16
            elif attribute.t.data_type == TensorProto.FLOAT16:
                attribute.t.CopyFrom(_to_bf16(attributes[node.name][attribute.name].t))


def _to_bf16(tensor: Any) -> Any:
    import ml_dtypes
    from onnx import numpy_helper

    values = numpy_helper.to_array(tensor).astype(ml_dtypes.bfloat16)
    return numpy_helper.from_array(np.asarray(values), tensor.name)


def _drop_duplicate_casts(model: Any) -> None:
    """Keep one of the equal casts that the converter adds for each float32 node reading a tensor."""
    seen: set[str] = set()
    nodes = []
    for node in model.graph.node:
        if node.op_type == "Cast" and node.output[0] in seen:
            continue
        seen.update(node.output)
        nodes.append(node)
    _replace_nodes(model, nodes)


def _remove_cast_pairs(model: Any) -> None:
    """Remove casts to 16 bits and back between two float32 nodes."""
    from onnx import TensorProto

    producers = {name: node for node in model.graph.node for name in node.output}
    down, up = {TensorProto.FLOAT16, TensorProto.BFLOAT16}, TensorProto.FLOAT
    inserted = {
        node.output[0]: node.input[0]
        for node in model.graph.node
        if node.op_type == "Cast" and _cast_type(node) in down and _is_inserted(node)
    }
    outputs = {value.name for value in model.graph.output}
    alias: dict[str, str] = {}
    removed: set[str] = set()
    for node in model.graph.node:
        if node.op_type == "Cast" and _cast_type(node) == up and node.input[0] in inserted:
            before, after = inserted[node.input[0]], node.output[0]
            if after not in outputs:
                alias[after] = before
            elif before in producers:
                alias[before] = after  # the output keeps its name; its producer writes to it directly
            else:
                continue
            removed.add(after)
    nodes = [n for n in model.graph.node if not (n.op_type == "Cast" and n.output[0] in removed)]
    for node in nodes:
        for names in (node.input, node.output):
            for i, name in enumerate(names):
                names[i] = _resolve_alias(alias, name)
    _replace_nodes(model, _used_nodes(nodes, outputs))


def _is_inserted(node: Any) -> bool:
    """Return whether the converter inserted this cast to 16 bits, at the input or after a float32 node."""
    name, source = node.name, node.input[0]
    return bool(name.startswith("graph_input_cast") or source.endswith("_cast_to_fp16"))


def _cast_type(node: Any) -> int:
    return next(int(attribute.i) for attribute in node.attribute if attribute.name == "to")


def _resolve_alias(alias: dict[str, str], name: str) -> str:
    while name in alias:
        name = alias[name]
    return name


def _used_nodes(nodes: Sequence[Any], outputs: set[str]) -> list[Any]:
    """Return the nodes whose outputs are read."""
    kept = list(nodes)
    while True:
        read = outputs | {name for node in kept for name in node.input}
        used = [node for node in kept if any(name in read for name in node.output)]
        if len(used) == len(kept):
            return used
        kept = used


def _replace_nodes(model: Any, nodes: Sequence[Any]) -> None:
    import onnx

    copies = []
    for node in nodes:
        copy = onnx.NodeProto()
        copy.CopyFrom(node)
        copies.append(copy)
    del model.graph.node[:]
    model.graph.node.extend(copies)
