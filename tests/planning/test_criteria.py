"""Criteria: one object each, by name or as an object, also from another package."""

from __future__ import annotations

import doctest
import importlib
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from plugins import make_plugin

import compress
from compress.core.errors import CompressError
from compress.graph import ChannelGraph
from compress.planning.criteria import CRITERIA, Scores


def graph() -> ChannelGraph:
    return compress.trace(compress.build("vgg_small", 10, (3, 32, 32)), torch.zeros(2, 3, 32, 32))


@pytest.mark.parametrize("module", ["l1", "l2", "bn_scale", "random", "window"])
def test_example_of_every_criterion_runs(module: str) -> None:
    result = doctest.testmod(importlib.import_module(f"compress.planning.criteria.{module}"))
    assert result.attempted >= 3
    assert result.failed == 0


def test_every_criterion_scores_every_channel() -> None:
    traced = graph()
    for name in compress.list_criteria():
        scores = CRITERIA[name].score(traced, seed=0)
        assert scores.shape == (traced.channels.count,)
        assert np.isfinite(scores).all()


class LastChannels:
    """Keeps the last channels of every group."""

    for_free_pads = False

    def score(self, graph: ChannelGraph, seed: int) -> Scores:
        return np.arange(graph.channels.count, dtype=np.float64)


def test_object_of_the_users_own_is_a_criterion() -> None:
    plan = compress.make_plan(graph(), keep={"features.conv1": 0.5}, criterion=LastChannels())
    assert plan.kept["features.conv1.weight"][0] == list(range(16, 32))


def test_unknown_criterion_is_an_error_with_the_nearest_name() -> None:
    with pytest.raises(CompressError, match="l1") as caught:
        compress.make_plan(graph(), keep=0.5, criterion="l11")
    assert caught.value.code == "unknown-criterion"


SOURCE = """
import numpy as np

class Last:
    for_free_pads = False

    def score(self, graph, seed):
        return np.arange(graph.channels.count, dtype=np.float64)
"""


def test_criterion_of_another_package_is_used_by_name_on_the_command_line(tmp_path: Path) -> None:
    plugin = make_plugin(
        tmp_path, "acme_rank", {"rank.py": SOURCE}, {"criteria": {"last": "acme_rank.rank:Last"}}
    )
    out = tmp_path / "run"
    done = plugin.run(
        "slice", "--model", "vgg_small", "--data", "digits", "--target", "macs=0.5", "--criterion", "last",
        "--align", "none", "--out", out, "--json",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    kept = json.loads((out / "compact" / "plan.json").read_text())["kept"]
    rows = kept["features.conv1.weight"]["0"]
    assert rows == list(range(32 - len(rows), 32))
