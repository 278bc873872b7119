"""KDFS: losses and gradients follow the formulas, masks act on the norms, the teacher must fit."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from compress import models
from compress.core.errors import CompressError
from compress.cost import dense_costs
from compress.graph import SlicePlan, trace
from compress.graph.stages import stage_ends
from compress.methods.base import Setup
from compress.methods.gated.gates import gates_of
from compress.methods.gated.kdfs import (
    KDFS,
    KDFSMethod,
    SamplerGates,
    attention_map,
    dark_knowledge_loss,
    decode,
    modelling_loss,
    straight_through,
    temperature,
)
from compress.pipeline import TrainResult
from compress.slicing import apply_plan, compare, slice_model, verify
from compress.training import TrainConfig

Run = Callable[..., TrainResult]


def prepared(name: str = "vgg_small", target: float = 0.5, **options: object) -> tuple[KDFSMethod, nn.Module]:
    torch.manual_seed(0)
    model = models.build(name, input_size=(3, 16, 16))
    graph = trace(model, torch.rand(2, 3, 16, 16))
    budget, teacher = target * dense_costs(graph).macs, copy.deepcopy(model)
    setup = Setup(model, graph, None, TrainConfig(epochs=8), 10, "macs", budget, "none", teacher)
    method = KDFSMethod(KDFS(**options), setup)  # type: ignore[arg-type]
    student = method.model
    method.build_optimizers(student, method.setup.config)
    return method, student


def sampler(student: nn.Module) -> SamplerGates:
    gates = gates_of(student)
    assert isinstance(gates, SamplerGates)
    return gates


def test_sample_is_binary_and_takes_the_gradient_of_the_soft_one() -> None:
    torch.manual_seed(0)
    logits, noise = torch.randn(6, 2, dtype=torch.float64), torch.randn(6, 2, dtype=torch.float64)
    tau, upstream = torch.tensor(0.7, dtype=torch.float64), torch.randn(6, dtype=torch.float64)
    logits.requires_grad_()
    hard, soft = straight_through(logits, noise, tau)
    assert set(hard.tolist()) <= {0.0, 1.0}
    assert torch.equal(hard, ((logits + noise).argmax(1) == 1).double())
    (hard + soft - soft.detach()).backward(upstream)
    p = torch.softmax((logits.detach() + noise) / tau, 1)[:, 1]
    slope = upstream * p * (1 - p) / tau
    assert logits.grad is not None
    assert torch.allclose(logits.grad, torch.stack([-slope, slope], 1))


def test_all_tensors_of_a_channel_share_one_sample_in_a_step_and_steps_differ() -> None:
    method, student = prepared()
    method.begin_epoch(student, 0, 8)
    seen: list[Tensor] = []
    norm = student.get_submodule("features.bn2")
    norm.register_forward_hook(
        lambda m, a, o: seen.append(torch.stack([m.weight != 0, m.weight.abs() > 1e-4]))
    )
    gates = sampler(student)
    samples = []
    for _ in range(2):
        method.begin_step(student)
        student.train()(torch.rand(2, 3, 16, 16))
        samples.append(gates.relaxed().detach().round())
    assert not torch.equal(samples[0], samples[1])
    units = gates.layer == 1
    assert torch.equal(seen[1][1].float(), samples[1][units])


def test_temperature_is_geometric() -> None:
    config = KDFS()
    assert temperature(0, 350, config) == 1.0
    assert temperature(175, 350, config) == pytest.approx(0.1**0.5)
    assert temperature(350, 350, config) == pytest.approx(0.1)


def test_attention_map_has_length_one_and_ignores_scale() -> None:
    features = torch.randn(3, 5, 4, 4)
    assert torch.allclose(attention_map(features).norm(dim=1), torch.ones(3))
    assert torch.allclose(attention_map(features), attention_map(7 * features))


@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format])
def test_decoded_maps_and_their_gradients_are_those_of_the_formula(layout: torch.memory_format) -> None:
    torch.manual_seed(0)
    decoder = nn.Conv2d(5, 5, 1).double()
    features = torch.randn(3, 5, 4, 4, dtype=torch.float64).contiguous(memory_format=layout).requires_grad_()
    ours = attention_map(decode(decoder, features))
    formula = decoder(features).square().mean(1).flatten(1)
    formula = formula / formula.norm(dim=1, keepdim=True)
    torch.testing.assert_close(ours, formula)
    upstream, of = torch.randn_like(formula), [features, *decoder.parameters()]
    for a, b in zip(*(torch.autograd.grad((m * upstream).sum(), of) for m in (ours, formula)), strict=True):
        torch.testing.assert_close(a, b)


def test_losses_vanish_where_student_and_teacher_agree_and_only_there() -> None:
    torch.manual_seed(0)
    a, b = torch.randn(4, 6, 5, 5), torch.randn(4, 6, 5, 5)
    assert float(modelling_loss([a, b], [a, b])) == 0
    assert float(modelling_loss([a, b], [b, a])) > 0
    x, y = torch.randn(4, 10), torch.randn(4, 10)
    assert float(dark_knowledge_loss(x, x, 3.0)) == pytest.approx(0, abs=1e-6)
    p, q = torch.softmax(y / 3, 1), torch.softmax(x / 3, 1)
    assert float(dark_knowledge_loss(x, y, 3.0)) == pytest.approx(
        float(9 * (p * (p / q).log()).sum(1).mean()), rel=1e-4
    )


@pytest.mark.parametrize(
    ("name", "channels"),
    [
        ("vgg_small", [32, 64, 128]),
        pytest.param("resnet56", [16, 32, 64], marks=pytest.mark.slow),
        ("vgg16", [64, 128, 256, 512, 512]),
        pytest.param("densenet40", [168, 312, 456], marks=pytest.mark.slow),
        pytest.param("googlenet", [480, 832, 1024], marks=pytest.mark.slow),
        pytest.param("torchvision/resnet50", [64, 256, 512, 1024, 2048], marks=pytest.mark.slow),
        ("torchvision/resnet18", [64, 64, 128, 256, 512]),
    ],
)
def test_stages_end_before_each_reduction_of_resolution(name: str, channels: list[int]) -> None:
    size = 64 if "/" in name else 32
    graph = trace(models.build(name, input_size=(3, size, size)), torch.rand(2, 3, size, size))
    ends = stage_ends(graph)
    assert [end.channels for end in ends] == channels
    sizes = [end.size[0] for end in ends]
    assert sizes == sorted(set(sizes), reverse=True)


def test_loss_while_searching_reaches_the_weights_the_decoders_and_the_logits() -> None:
    method, student = prepared("resnet20")
    method.begin_epoch(student, 0, 8)
    x, y = torch.randn(4, 3, 16, 16), torch.tensor([0, 1, 2, 3])
    loss = method.loss(student, x, student.train()(x), y, nn.CrossEntropyLoss())
    loss.backward()
    assert sampler(student).logits.grad is not None
    assert all(
        p.grad is not None and p.grad.abs().sum() > 0 for p in method._decoders.parameters() if p.dim() == 4
    )
    assert all(p.grad is None for p in method.teacher.parameters())
    assert all(p.grad is not None for n, p in student.named_parameters() if "conv" in n)


def test_budget_gradient_on_the_logits_pushes_towards_the_target() -> None:
    method, student = prepared(target=0.3, ramp=0)
    gates = sampler(student)
    for start, sign in ((3.0, 1), (-3.0, -1)):
        with torch.no_grad():
            gates.logits[:, 0], gates.logits[:, 1] = -start, start
        (gradient,) = torch.autograd.grad(method._budget(student), gates.logits)
        assert (sign * gradient[:, 1] >= 0).all()
        assert float(gradient[:, 1].abs().sum()) > 0


def test_budget_falls_from_the_dense_cost_to_the_target_along_the_ramp_and_stays() -> None:
    method, _ = prepared(target=0.25, ramp=0.5)
    search = method.fixed_from(8)
    results = [method.target_at(epoch, 0, 0.5) for epoch in (0, search // 4, search // 2, search - 1)]
    assert results[0] == 1
    assert results[1] == pytest.approx(0.25 ** (search // 4 / (0.5 * search)))
    assert results[3] == 0.25
    assert method.target_at(0, 0, 0) == 0.25


def test_filters_start_open_by_default_and_at_random_as_in_the_paper() -> None:
    assert bool(sampler(prepared()[1]).binary().all())
    share = float(sampler(prepared(start=0, spread=1)[1]).binary().mean())
    assert 0.3 < share < 0.7


def test_mask_acts_on_the_norm_so_the_sliced_network_is_the_trained_one_where_biases_are_large() -> None:
    method, student = prepared("resnet20")
    with torch.no_grad():
        for name, parameter in student.named_parameters():
            if "bn" in name and "bias" in name:
                parameter.fill_(3.0)
    method.begin_epoch(student, 7, 8)
    student.eval()
    compact = method.finish(student)
    assert sum(p.numel() for p in compact.parameters()) == method.final_plan(student).narrow.params
    assert compare(student, compact, (torch.randn(4, 3, 16, 16),)).passed


def test_kept_streams_stay_whole_and_tied_ones_do_not() -> None:
    for residual, whole in (("keep", True), ("tied", False)):
        method, student = prepared("resnet20", residual=residual)
        method.begin_epoch(student, 7, 8)
        kept, width = method.final_plan(student).widths["conv1"]
        assert (kept == width) == whole


def test_training_without_weights_trains_the_teacher_first_and_says_so(run: Run, tmp_path: Path) -> None:
    messages: list[str] = []
    result = run("kdfs", 5, said=messages, align="none")
    assert "trains the dense network first, 2 of 5 epochs" in messages[0]
    assert (result.dense_epochs, result.epochs) == (2, 3)
    assert result.compact.macs == pytest.approx(0.5 * result.dense.macs, rel=0.01)
    assert result.verify["compact_vs_trained"]["passed"]
    rows = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [row["kdfs_fixed"] for row in rows] == [0.0, 1.0, 1.0]


def test_teacher_may_be_a_run_or_a_file_and_must_fit(run: Run, tmp_path: Path) -> None:
    run("dense", 1, name="dense", target=None)
    run("dense", 1, name="other", target=None, model="resnet20")
    run("scratch", 1, name="narrow")
    weights = tmp_path / "dense" / "compact" / "weights.safetensors"
    by_run = run("kdfs", 2, name="a", teacher=str(tmp_path / "dense"), align="none")
    by_file = run("kdfs", 2, name="b", teacher=str(weights), align="none")
    assert by_run.dense_epochs == 0
    assert by_run.top1 == by_file.top1
    for teacher, code in (("other", "teacher-architecture"), ("narrow", "teacher-narrow")):
        with pytest.raises(CompressError) as error:
            run("kdfs", 2, name="c", teacher=str(tmp_path / teacher))
        assert error.value.code == code
    state = dict(models.build("vgg_small", 7, (3, 8, 8)).state_dict())
    torch.save(state, tmp_path / "seven.pt")
    with pytest.raises(CompressError) as error:
        run("kdfs", 2, name="d", teacher=str(tmp_path / "seven.pt"))
    assert error.value.code == "teacher-classes"


def test_method_without_a_teacher_refuses_one(run: Run) -> None:
    with pytest.raises(CompressError, match="has no teacher"):
        run("abp", 2, teacher="x")


def test_target_below_what_may_not_be_cut_names_the_least_before_anything_is_trained(
    run: Run, tmp_path: Path
) -> None:
    with pytest.raises(CompressError) as error:
        run("kdfs", 3, model="resnet20", target="macs=0.03", options={"residual": "keep"})
    assert error.value.code == "target-unreachable"
    assert 0.03 < error.value.details["least"] < 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["resnet20", "torchvision/resnet18", "mobilenetv2"])
def test_scattered_branches_are_exact_and_cost_what_they_should(name: str) -> None:
    method, student = prepared(name, residual="scatter")
    method.begin_epoch(student, 7, 8)
    student.eval()
    plan, compact = method.final_plan(student), method.finish(student)
    assert plan.scattered
    assert sum(p.numel() for p in compact.parameters()) == plan.narrow.params
    x = torch.randn(4, 3, 16, 16)
    assert compare(student, compact, (x,)).passed
    assert verify(method.setup.model, plan, slice_model(method.setup.model, plan), x).passed
    again = apply_plan(models.build(name, input_size=(3, 16, 16)), SlicePlan.from_json(plan.to_json()))
    again.load_state_dict(compact.state_dict())
    assert compare(compact, again, (x,), 0.0).passed
    assert method.setup.budget * 0.99 <= plan.narrow.macs <= method.setup.budget * 1.01
    real = dense_costs(trace(compact, x[:2]))
    assert real == plan.narrow


def test_scattered_streams_are_whole_and_their_branches_are_not() -> None:
    method, student = prepared("resnet20", residual="scatter")
    method.begin_epoch(student, 7, 8)
    plan = method.final_plan(student)
    assert plan.widths["conv1"] == (16, 16)
    assert plan.widths["layer2.1.conv2"][0] < plan.widths["layer2.1.conv2"][1]


def test_scattered_network_trains_exports_and_computes_the_same_in_onnx(run: Run, tmp_path: Path) -> None:
    from compress.export import export

    options = {"residual": "scatter"}
    result = run("kdfs", 5, model="resnet20", target="macs=0.5", align="none", options=options)
    assert result.verify["compact_vs_trained"]["passed"]
    written = export(tmp_path / "run", opset=18, samples=32)
    assert written.record.parity.agreement == 1.0
    import onnx

    operators = {node.op_type for node in onnx.load(written.path).graph.node}
    assert "Gather" in operators
    assert not {"ScatterND", "ScatterElements", "Loop"} & operators
