"""The operator table: one row an operator, and what the copies that it replaced disagreed about."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from families import Net, block
from plugins import make_plugin
from torch import Tensor, nn

from compress.cost import shaped_layers
from compress.graph import trace
from compress.graph.operators import OPERATORS, RULES, Operator, onnx_types, operator_name
from compress.graph.placement import Placement
from compress.graph.program import export_program, parameter_only

IMAGES = torch.randn(2, 3, 8, 8)


def test_every_rule_a_row_names_exists() -> None:
    named = {row.rule for row in OPERATORS.values() if isinstance(row.rule, str) and row.rule}
    assert named == set(RULES)


class Normed(nn.Module):
    """A convolution, an instance or batch norm, and a linear layer."""

    def __init__(self, norm: nn.Module) -> None:
        super().__init__()
        self.conv, self.norm, self.head = nn.Conv2d(3, 8, 3, bias=False), norm, nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        features: Tensor = self.norm(self.conv(x)).relu()
        out: Tensor = self.head(features.mean((2, 3)))
        return out


def test_masks_act_on_an_instance_norm_but_no_layer_absorbs_it() -> None:
    batch, instance = (
        trace(Normed(norm), IMAGES) for norm in (nn.BatchNorm2d(8), nn.InstanceNorm2d(8, affine=True))
    )
    for graph in (batch, instance):
        assert {point.name for point in Placement(graph).after} == {"norm.weight", "norm.bias"}
    assert shaped_layers(batch)[0].shape.bias is True  # type: ignore[union-attr]
    assert shaped_layers(instance)[0].shape.bias is False  # type: ignore[union-attr]


class Noisy(nn.Module):
    """Weights and activations with operators that are random in one mode or in both."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.head = block(3, 8), nn.Linear(8, 4)
        self.scale = nn.Parameter(torch.ones(8, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        scale = nn.functional.feature_alpha_dropout(self.scale.expand(2, 8, 1, 1), 0.5, self.training)
        noise = torch.rand_like(self.scale)
        out: Tensor = self.head((self.conv(x) * scale + noise).mean((2, 3)))
        return out


def test_random_values_do_not_count_as_computed_from_parameters() -> None:
    program = export_program(Noisy(), (IMAGES,))
    placeholders = {n.name for n in program.graph.nodes if n.op == "placeholder"}
    fixed = {operator_name(n) for n in parameter_only(program.graph, placeholders) if n.op != "placeholder"}
    assert "rand_like" not in fixed
    assert OPERATORS["feature_dropout"].random == "training"
    assert OPERATORS["rand_like"].random == "always"


class Written(nn.Module):
    """Writes into part of a tensor, so that the exported program is made functional."""

    def __init__(self, noise: bool) -> None:
        super().__init__()
        self.conv, self.head, self.noise = block(3, 8), nn.Linear(8, 4), noise

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x)
        y = y + torch.rand_like(y) if self.noise else nn.functional.dropout(y, 0.5, self.training)
        part = y[:, :4]
        part.mul_(2)
        out: Tensor = self.head(y.mean((2, 3)))
        return out


@pytest.mark.parametrize(("noise", "lost"), [(True, []), (False, ["dropout"])])
def test_only_operators_that_are_random_in_training_are_lost_in_a_trace(noise: bool, lost: list[str]) -> None:
    program = export_program(Written(noise), (IMAGES,))
    assert program.graph_module.meta.get("compress_evaluates_only") == lost


class Gated(Net):
    """`f(a(x)) * gain`, where f is the sigmoid (not zero for a dropped channel) or nothing."""

    def __init__(self, sigmoid: bool, reshape: bool) -> None:
        super().__init__()
        self.conv, self.gain = nn.Conv2d(3, 8, 1), nn.Parameter(torch.rand(8))
        self.last, self.sigmoid, self.reshape = nn.Conv2d(8, 8, 1), sigmoid, reshape

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x)
        y = y.sigmoid() if self.sigmoid else y
        gain = self.gain.reshape(1, -1, 1, 1) if self.reshape else self.gain.view(1, -1, 1, 1)
        return self.classify(self.last(y * gain))


@pytest.mark.parametrize("reshape", [False, True])
@pytest.mark.parametrize("sigmoid", [False, True])
def test_mask_acts_on_a_gain_only_where_what_it_scales_is_not_zero(sigmoid: bool, reshape: bool) -> None:
    after = {point.name for point in Placement(trace(Gated(sigmoid, reshape), IMAGES)).after}
    assert ("gain" in after) is sigmoid
    assert {"conv.weight", "conv.bias"} <= after


def test_pointwise_onnx_operators_are_those_a_runtime_may_fuse() -> None:
    assert {"Add", "Relu", "Clip", "BatchNormalization", "Identity"} <= onnx_types(fusable=True)
    assert not onnx_types(fusable=True) & onnx_types(layer=True)
    assert onnx_types(layer=True) == {"Conv", "ConvTranspose", "Gemm", "MatMul"}


NETWORK = """
import torch
from torch import nn
import acme_ops.ops

class Squashed(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b, self.head = nn.Conv2d(3, 8, 1), nn.Conv2d(8, 8, 1), nn.Linear(8, 4)

    def forward(self, x):
        return self.head(self.b(torch.ops.acme.squash(self.a(x))).mean((2, 3)))

def make():
    return Squashed()
"""

OPS = """
import torch
from compress.graph.operators import Operator

@torch.library.custom_op("acme::squash", mutates_args=())
def squash(x: torch.Tensor) -> torch.Tensor:
    return x / (1 + x.abs())

@squash.register_fake
def _(x):
    return torch.empty_like(x)

row = Operator("keeps_zero")
"""


def test_row_of_another_package_makes_its_operator_cuttable_on_the_command_line(tmp_path: Path) -> None:
    plugin = make_plugin(
        tmp_path, "acme_ops", {"ops.py": OPS}, {"operators": {"acme.squash": "acme_ops.ops:row"}}
    )
    (tmp_path / "net.py").write_text(NETWORK)
    done = plugin.run(
        "inspect",
        "--model",
        f"{tmp_path / 'net.py'}:make",
        "--input-size",
        "3,8,8",
        "--num-classes",
        4,
        "--json",
    )
    assert done.returncode == 0, done.stderr
    assert {group["name"] for group in json.loads(done.stdout)["groups"]} == {"a", "b"}


def test_table_refuses_a_second_row_for_an_operator() -> None:
    with pytest.raises(ValueError, match="conv2d"):
        OPERATORS.add("conv2d", Operator("pool"))
