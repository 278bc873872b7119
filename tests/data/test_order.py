"""Order of the images and their distribution over processes."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from compress.core.errors import CompressError
from compress.data import order

sizes = st.integers(1, 200)
worlds = st.integers(1, 5)
batch_sizes = st.integers(1, 64)


@given(sizes, worlds, batch_sizes)
def test_test_shards_contain_every_image_once_in_order(size: int, world: int, batch_size: int) -> None:
    seen = [
        part
        for rank in range(world)
        for part in order.test_batches(size, batch_size=batch_size, rank=rank, world=world)
    ]
    assert torch.cat(seen).tolist() == list(range(size))
    assert max(map(len, seen)) <= batch_size


@given(sizes, worlds, batch_sizes, st.integers(0, 3))
def test_train_shards_are_disjoint_full_and_equally_many(
    size: int, world: int, batch_size: int, epoch: int
) -> None:
    if size < world:
        return
    shards = [
        order.train_batches(size, batch_size=batch_size, seed=1, epoch=epoch, rank=rank, world=world)
        for rank in range(world)
    ]
    assert len({len(shard) for shard in shards}) == 1
    assert len({len(part) for shard in shards for part in shard}) == 1
    seen = torch.cat([part for shard in shards for part in shard]).tolist()
    assert len(set(seen)) == len(seen)
    left_over = size - len(seen)
    assert left_over < world * batch_size


def test_the_global_batch_does_not_depend_on_the_number_of_processes() -> None:
    alone = order.train_batches(100, batch_size=20, seed=0, epoch=0, rank=0, world=1)
    halves = [order.train_batches(100, batch_size=10, seed=0, epoch=0, rank=r, world=2) for r in (0, 1)]
    for whole, a, b in zip(alone, *halves, strict=True):
        assert sorted(whole.tolist()) == sorted(a.tolist() + b.tolist())


def test_a_set_smaller_than_a_batch_gives_one_smaller_batch() -> None:
    (only,) = order.train_batches(7, batch_size=100, seed=0, epoch=0, rank=0, world=1)
    assert sorted(only.tolist()) == list(range(7))


def test_fewer_images_than_processes_is_refused() -> None:
    with pytest.raises(CompressError, match="2 training images cannot be divided among 3"):
        order.train_batches(2, batch_size=1, seed=0, epoch=0, rank=0, world=3)


@pytest.mark.parametrize(("rank", "world", "batch_size"), [(2, 2, 1), (-1, 2, 1), (0, 1, 0)])
def test_an_invalid_rank_or_batch_size_is_refused(rank: int, world: int, batch_size: int) -> None:
    with pytest.raises(CompressError):
        order.test_batches(10, batch_size=batch_size, rank=rank, world=world)


def test_a_seed_is_the_same_in_another_process() -> None:
    code = "from compress.data.order import stable_seed; print(stable_seed('order', 3, 7))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert int(out) == order.stable_seed("order", 3, 7)


def test_drawn_indices_are_different_and_at_most_all() -> None:
    drawn = order.draw(10, 25, seed=0).tolist()
    assert sorted(drawn) == list(range(10))
