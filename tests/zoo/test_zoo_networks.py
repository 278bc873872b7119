"""CNNs of torchvision and timm, cut to half of their MACs.

Random weights, small inputs. A sample runs by default and all of them with `--zoo`. The networks that cannot
give half of their MACs exactly stand in `HALF_OUT_OF_REACH`, with the reason.
"""

from __future__ import annotations

import pytest
import torch

import compress
from benchmarks.networks import HALF_OUT_OF_REACH, Network, build, images
from benchmarks.zoo_ours import exactness, halved, missing_gradients, sensitivity
from compress.slicing import flatten

VISIBLE = 1e-3
"""A cut changes the output by at least this share, or the comparison could not see a wrong channel."""


@pytest.mark.timeout(300)
def test_network_with_half_its_macs_equals_the_masked_one_and_trains(network: Network) -> None:
    model, batch = build(network), images(network, 2)
    graph = compress.trace(model, batch)
    plan, reached = halved(graph)
    narrow = compress.slice_model(model, plan)

    report, double = exactness(model, plan, narrow, batch)
    assert (double or report).passed, f"off by {(double or report).max_rel:.1e}"
    assert reached is (network.name not in HALF_OUT_OF_REACH), f"{plan.narrow.macs} of {plan.dense.macs} MACs"
    if plan.kept:
        assert sensitivity(model, plan, batch) > VISIBLE
    with torch.no_grad():
        outputs = flatten(narrow(images(network, 3)))
    assert outputs[0].shape == (3, 1000)
    assert missing_gradients(model, narrow, images(network, 4)) == []
