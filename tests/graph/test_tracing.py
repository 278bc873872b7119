"""Tracing: in-place writes to views, and networks that cannot be exported."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from exactness import assert_exact, traced
from families import Net
from torch import Tensor, nn

from compress.core.errors import CompressError, Exit
from compress.graph import trace
from compress.planning import make_plan


def test_in_place_write_to_the_base_of_a_view_protects_the_layer() -> None:
    class Net2(Net):
        def forward(self, x: Tensor) -> Tensor:
            x = self.a(x)
            seen = x[:, :, :4]
            x.add_(1.0)
            return self.classify(self.b(seen))

    model, images = Net2(), torch.randn(2, 3, 8, 8)
    graph = traced(model, images)
    assert "a.0" in {p.name for p in graph.protected}
    assert_exact(model, make_plan(graph, keep=0.5), images)


def test_error_for_an_untraceable_network_names_its_class() -> None:
    class Depends(Net):
        def forward(self, x: Tensor) -> Tensor:
            return self.classify(self.a(x)) if x.sum() > 0 else self.head(x[:, 0, 0])

    with pytest.raises(CompressError, match="Depends") as caught:
        trace(Depends(), torch.randn(2, 3, 8, 8))
    assert caught.value.exit is Exit.BUILD


@pytest.mark.parametrize(
    ("model", "inputs"),
    [
        ("vgg_small", torch.zeros(2, 3, 8, 8)),
        (nn.ReLU, torch.zeros(2, 4)),
        (nn.ReLU(), None),
        (nn.ReLU(), "x"),
    ],
)
def test_argument_of_a_wrong_type_is_refused(model: object, inputs: object) -> None:
    with pytest.raises(CompressError) as caught:
        trace(model, inputs)  # type: ignore[arg-type]
    assert caught.value.code == "untraceable"


def test_trial_cut_that_failed_is_made_again(monkeypatch: pytest.MonkeyPatch) -> None:
    graph = trace(nn.Sequential(nn.Conv2d(3, 8, 3), nn.Conv2d(8, 4, 3)), torch.randn(2, 3, 8, 8))
    calls = []

    def interrupted(_graph: object) -> None:
        calls.append(1)
        raise KeyboardInterrupt

    monkeypatch.setattr("compress.graph.channel_graph.protect_infeasible", interrupted)
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            _ = graph.groups
    assert len(calls) == 2


def test_threads_wait_for_the_trial_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    graph = trace(nn.Sequential(nn.Conv2d(3, 8, 3), nn.Conv2d(8, 4, 3)), torch.randn(2, 3, 8, 8))
    started, finished = threading.Event(), threading.Event()

    def slow(_graph: object) -> None:
        started.set()
        time.sleep(0.2)
        finished.set()

    monkeypatch.setattr("compress.graph.channel_graph.protect_infeasible", slow)
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(lambda: graph.groups)
        started.wait(10)
        second = pool.submit(lambda: (graph.groups, finished.is_set()))
        assert second.result(10) == (first.result(10), True)
