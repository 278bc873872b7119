"""The operator table: one row for every ATen operator that any part of this project knows something about.

A row says what an operator does to channels (`rule`), and the facts that other parts ask for: whether it is a
norm or an activation, whether it is random, what it may be fused with. Everything that distinguishes
operators reads this table; nothing else keeps a list of operators.

Names are those of `operator_name`: ``conv2d`` for ``aten.conv2d.default``; operators of another namespace
carry it, ``mylib.squash``. An in-place form (``add_``) is the row without its underscore.

To teach the tracer an operator of your own, register one row. `rule` is the name of a rule of
`compress.graph.rules`, or a function with the signature of `Rule`:

    >>> from compress.graph.operators import OPERATORS, Operator
    >>> row = OPERATORS.add("mylib.squash", Operator("keeps_zero"))
    >>> OPERATORS["mylib.squash"].rule
    'keeps_zero'

Another package does the same through the entry point group ``compress.operators``. An operator without a row,
or with a row without a rule, protects every channel that touches it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from torch.fx import Node

from compress.core.registry import Registry, instance_of

Rule = Callable[..., Any]
"""`rule(context, node, args, kwargs)` returns the node's labeled value; see `compress.graph.rules`."""


@dataclass(frozen=True)
class Operator:
    """What is known about one operator.

    Attributes:
        rule: name of the rule that carries channels through it, or the rule itself; empty: none, so that
            every channel that touches it is protected.
        layer: ``conv``, ``conv_transpose``, ``linear`` or ``matmul``: it multiplies by a weight, which makes
            channels and costs MACs.
        norm: ``folded``: in evaluation mode it is a constant scale and shift of each channel, which runtimes
            fold into the layer before; ``statistics``: it normalizes by statistics of its input.
        sets_channels: its affine parameters give each channel a new value, so that a mask can act on them.
        activation: elementwise and nonlinear: ends a stage and may follow a layer.
        join: combines several data tensors into one feature map, which may end a stage.
        ties: the channels of its operands are cut together, position by position.
        arithmetic: ``add`` or ``mul``: the elementwise sum or product (or division) of two values.
        copies: its result equals its argument (another memory, layout or data type).
        view: it only moves data, or passes it through in evaluation mode.
        may_alias: its result may be its argument's own memory although its schema does not say so.
        random: ``training``: random in training and the identity (or deterministic) in evaluation, so that a
            trace in evaluation mode loses it; ``always``: random in both modes.
        training_flag: position of the argument that says whether it runs in training mode.
        bookkeeping: it checks or reads sizes and computes no data.
        layer_activation: the name a layer's shape records for it when it directly follows the layer.
        onnx: the ONNX operators that it becomes.
        fusable: runtimes may run those as part of the layer before them.
    """

    rule: str | Rule = ""
    layer: Literal["", "conv", "conv_transpose", "linear", "matmul"] = ""
    norm: Literal["", "folded", "statistics"] = ""
    sets_channels: bool = False
    activation: bool = False
    join: bool = False
    ties: bool = False
    arithmetic: Literal["", "add", "mul"] = ""
    copies: bool = False
    view: bool = False
    may_alias: bool = False
    random: Literal["", "training", "always"] = ""
    training_flag: int | None = None
    bookkeeping: bool = False
    layer_activation: str = ""
    onnx: tuple[str, ...] = ()
    fusable: bool = False


OPERATORS: Registry[Operator] = Registry("operator", group="operators", convert=instance_of(Operator))
"""Every known operator, by name."""

RULES: Registry[Rule] = Registry("channel rule", group="rules", package="compress.graph.rules")
"""The rules by name; each is a function in a file of `compress.graph.rules`."""

UNKNOWN = Operator()
"""The row of an operator that is not in the table."""


def operator_name(node: Node) -> str:
    """Return an operator's name without its overload: ``conv2d``; of other namespaces, ``mylib.squash``."""
    namespace, _, rest = str(node.target).partition(".")
    return rest.split(".")[0] if namespace == "aten" else f"{namespace}.{rest.split('.')[0]}".rstrip(".")


def operator_of(node: Node) -> Operator:
    """Return the row of a node's operator; `UNKNOWN` for one that has none, or for a node that is no call."""
    if node.op != "call_function":
        return UNKNOWN
    name = operator_name(node)
    row = OPERATORS.get(name)
    if row is None and name.endswith("_"):
        row = OPERATORS.get(name.rstrip("_"))
    return row if row is not None else UNKNOWN


def rule_of(node: Node) -> Rule | None:
    """Return the rule that carries channels through a node's operator; None: there is none."""
    rule = operator_of(node).rule
    if not rule:
        return None
    return RULES[rule] if isinstance(rule, str) else rule


def onnx_types(*, fusable: bool | None = None, layer: bool | None = None) -> frozenset[str]:
    """Return the ONNX operator types of the rows that match.

    Args:
        fusable: only those that runtimes may (or may not) fuse into the layer before them.
        layer: only those that multiply (or do not multiply) by a weight.
    """
    return frozenset(
        name
        for row in OPERATORS.values()
        if (fusable is None or row.fusable == fusable) and (layer is None or bool(row.layer) == layer)
        for name in row.onnx
    )


def _activation(rule: str, *onnx: str, shape: str = "") -> Operator:
    return Operator(rule, activation=True, layer_activation=shape, onnx=onnx, fusable=bool(onnx))


_KEEPS_ZERO = Operator("keeps_zero")
_MOVES_ZERO = Operator("moves_zero")
_POOL = Operator("pool")
_VIEW = Operator("reshape", view=True)
_HIDDEN_VIEW = Operator("reshape", view=True, may_alias=True)
_PARTS = Operator("split", view=True, may_alias=True)
_REDUCE = Operator("reduce")
_COPY = Operator("keeps_zero", copies=True, view=True)
_DROPOUT = Operator(
    "keeps_zero",
    random="training",
    view=True,
    may_alias=True,
    training_flag=2,
    onnx=("Dropout",),
    fusable=True,
)

_TABLE: dict[str, Operator] = {
    # layers
    "conv1d": Operator("convolution", layer="conv", onnx=("Conv",)),
    "conv2d": Operator("convolution", layer="conv", onnx=("Conv",)),
    "conv3d": Operator("convolution", layer="conv", onnx=("Conv",)),
    "conv_transpose1d": Operator("transposed_convolution", layer="conv_transpose", onnx=("ConvTranspose",)),
    "conv_transpose2d": Operator("transposed_convolution", layer="conv_transpose", onnx=("ConvTranspose",)),
    "conv_transpose3d": Operator("transposed_convolution", layer="conv_transpose", onnx=("ConvTranspose",)),
    "convolution": Operator("general_convolution", layer="conv", onnx=("Conv", "ConvTranspose")),
    "linear": Operator("linear", layer="linear", onnx=("Gemm",)),
    "addmm": Operator("addmm", layer="linear", onnx=("Gemm",)),
    "matmul": Operator("matmul", layer="matmul", ties=True, onnx=("MatMul",)),
    "mm": Operator("matmul", layer="matmul", onnx=("MatMul",)),
    "bmm": Operator("matmul", layer="matmul", ties=True, onnx=("MatMul",)),
    "scaled_dot_product_attention": Operator("attention"),
    # norms
    "batch_norm": Operator(
        "channel_norm",
        norm="folded",
        sets_channels=True,
        training_flag=5,
        onnx=("BatchNormalization",),
        fusable=True,
    ),
    "_native_batch_norm_legit_no_training": Operator("channel_norm", norm="folded", sets_channels=True),
    "cudnn_batch_norm": Operator("channel_norm", norm="folded", sets_channels=True),
    "instance_norm": Operator("channel_norm", norm="statistics", sets_channels=True, training_flag=5),
    "layer_norm": Operator("layer_norm", norm="statistics"),
    "native_layer_norm": Operator("layer_norm", norm="statistics"),
    "rms_norm": Operator("layer_norm", norm="statistics"),
    "group_norm": Operator("group_norm", norm="statistics"),
    "native_group_norm": Operator("group_norm", norm="statistics"),
    "_weight_norm": Operator("weight_norm"),
    # activations: f(0) = 0
    "relu": _activation("keeps_zero", "Relu", shape="relu"),
    "relu6": _activation("keeps_zero", "Clip", shape="relu6"),
    "leaky_relu": _activation("keeps_zero", "LeakyRelu"),
    "rrelu": Operator("keeps_zero", activation=True, random="training"),
    "elu": _activation("keeps_zero", "Elu"),
    "celu": _activation("keeps_zero"),
    "selu": _activation("keeps_zero", "Selu"),
    "silu": _activation("keeps_zero", shape="silu"),
    "gelu": _activation("keeps_zero", "Gelu", shape="gelu"),
    "mish": _activation("keeps_zero", "Mish"),
    "hardswish": _activation("keeps_zero", "HardSwish", shape="hardswish"),
    "tanh": _activation("keeps_zero", "Tanh"),
    "prelu": Operator("prelu", activation=True, arithmetic="mul", onnx=("PRelu",), fusable=True),
    # activations: f(0) != 0, or only within bounds that include zero
    "sigmoid": _activation("moves_zero", "Sigmoid"),
    "hardsigmoid": Operator("moves_zero", onnx=("HardSigmoid",), fusable=True),
    "softplus": _activation("moves_zero", "Softplus"),
    "hardtanh": _activation("clamp", "Clip"),
    "clamp": _activation("clamp", "Clip"),
    "clip": Operator("clamp", onnx=("Clip",), fusable=True),
    "clamp_min": Operator("clamp"),
    "clamp_max": Operator("clamp"),
    "threshold": Operator("clamp"),
    # other elementwise operators of one tensor: f(0) = 0
    "hardshrink": _KEEPS_ZERO,
    "softshrink": _KEEPS_ZERO,
    "tanhshrink": _KEEPS_ZERO,
    "softsign": _KEEPS_ZERO,
    "abs": _KEEPS_ZERO,
    "neg": _KEEPS_ZERO,
    "sign": _KEEPS_ZERO,
    "square": _KEEPS_ZERO,
    "sqrt": _KEEPS_ZERO,
    "sin": _KEEPS_ZERO,
    "asin": _KEEPS_ZERO,
    "atan": _KEEPS_ZERO,
    "sinh": _KEEPS_ZERO,
    "asinh": _KEEPS_ZERO,
    "erf": Operator("keeps_zero", onnx=("Erf",), fusable=True),
    "expm1": _KEEPS_ZERO,
    "log1p": _KEEPS_ZERO,
    "floor": _KEEPS_ZERO,
    "ceil": _KEEPS_ZERO,
    "round": _KEEPS_ZERO,
    "trunc": _KEEPS_ZERO,
    "nan_to_num": _KEEPS_ZERO,
    "conj": _KEEPS_ZERO,
    "positive": _KEEPS_ZERO,
    "pow": Operator("power"),
    # other elementwise operators of one tensor: f(0) != 0
    "exp": _MOVES_ZERO,
    "exp2": _MOVES_ZERO,
    "cos": _MOVES_ZERO,
    "cosh": _MOVES_ZERO,
    "log_sigmoid": _MOVES_ZERO,
    "logsigmoid": _MOVES_ZERO,
    "rsqrt": _MOVES_ZERO,
    "reciprocal": _MOVES_ZERO,
    "log": _MOVES_ZERO,
    "log2": _MOVES_ZERO,
    "erfc": _MOVES_ZERO,
    "logical_not": _MOVES_ZERO,
    "bitwise_not": _MOVES_ZERO,
    # random operators
    "dropout": _DROPOUT,
    "feature_dropout": _DROPOUT,
    "alpha_dropout": _DROPOUT,
    "native_dropout": Operator(random="training"),
    "bernoulli": Operator(random="always"),
    "rand": Operator(random="always"),
    "rand_like": Operator(random="always"),
    "randn": Operator(random="always"),
    "randn_like": Operator(random="always"),
    "randint": Operator(random="always"),
    "randint_like": Operator(random="always"),
    "randperm": Operator(random="always"),
    "normal": Operator(random="always"),
    "multinomial": Operator(random="always"),
    "poisson": Operator(random="always"),
    # copies
    "to": Operator("keeps_zero", copies=True, view=True, may_alias=True, onnx=("Identity",), fusable=True),
    "_to_copy": _COPY,
    "type_as": Operator("keeps_zero", view=True, may_alias=True),
    "contiguous": Operator("keeps_zero", copies=True, view=True, may_alias=True),
    "clone": _COPY,
    "alias": _COPY,
    "detach": Operator("keeps_zero", copies=True, view=True, may_alias=True),
    "detach_copy": Operator("keeps_zero", view=True),
    "lift_fresh_copy": _COPY,
    # arithmetic of two tensors
    "add": Operator("binary", join=True, ties=True, arithmetic="add", onnx=("Add",), fusable=True),
    "sub": Operator("binary", ties=True, onnx=("Sub",), fusable=True),
    "rsub": Operator("binary"),
    "mul": Operator("binary", join=True, ties=True, arithmetic="mul", onnx=("Mul",), fusable=True),
    "div": Operator("binary", ties=True, arithmetic="mul", onnx=("Div",), fusable=True),
    "maximum": Operator("binary", ties=True),
    "minimum": Operator("binary", ties=True),
    "__and__": Operator("binary"),
    "logical_and": Operator("binary"),
    "bitwise_and": Operator("binary"),
    "addcmul": Operator("addcmul"),
    "where": Operator("where", ties=True),
    # data movement
    "view": _VIEW,
    "_unsafe_view": _VIEW,
    "squeeze": _VIEW,
    "unsqueeze": _VIEW,
    "reshape": _HIDDEN_VIEW,
    "flatten": _HIDDEN_VIEW,
    "unflatten": _HIDDEN_VIEW,
    "view_as": _HIDDEN_VIEW,
    "reshape_as": _HIDDEN_VIEW,
    "permute": Operator("permute", view=True),
    "transpose": Operator("permute", view=True),
    "t": Operator("permute", view=True),
    "numpy_T": Operator("permute", view=True),
    "flip": Operator("permute", view=True),
    "movedim": Operator("permute", view=True, may_alias=True),
    "swapaxes": Operator("permute", view=True, may_alias=True),
    "expand": Operator("expand", view=True),
    "broadcast_to": Operator("expand", view=True),
    "expand_as": Operator("expand", view=True, may_alias=True),
    "chunk": _PARTS,
    "split": _PARTS,
    "split_with_sizes": Operator("split", view=True),
    "tensor_split": Operator("split", view=True),
    "unsafe_chunk": Operator("split", view=True),
    "unsafe_split": Operator("split", view=True),
    "slice": Operator("slice", view=True),
    "narrow": Operator("slice", view=True),
    "select": Operator("select", view=True),
    "unbind": Operator("unbind", view=True),
    "cat": Operator("concatenate", join=True),
    "concat": Operator("concatenate", join=True),
    "concatenate": Operator("concatenate", join=True),
    "stack": Operator("stack", join=True),
    "pixel_shuffle": Operator("run_on_labels"),
    "pixel_unshuffle": Operator("run_on_labels"),
    "repeat_interleave": Operator("run_on_labels"),
    "repeat": Operator("run_on_labels"),
    "tile": Operator("run_on_labels"),
    "im2col": Operator("run_on_labels"),
    "roll": Operator("run_on_labels"),
    "channel_shuffle": Operator("channel_shuffle"),
    "native_channel_shuffle": Operator("channel_shuffle"),
    "copy": Operator("copy"),
    "index_select": Operator("index"),
    "index": Operator("index"),
    "gather": Operator("index"),
    "take": Operator("index"),
    "slice_scatter": Operator("slice_scatter"),
    "pad": Operator("pad"),
    "constant_pad_nd": Operator("pad"),
    "reflection_pad1d": Operator("pad"),
    "reflection_pad2d": Operator("pad"),
    "replication_pad1d": Operator("pad"),
    "replication_pad2d": Operator("pad"),
    "_pad_circular": Operator("pad"),
    "zero_pad2d": Operator("pad"),
    # pooling and resampling
    "max_pool1d": Operator("pool", onnx=("MaxPool",)),
    "max_pool2d": Operator("pool", onnx=("MaxPool",)),
    "max_pool3d": Operator("pool", onnx=("MaxPool",)),
    "max_pool2d_with_indices": Operator("pool", onnx=("MaxPool",)),
    "avg_pool1d": Operator("pool", onnx=("AveragePool",)),
    "avg_pool2d": Operator("pool", onnx=("AveragePool",)),
    "avg_pool3d": Operator("pool", onnx=("AveragePool",)),
    "adaptive_avg_pool1d": Operator("pool", onnx=("GlobalAveragePool",)),
    "adaptive_avg_pool2d": Operator("pool", onnx=("GlobalAveragePool",)),
    "adaptive_avg_pool3d": Operator("pool", onnx=("GlobalAveragePool",)),
    "_adaptive_avg_pool2d": Operator("pool", onnx=("GlobalAveragePool",)),
    "adaptive_max_pool1d": _POOL,
    "adaptive_max_pool2d": _POOL,
    "adaptive_max_pool3d": _POOL,
    "lp_pool2d": _POOL,
    "upsample_nearest1d": _POOL,
    "upsample_nearest2d": _POOL,
    "upsample_nearest3d": _POOL,
    "_upsample_nearest_exact2d": _POOL,
    "upsample_bilinear2d": _POOL,
    "upsample_bicubic2d": _POOL,
    "_upsample_bilinear2d_aa": _POOL,
    "_upsample_bicubic2d_aa": _POOL,
    "upsample_linear1d": _POOL,
    "upsample_trilinear3d": _POOL,
    "grid_sampler": _POOL,
    "grid_sampler_2d": _POOL,
    # reductions
    "mean": _REDUCE,
    "sum": _REDUCE,
    "amax": _REDUCE,
    "amin": _REDUCE,
    "max": _REDUCE,
    "min": _REDUCE,
    "var": _REDUCE,
    "std": _REDUCE,
    "var_mean": _REDUCE,
    "std_mean": _REDUCE,
    "linalg_vector_norm": _REDUCE,
    "norm": _REDUCE,
    "argmax": _REDUCE,
    "cumsum": _REDUCE,
    "softmax": Operator("softmax"),
    "_softmax": Operator("softmax"),
    "log_softmax": Operator("softmax"),
    "_log_softmax": Operator("softmax"),
    # bookkeeping
    "_assert_tensor_metadata": Operator("ignore", bookkeeping=True),
    "sym_size": Operator(bookkeeping=True),
    "size": Operator(bookkeeping=True),
}

for _name, _row in _TABLE.items():
    OPERATORS.add(_name, _row)

__all__ = [
    "OPERATORS",
    "RULES",
    "UNKNOWN",
    "Operator",
    "Rule",
    "onnx_types",
    "operator_name",
    "operator_of",
    "rule_of",
]
