"""Tracing: in-place writes to views, and networks that cannot be exported."""

from __future__ import annotations

import pytest
import torch
from exactness import assert_exact, traced
from families import Net
from torch import Tensor

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
