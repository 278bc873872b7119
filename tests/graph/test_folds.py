"""Computed weights: folded only where a cut needs it, into what the dense network computed."""

from __future__ import annotations

import io
import json
import warnings
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from exactness import assert_exact, traced
from families import CASES, Net, StandardizedConv
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from compress.core.errors import CompressError
from compress.graph import ChannelGraph, SlicePlan
from compress.graph.rewrite import TracedModel
from compress.graph.slice_plan import FOLD
from compress.planning import make_plan
from compress.slicing import apply_plan, compare, slice_model


def _standardized(name: str = "StandardizedByBatchNorm") -> tuple[nn.Module, ChannelGraph, Tensor]:
    torch.manual_seed(0)
    model, images = CASES[name].build(), torch.randn(2, 3, 8, 8)
    return model, traced(model, images), images


def _folded(plan: SlicePlan) -> list[str]:
    return [args[0] for target, args in plan.rewrites.values() if target == FOLD]


def test_folded_weight_is_what_the_dense_network_computed_without_its_gain() -> None:
    model, graph, _ = _standardized()
    plan = make_plan(graph, keep={"a.0": [0, 2, 3, 7]})
    assert _folded(plan) == ["c.weight"]
    weight = model.c.weight
    spread, mean = torch.var_mean(weight, (1, 2, 3), correction=0, keepdim=True)
    wanted = (weight - mean) / torch.sqrt(spread + 1e-6)
    narrow = slice_model(model, plan)
    torch.testing.assert_close(narrow.c.weight, wanted[:, [0, 2, 3, 7]])
    assert torch.equal(narrow.c.gain, model.c.gain)


def test_weight_whose_filters_lose_no_inputs_is_not_folded() -> None:
    model, graph, images = _standardized()
    plan = make_plan(graph, keep={"d": 0.5})
    assert plan.kept["d.weight"].keys() == {0}
    assert not plan.rewrites
    narrow = assert_exact(model, plan, images)
    assert type(narrow) is type(model)
    assert torch.equal(narrow.d.weight, model.d.weight[plan.kept["d.weight"][0]])


def test_folded_network_is_rebuilt_from_its_plan_and_tensors(tmp_path: Path) -> None:
    model, graph, images = _standardized("StandardizedGroups")
    plan = make_plan(graph, keep=0.5, criterion="random")
    narrow = slice_model(model, plan).eval()
    save_file(narrow.state_dict(), tmp_path / "weights.safetensors")
    (tmp_path / "plan.json").write_text(json.dumps(plan.to_json()))
    torch.manual_seed(9)
    again = SlicePlan.from_json(json.loads((tmp_path / "plan.json").read_text()))
    rebuilt = apply_plan(CASES["StandardizedGroups"].build(), again).eval()
    rebuilt.load_state_dict(load_file(tmp_path / "weights.safetensors"), strict=True)
    assert compare(narrow, rebuilt, (images,), 0.0).passed


def test_folded_network_learns_in_every_parameter() -> None:
    model, graph, images = _standardized("StandardizedGroups")
    narrow = slice_model(model, make_plan(graph, keep=0.5)).train()
    before = {name: p.detach().clone() for name, p in narrow.named_parameters()}
    optimizer = torch.optim.SGD(narrow.parameters(), 0.1)
    narrow(images).square().sum().backward()
    optimizer.step()
    assert [name for name, p in narrow.named_parameters() if torch.equal(p, before[name])] == []


def test_folded_network_can_be_cut_again_without_a_fold() -> None:
    model, graph, images = _standardized()
    narrow = slice_model(model, make_plan(graph, keep=0.5))
    second = traced(narrow, images)
    assert {"a.0", "c"} <= {group.name for group in second.groups}
    plan = make_plan(second, keep=0.5)
    assert _folded(plan) == []
    assert_exact(narrow, plan, images)


def test_folded_network_has_no_statistics_left_and_goes_through_onnx() -> None:
    import onnxruntime

    model, graph, images = _standardized("StandardizedGroups")
    narrow = slice_model(model, make_plan(graph, keep=0.5)).eval()
    assert isinstance(narrow, TracedModel)
    kept = [n for n in narrow.graph.nodes if "batch_norm" in str(n.target)]
    assert len(kept) == len([m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]) + 1  # depthwise
    file = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(narrow, (images,), dynamo=True, verbose=False)
    program.save(file)
    session = onnxruntime.InferenceSession(file.getvalue(), providers=["CPUExecutionProvider"])
    got = session.run(None, {session.get_inputs()[0].name: images.numpy()})[0]
    torch.testing.assert_close(torch.from_numpy(got), narrow(images).detach(), rtol=1e-4, atol=1e-5)


def test_plan_with_a_fold_that_the_model_does_not_have_is_refused() -> None:
    model, graph, _ = _standardized()
    plan = make_plan(graph, keep=0.5)
    model.c.forward = lambda x: F.conv2d(x, model.c.weight, model.c.bias, padding=1)
    with pytest.raises(CompressError, match="does not have"):
        slice_model(model, plan)


class Shared(Net):
    """One standardized convolution under two names."""

    def __init__(self) -> None:
        super().__init__()
        self.c = StandardizedConv(8, 8)
        self.d = self.c

    def forward(self, x: Tensor) -> Tensor:
        return self.classify(self.b(F.relu(self.d(F.relu(self.c(self.a(x)))))))


def test_standardized_convolution_that_is_called_twice_is_protected_or_exact() -> None:
    model, images = Shared(), torch.randn(2, 3, 8, 8)
    graph = traced(model, images)
    assert "c" in {p.name for p in graph.protected}
    assert_exact(model, make_plan(graph, keep=0.5, criterion="random"), images)


def test_group_norm_describes_the_groups_it_keeps() -> None:
    model, graph, images = _standardized("GroupNormedResidual")
    plan = make_plan(graph, keep=0.5)
    narrow = assert_exact(model, plan, images)
    assert type(narrow) is type(model)
    assert (narrow.last.num_groups, narrow.last.num_channels) == (4, 8)
