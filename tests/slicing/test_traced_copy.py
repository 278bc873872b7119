"""Traced copies, made where the forward code contains widths: modes, training and ONNX export."""

from __future__ import annotations

import copy
import io
import warnings

import pytest
import torch
import torch.nn.functional as F
from exactness import assert_exact, traced, traced_case
from families import CASES, Net, block
from torch import Tensor, nn

from compress.core.errors import CompressError
from compress.graph import SlicePlan
from compress.graph.rewrite import TracedModel
from compress.planning import make_plan
from compress.slicing import slice_model


class HardCodedWithDropout(Net):
    """Needs a traced copy, and has a dropout and a norm whose modes matter."""

    def __init__(self) -> None:
        super().__init__(8, 8 * 64)
        self.drop = nn.Dropout(0.5)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(self.drop(self.b(self.a(x))).view(-1, 8 * 64))
        return out


@pytest.mark.parametrize("copied", [False, True])
def test_traced_copy_switches_norms_and_dropout_between_train_and_eval(copied: bool) -> None:
    torch.manual_seed(0)
    model, images = HardCodedWithDropout(), torch.randn(4, 3, 8, 8)
    compact = slice_model(model, make_plan(traced(model, images), keep=0.5))
    assert isinstance(compact, TracedModel)
    compact = copy.deepcopy(compact) if copied else compact
    compact.eval()
    before = copy.deepcopy(compact.state_dict())
    torch.testing.assert_close(compact(images), compact(images), rtol=0, atol=0)
    assert torch.equal(compact.state_dict()["a.1.running_mean"], before["a.1.running_mean"])
    compact.train()
    assert not torch.equal(compact(images), compact(images))
    assert not torch.equal(compact.state_dict()["a.1.running_mean"], before["a.1.running_mean"])
    compact.eval()
    torch.testing.assert_close(compact(images), compact(images), rtol=0, atol=0)


def test_traced_copy_in_train_mode_equals_the_module() -> None:
    torch.manual_seed(0)
    model, images = CASES["ViewHardCoded"].build(), torch.randn(4, 3, 8, 8)
    plan = make_plan(traced(model, images), keep=0.99)
    rewritten = SlicePlan(
        **{**vars(plan), "rewrites": {"view": ["aten.view.default", [{"node": "relu"}, [-1, 512]]]}}
    )
    copied = slice_model(model, rewritten).train()
    assert isinstance(copied, TracedModel)
    torch.testing.assert_close(copied(images), model.train()(images))


def test_traced_copy_exported_to_onnx_has_equal_outputs() -> None:
    import onnxruntime

    model, graph, images = traced_case("StridedSlice")
    compact = slice_model(model, make_plan(graph, keep=0.5, criterion="random")).eval()
    assert isinstance(compact, TracedModel)
    file = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(compact, (images,), dynamo=True, verbose=False)
    program.save(file)
    session = onnxruntime.InferenceSession(file.getvalue(), providers=["CPUExecutionProvider"])
    got = session.run(None, {session.get_inputs()[0].name: images.numpy()})[0]
    torch.testing.assert_close(torch.from_numpy(got), compact(images), rtol=1e-4, atol=1e-5)


class WritesIntoHalf(Net):
    """An in-place write into part of a tensor, with a dropout that a functional trace loses."""

    def __init__(self) -> None:
        super().__init__(8, 8 * 64)
        self.c = block(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        y = self.a(x).clone()
        y[:, :4] = self.c(y[:, :4])
        out: Tensor = self.head(F.dropout(y, 0.5, self.training).view(-1, 8 * 64))
        return out


def test_traced_copy_without_its_dropout_refuses_train_mode() -> None:
    model, images = WritesIntoHalf(), torch.randn(2, 3, 8, 8)
    plan = make_plan(traced(model, images), keep=0.5)
    assert plan.rewrites
    compact = slice_model(model, plan)
    assert_exact(model, plan, images)
    with pytest.raises(CompressError, match="dropout"):
        compact.train()
