"""Order of the images and their distribution over processes, as functions of seeds and sizes."""

from __future__ import annotations

import hashlib

import torch
from torch import Tensor

from compress.core.errors import CompressError


def stable_seed(*parts: int | str) -> int:
    """Hash `parts` to a seed in `[0, 2**63)`, the same on every machine and in every process."""
    digest = hashlib.sha256(repr(parts).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def generator(*parts: int | str) -> torch.Generator:
    """Return a new CPU generator seeded with `stable_seed`."""
    return torch.Generator().manual_seed(stable_seed(*parts))


def train_batches(
    size: int, *, batch_size: int, seed: int, epoch: int, rank: int, world: int
) -> list[Tensor]:
    """Return the training batches of one process in one epoch, as image indices.

    The permutation depends on (seed, epoch) only; process r takes every `world`-th index of it, starting with
    the r-th. The k-th batches of all processes together are therefore the same images for every `world`, as
    long as `world` times `batch_size` is the same.

    Raises:
        CompressError: fewer images than processes, or an invalid rank or batch size.
    """
    _check(batch_size, rank, world)
    own = size // world
    if own == 0:
        raise CompressError(
            f"{size} training images cannot be divided among {world} processes", hint="use fewer processes"
        )
    batch_size = min(batch_size, own)
    order = torch.randperm(size, generator=generator("order", seed, epoch))
    mine = order[rank::world][: own - own % batch_size]
    return list(torch.split(mine, batch_size))


def test_batches(size: int, *, batch_size: int, rank: int, world: int) -> list[Tensor]:
    """Return the test batches of one process, as ascending image indices.

    Raises:
        CompressError: an invalid rank or batch size.
    """
    _check(batch_size, rank, world)
    start, stop = rank * size // world, (rank + 1) * size // world
    return list(torch.split(torch.arange(start, stop), batch_size)) if stop > start else []


def draw(size: int, n: int, seed: int) -> Tensor:
    """Return `min(n, size)` different image indices in `[0, size)`, determined by `seed`."""
    return torch.randperm(size, generator=generator("draw", seed))[: max(n, 0)]


def _check(batch_size: int, rank: int, world: int) -> None:
    if batch_size < 1:
        raise CompressError(f"the batch size must be at least 1, not {batch_size}", hint="give at least 1")
    if not 0 <= rank < world:
        raise CompressError(f"the rank must be from 0 to {world - 1}, not {rank}")
