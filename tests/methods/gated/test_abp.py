"""ABP: the gradient follows the formula, closed channels can reopen, the budget is met exactly."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from compress import artifact, models
from compress.core.errors import CompressError
from compress.cost import dense_costs
from compress.graph import trace
from compress.methods.base import Setup
from compress.methods.gated.abp import ABP, ABPMethod, AttentionGates, attention, sharpness
from compress.methods.gated.gates import gates_of
from compress.pipeline import TrainResult
from compress.slicing import compare
from compress.training import TrainConfig

Run = Callable[..., TrainResult]


def prepared(target: float = 0.5, **options: object) -> tuple[ABPMethod, nn.Module, AttentionGates]:
    torch.manual_seed(0)
    model = models.build("vgg_small", input_size=(3, 8, 8))
    graph = trace(model, torch.rand(2, 3, 8, 8))
    setup = Setup(model, graph, None, TrainConfig(epochs=10), 10, "macs", target * dense_costs(graph).macs)
    method = ABPMethod(ABP(**options), setup)  # type: ignore[arg-type]
    student = method.model
    gates = gates_of(student)
    assert isinstance(gates, AttentionGates)
    return method, student, gates


def test_forward_gate_mixes_the_binary_and_the_relaxed_score() -> None:
    v, m = torch.tensor([0.0, 0.3, 0.7, 1.0]), torch.tensor([0.0, 0.0, 1.0, 1.0])
    assert torch.allclose(attention(v, m, torch.tensor(0.8)), 0.8 * m + 0.2 * v)


def test_score_gradient_is_two_lambda_inside_the_interval_with_its_ends_and_zero_outside() -> None:
    v = torch.tensor([-0.1, 0.0, 0.3, 0.7, 1.0, 1.1], requires_grad=True)
    upstream = torch.tensor([1.0, 2.0, -3.0, 4.0, 5.0, 6.0])
    attention(v, (v > 0.5).float().detach(), torch.tensor(0.75)).backward(upstream)
    assert v.grad is not None
    assert torch.allclose(v.grad, 1.5 * upstream * torch.tensor([0.0, 1, 1, 1, 1, 0]))


def test_score_gradient_is_alive_at_full_sharpness() -> None:
    v = torch.tensor([0.2, 0.9], requires_grad=True)
    attention(v, torch.tensor([0.0, 1.0]), torch.tensor(1.0)).sum().backward()
    assert v.grad is not None
    assert v.grad.tolist() == [2.0, 2.0]


def test_closed_channel_has_a_gradient_and_current_statistics() -> None:
    _, student, gates = prepared()
    with torch.no_grad():
        gates.score[:16] = 0.0
        gates.sharp.fill_(1.0)
    norm = student.get_submodule("features.bn1")
    before = norm.running_mean.clone()  # type: ignore[operator, union-attr]
    student.train()(torch.randn(8, 3, 8, 8)).square().sum().backward()
    assert gates.score.grad is not None
    assert (gates.score.grad[:16] != 0).all()
    assert (norm.running_mean[:16] != before[:16]).all()  # type: ignore[index]


def test_sharpness_goes_from_a_half_to_one() -> None:
    assert sharpness(0, 200) == 0.5
    assert sharpness(10, 200) == pytest.approx(1 / (1 + np.exp(-1)))
    assert 1 - sharpness(180, 200) < 1e-7


def test_budget_term_stops_at_the_target() -> None:
    method, student, gates = prepared(0.5, ramp=0.0)
    method.begin_epoch(student, 0, 10)
    x, y = torch.randn(4, 3, 8, 8), torch.tensor([1, 2, 3, 4])
    criterion = nn.CrossEntropyLoss()
    for score, pressed in ((1.0, True), (0.0, False)):
        with torch.no_grad():
            gates.score.fill_(score)
        out = student(x)
        loss = method.loss(student, x, out, y, criterion)
        assert (float(loss.detach()) > float(criterion(out, y).detach()) + 1e-3) == pressed


def test_one_channel_of_every_layer_stays_open() -> None:
    _, _, gates = prepared()
    with torch.no_grad():
        gates.score.copy_(0.3 * torch.rand(gates.count))
    opened = gates.binary()
    assert sorted(gates.layer[opened > 0].tolist()) == list(range(6))


@pytest.mark.parametrize("target", ["macs=0.3", "params=0.3"])
def test_budget_is_met_within_one_percent_and_the_trained_function_is_deployed(
    run: Run, tmp_path: Path, target: str
) -> None:
    result = run("abp", 4, target=target, align="none")
    kind = target[: target.index("=")]
    assert getattr(result.compact, kind) == pytest.approx(0.3 * getattr(result.dense, kind), rel=0.01)
    assert result.verify["compact_vs_trained"]["passed"]
    rows = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert {"abp_closed", "abp_reopened", "abp_open"} <= rows[0].keys()
    real = sum(p.numel() for p in artifact.load(tmp_path / "run").parameters())
    assert real == result.compact.params


def test_masks_are_fixed_in_the_last_tenth_and_the_gates_exactly_binary() -> None:
    method, student, gates = prepared()
    assert method.fixed_from(10) == 9
    assert method.fixed_from(200) == 180
    method.begin_epoch(student, 9, 10)
    values = gates.train().values()
    assert set(values.tolist()) == {0.0, 1.0}
    assert float(gates.sharp) == 1.0
    assert method.setup.budget * 0.99 <= method.final_plan(student).narrow.macs <= method.setup.budget * 1.01


def test_earlier_form_acts_before_the_norms_while_searching_and_behind_them_in_the_end(run: Run) -> None:
    method, student, _ = prepared(faithful=True)
    method.begin_epoch(student, 0, 10)
    norm, layer = student.get_submodule("features.bn1"), student.get_submodule("features.conv1")
    student.train()
    assert bool((norm.weight != 0).all())
    assert bool((layer.weight.flatten(1).abs().sum(1) < 1e-3).any())  # type: ignore[operator, union-attr]
    method.begin_epoch(student, 9, 10)
    assert bool((norm.weight == 0).any())
    assert bool((layer.weight.flatten(1).abs().sum(1) > 1e-3).all())  # type: ignore[operator, union-attr]
    assert run("abp", 3, options={"faithful": True}, align="none").verify["compact_vs_trained"]["passed"]


def test_resumed_training_gives_the_same_network(run: Run, tmp_path: Path) -> None:
    whole = run("abp", 3, name="a", align="none")

    class Stop(Exception):
        pass

    from compress.training import NoProgress

    class Stopping(NoProgress):
        def epoch(self, row: object) -> None:
            raise Stop

    from compress.pipeline import TrainRequest, run_training

    request = TrainRequest(
        method="abp",
        model="vgg_small",
        data="digits",
        input_size=(3, 8, 8),
        target="macs=0.5",
        settings={
            "batch_size": 96,
            "lr": 0.05,
            "tensorboard": False,
            "device": "cpu",
            "epochs": 3,
            "seed": 0,
        },
        out=tmp_path / "b",
        align="none",
    )
    with pytest.raises(Stop):
        run_training(request, progress=Stopping())
    again = run("abp", 3, name="b", align="none", resume=True)
    assert again.top1 == whole.top1
    first, second = (artifact.load(tmp_path / n).state_dict() for n in "ab")
    assert all(torch.equal(first[k], second[k]) for k in first)


def test_gates_are_plotted_for_learned_plans_only(run: Run, tmp_path: Path) -> None:
    run("abp", 2, align="none")
    assert (tmp_path / "run" / "gates.png").read_bytes().startswith(b"\x89PNG")
    run("scratch", 1, name="plain")
    assert not (tmp_path / "plain" / "gates.png").exists()


def test_one_epoch_is_too_few(run: Run) -> None:
    with pytest.raises(CompressError, match="needs at least 2 epochs, one to search"):
        run("abp", 1)


def test_drop_rates_are_refused(run: Run) -> None:
    with pytest.raises(CompressError, match="cannot follow drop rates"):
        run("abp", 2, target=None, drop={"*": [0.5]})


def test_scattered_branches_are_gated_and_cut_exactly() -> None:
    torch.manual_seed(0)
    model = models.build("resnet20", input_size=(3, 8, 8))
    graph = trace(model, torch.rand(2, 3, 8, 8))
    setup = Setup(model, graph, None, TrainConfig(epochs=10), 10, "macs", 0.8 * dense_costs(graph).macs)
    method = ABPMethod(ABP(residual="scatter"), setup)
    gates = gates_of(method.model)
    mask = np.ones(gates.count, dtype=np.bool_)
    for branch in method._space.layers[-3:]:
        mask[branch[::2]] = False
    gates.freeze(mask)
    assert method.final_plan(method.model).scattered
    x = torch.rand(4, 3, 8, 8)
    assert compare(method.model.eval(), method.finish(method.model), (x,)).passed
