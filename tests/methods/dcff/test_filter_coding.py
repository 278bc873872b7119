"""Filter coding of DCFF against a literal form of the equations; precision, memory and slots."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from benchmarks.live_bytes import LiveBytes
from compress.core.errors import CompressError
from compress.methods.dcff.method import DCFF, code_filters, filter_distances, select_filters, temperature
from compress.pipeline import TrainRequest, resolve

TEMPERATURES = [1.0, 3.7, 100.0, 2500.0, 1e4]


def literal(filters: Tensor, t: float) -> tuple[Tensor, Tensor]:
    """Equations 3, 4 and 7 as they are written, pair by pair in float64."""
    w = filters.double()
    c = w.shape[0]
    p, log_p = torch.empty(2, c, c, dtype=torch.float64)
    for i in range(c):
        scores = torch.stack([-t * (w[i] - w[j]).square().sum().sqrt() for j in range(c)])
        log_p[i] = scores - torch.logsumexp(scores, 0)
        p[i] = log_p[i].exp()
    importance = torch.zeros(c, dtype=torch.float64)
    for i in range(c):
        for j in range(c):
            for n in range(c):
                importance[i] += p[i, n] * (log_p[i, n] - log_p[j, n])
    return p, importance


def random_filters(count: int, size: int, seed: int = 0, scale: float = 0.1) -> Tensor:
    return torch.randn(count, size, generator=torch.Generator().manual_seed(seed)) * scale


@pytest.mark.parametrize("t", TEMPERATURES)
def test_coding_is_the_papers_equations(t: float) -> None:
    filters = random_filters(9, 27)
    p, importance = code_filters(filters, t)
    expected_p, expected = literal(filters, t)
    # a float32 product rounds the distances in the sixth digit; t times that is an absolute error of log P
    error = t * 1e-5
    torch.testing.assert_close(p, expected_p, rtol=math.expm1(min(error, 1.0)) + 1e-6, atol=1e-12)
    torch.testing.assert_close(importance, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("t", TEMPERATURES)
def test_coding_of_double_precision_is_exact(t: float) -> None:
    filters = random_filters(9, 27)
    filters[4] = filters[2] + 1e-4 * random_filters(1, 27, 1)[0]  # near ones are computed in float64
    p, importance = code_filters(filters, t)
    expected_p, expected = literal(filters, t)
    torch.testing.assert_close(p, expected_p, rtol=1e-6, atol=1e-12)
    torch.testing.assert_close(importance, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("t", [1.0, 10.0, 1e2, 1e3, 1e4])
@pytest.mark.parametrize("scale", [1e-6, 0.05, 30.0])
@pytest.mark.parametrize("twins", [False, True])
def test_coding_is_finite_at_every_temperature(t: float, scale: float, twins: bool) -> None:
    filters = random_filters(32, 18, scale=scale)
    if twins:
        filters[7] = filters[3]
        filters[20:] = filters[0]
    p, importance = code_filters(filters, t)
    assert torch.isfinite(p).all() and torch.isfinite(importance).all()
    torch.testing.assert_close(p.sum(1), torch.ones(32, dtype=torch.float64))
    assert (importance >= -1e-9 * importance.abs().max()).all()


def test_filters_of_zeros_are_all_alike() -> None:
    p, importance = code_filters(torch.zeros(8, 9), 1e4)
    torch.testing.assert_close(p, torch.full((8, 8), 0.125, dtype=torch.float64))
    assert importance.abs().max() < 1e-9


def test_equal_filters_share_a_proxy_and_an_importance() -> None:
    filters = random_filters(16, 27)
    filters[5] = filters[11]
    p, importance = code_filters(filters, 1e4)
    torch.testing.assert_close(p[5], p[11], rtol=1e-3, atol=1e-3)
    assert p[5, 5] == pytest.approx(0.5, abs=1e-3) and p[5, 11] == pytest.approx(0.5, abs=1e-3)
    assert importance[5] == pytest.approx(importance[11].item(), rel=1e-3)


def test_every_filter_is_nearest_to_itself() -> None:
    p, _ = code_filters(random_filters(24, 27), 1.0)
    assert torch.equal(p.argmax(1), torch.arange(24))
    assert (filter_distances(random_filters(24, 27)).diagonal() == 0).all()


def test_proxies_are_one_hot_at_the_end() -> None:
    p, _ = code_filters(random_filters(24, 27), 1e4)
    torch.testing.assert_close(p, torch.eye(24, dtype=torch.float64))


@pytest.mark.parametrize("shape", [(64, 27), (128, 1152), (256, 64)])
def test_single_precision_distances_are_those_of_double(shape: tuple[int, int]) -> None:
    filters = random_filters(*shape)
    near = torch.cdist(filters.double(), filters.double(), compute_mode="donot_use_mm_for_euclid_dist")
    torch.testing.assert_close(filter_distances(filters), near, rtol=1e-6, atol=0)


@pytest.mark.parametrize("gap", [1e-1, 1e-2, 1e-3, 1e-5, 1e-6])
def test_distance_of_near_filters_keeps_its_digits(gap: float) -> None:
    filters = random_filters(32, 288)
    filters[1] = filters[0] + gap * random_filters(1, 288, 2)[0]
    exact = (filters[0].double() - filters[1].double()).norm()
    assert filter_distances(filters)[0, 1].item() == pytest.approx(exact.item(), rel=1e-3)


@pytest.mark.parametrize("twins", [False, True])
def test_coding_512_filters_makes_no_large_tensor(twins: bool) -> None:
    filters = random_filters(512, 4608)
    if twins:
        filters[1] = filters[0]
    with LiveBytes([filters]) as memory:
        code_filters(filters, 1e4)
    assert 512 * 512 * 8 <= memory.peak < 50e6
    assert memory.largest <= filters.numel() * 8 < 512**3


@given(
    filters=st.integers(2, 24),
    seed=st.integers(0, 2**20),
    share=st.floats(0.05, 1.0),
    epochs=st.integers(1, 4),
)
@settings(max_examples=150, deadline=None)
def test_slots_are_stable(filters: int, seed: int, share: float, epochs: int) -> None:
    random = torch.Generator().manual_seed(seed)
    kept = max(1, round(filters * share))
    slots = torch.randperm(filters, generator=random)[:kept]
    for _ in range(epochs):
        importance = torch.rand(filters, generator=random, dtype=torch.float64)
        now, new = select_filters(slots, importance, stable=True)
        best = set(torch.topk(importance, kept).indices.tolist())
        assert set(now.tolist()) == best and len(best) == kept
        for was, filled in zip(slots.tolist(), now.tolist(), strict=True):
            assert filled == was if was in best else filled not in slots.tolist()
        assert int(new) == len(best - set(slots.tolist()))
        slots = now


def test_newly_selected_filters_take_free_slots_by_rank() -> None:
    importance = torch.tensor([0.0, 9.0, 0.0, 7.0, 8.0, 1.0], dtype=torch.float64)
    slots, new = select_filters(torch.tensor([0, 3, 2]), importance, stable=True)
    assert slots.tolist() == [1, 3, 4] and int(new) == 2


def test_ranked_slots_follow_the_ranking() -> None:
    importance = torch.tensor([0.0, 9.0, 0.0, 7.0, 8.0, 1.0], dtype=torch.float64)
    slots, new = select_filters(torch.tensor([0, 3, 2]), importance, stable=False)
    assert slots.tolist() == [1, 4, 3] and int(new) == 2


@pytest.mark.parametrize("epochs", [1, 2, 10, 300, 100_000])
def test_temperature_runs_from_its_start_to_its_end(epochs: int) -> None:
    config = DCFF()
    values = [temperature(e, epochs, config) for e in range(min(epochs, 40) + 1)]
    assert values[0] == pytest.approx(1.0, rel=1e-9)
    assert temperature(epochs, epochs, config) == pytest.approx(1e4, rel=1e-9)
    assert all(b >= a for a, b in pairwise(values))


def test_temperature_is_the_papers_formula_between() -> None:
    a = 2 * (1e4 - 1) * (1 + math.exp(-10)) / (1 - math.exp(-10))
    expected = a / (1 + math.exp(-3)) + 1 - a / 2
    assert temperature(3, 10, DCFF()) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"t_start": 0}, ["'t_start'", "0"]),
        ({"t_start": 5, "t_end": 2}, ["t_end 2", "t_start 5"]),
        ({"slots": "loose"}, ["'slots'", "loose"]),
        ({"temperature": 3}, ["'temperature'", "t_start"]),
    ],
)
def test_wrong_option_is_named(options: dict[str, object], words: list[str]) -> None:
    with pytest.raises(CompressError) as error:
        resolve(TrainRequest(model="vgg16", data="digits", target="macs=0.5", options=options))
    assert error.value.code == "bad-setting" and all(word in str(error.value) for word in words)
