"""Exact slicing of torchvision and timm CNNs to half of their MACs.

Weights are random and inputs small. A sample runs by default, all networks with `--zoo`. Networks from which
half of the MACs cannot be removed exactly are listed in `HALF_OUT_OF_REACH`, with the reason.
"""

from __future__ import annotations

import pytest
import torch

import compress
from benchmarks.networks import HALF_OUT_OF_REACH, Network, build, images
from benchmarks.zoo_ours import missing_gradients, plan_half_macs, sensitivity, verify_slice
from compress.slicing import flatten

MIN_SENSITIVITY = 1e-3
"""Least relative change of the output when the removed channels are zeroed; below it, a wrong channel could
pass the comparison."""


@pytest.mark.timeout(300)
@pytest.mark.slow
def test_network_with_half_the_macs_equals_the_masked_network_and_has_all_gradients(network: Network) -> None:
    model, batch = build(network), images(network, 2)
    graph = compress.trace(model, batch)
    plan, reached = plan_half_macs(graph)
    compact = compress.slice_model(model, plan)

    report, double = verify_slice(model, plan, compact, batch)
    assert (double or report).passed, f"off by {(double or report).max_rel:.1e}"
    assert reached is (network.name not in HALF_OUT_OF_REACH), f"{plan.narrow.macs} of {plan.dense.macs} MACs"
    if plan.kept:
        assert sensitivity(model, plan, batch) > MIN_SENSITIVITY
    with torch.no_grad():
        outputs = flatten(compact(images(network, 3)))
    assert outputs[0].shape == (3, 1000)
    assert missing_gradients(model, compact, images(network, 4)) == []
