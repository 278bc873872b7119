"""Folding of computed weights: only where a cut needs it, into the values that the dense network computed."""

from __future__ import annotations

import io
import json
import warnings
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from exactness import assert_exact, traced, traced_case
from families import CASES, Net, StandardizedConv
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from compress.core.errors import CompressError
from compress.graph import SlicePlan
from compress.graph.rewrite import TracedModel
from compress.graph.slice_plan import FOLD
from compress.planning import make_plan
from compress.slicing import apply_plan, compare, slice_model


def _folded(plan: SlicePlan) -> list[str]:
    return [args[0] for target, args in plan.rewrites.values() if target == FOLD]


def test_folded_weight_equals_the_computed_dense_weight_without_its_gain() -> None:
    model, graph, _ = traced_case("StandardizedByBatchNorm")
    plan = make_plan(graph, keep={"a.0": [0, 2, 3, 7]})
    assert _folded(plan) == ["c.weight"]
    weight = model.c.weight
    spread, mean = torch.var_mean(weight, (1, 2, 3), correction=0, keepdim=True)
    expected = (weight - mean) / torch.sqrt(spread + 1e-6)
    compact = slice_model(model, plan)
    torch.testing.assert_close(compact.c.weight, expected[:, [0, 2, 3, 7]])
    assert torch.equal(compact.c.gain, model.c.gain)


def test_weight_whose_filters_lose_no_inputs_is_not_folded() -> None:
    model, graph, images = traced_case("StandardizedByBatchNorm")
    plan = make_plan(graph, keep={"d": 0.5})
    assert plan.kept["d.weight"].keys() == {0}
    assert not plan.rewrites
    compact = assert_exact(model, plan, images)
    assert type(compact) is type(model)
    assert torch.equal(compact.d.weight, model.d.weight[plan.kept["d.weight"][0]])


def test_folded_network_is_rebuilt_from_its_plan_and_state_dict(tmp_path: Path) -> None:
    model, graph, images = traced_case("StandardizedGroups")
    plan = make_plan(graph, keep=0.5, criterion="random")
    compact = slice_model(model, plan).eval()
    save_file(compact.state_dict(), tmp_path / "weights.safetensors")
    (tmp_path / "plan.json").write_text(json.dumps(plan.to_json()))
    torch.manual_seed(9)
    again = SlicePlan.from_json(json.loads((tmp_path / "plan.json").read_text()))
    rebuilt = apply_plan(CASES["StandardizedGroups"].build(), again).eval()
    rebuilt.load_state_dict(load_file(tmp_path / "weights.safetensors"), strict=True)
    assert compare(compact, rebuilt, (images,), 0.0).passed


def test_training_updates_every_parameter_of_a_folded_network() -> None:
    model, graph, images = traced_case("StandardizedGroups")
    compact = slice_model(model, make_plan(graph, keep=0.5)).train()
    before = {name: p.detach().clone() for name, p in compact.named_parameters()}
    optimizer = torch.optim.SGD(compact.parameters(), 0.1)
    compact(images).square().sum().backward()
    optimizer.step()
    assert [name for name, p in compact.named_parameters() if torch.equal(p, before[name])] == []


def test_folded_network_is_sliced_again_without_a_second_fold() -> None:
    model, graph, images = traced_case("StandardizedByBatchNorm")
    compact = slice_model(model, make_plan(graph, keep=0.5))
    second = traced(compact, images)
    assert {"a.0", "c"} <= {group.name for group in second.groups}
    plan = make_plan(second, keep=0.5)
    assert _folded(plan) == []
    assert_exact(compact, plan, images)


def test_folded_network_is_exported_to_onnx_without_weight_statistics() -> None:
    import onnxruntime

    model, graph, images = traced_case("StandardizedGroups")
    compact = slice_model(model, make_plan(graph, keep=0.5)).eval()
    assert isinstance(compact, TracedModel)
    kept = [n for n in compact.graph.nodes if "batch_norm" in str(n.target)]
    assert len(kept) == len([m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]) + 1  # depthwise
    file = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(compact, (images,), dynamo=True, verbose=False)
    program.save(file)
    session = onnxruntime.InferenceSession(file.getvalue(), providers=["CPUExecutionProvider"])
    got = session.run(None, {session.get_inputs()[0].name: images.numpy()})[0]
    torch.testing.assert_close(torch.from_numpy(got), compact(images).detach(), rtol=1e-4, atol=1e-5)


def test_plan_with_a_fold_that_the_model_lacks_is_refused() -> None:
    model, graph, _ = traced_case("StandardizedByBatchNorm")
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


def test_standardized_convolution_that_is_called_twice_is_protected() -> None:
    model, images = Shared(), torch.randn(2, 3, 8, 8)
    graph = traced(model, images)
    assert "c" in {p.name for p in graph.protected}
    assert_exact(model, make_plan(graph, keep=0.5, criterion="random"), images)
