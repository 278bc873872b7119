"""Which image comes when, and which process has it: pure functions of seeds and sizes."""

from __future__ import annotations

import hashlib

import torch
from torch import Tensor

from compress.core.errors import CompressError


def stable_seed(*parts: int | str) -> int:
    """Hash `parts` to a seed in `[0, 2**63)` that is the same on every machine and in every process."""
    digest = hashlib.sha256(repr(parts).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def generator(*parts: int | str) -> torch.Generator:
    """Return a CPU generator of its own, seeded by `stable_seed`."""
    return torch.Generator().manual_seed(stable_seed(*parts))


def train_batches(
    size: int, *, batch_size: int, seed: int, epoch: int, rank: int, world: int
) -> list[Tensor]:
    """Return one process's batches of an epoch, as image numbers.

    The epoch's permutation depends on (seed, epoch) alone; process r takes every `world`-th of it from r on,
    so that the k-th batches of all processes together are the same images whatever `world` is, if `world`
    times `batch_size` is.

    Raises:
        CompressError: fewer images than processes, or an impossible rank or batch size.
    """
    _check(batch_size, rank, world)
    own = size // world
    if own == 0:
        raise CompressError(
            f"{size} training images cannot be shared by {world} processes", hint="use fewer processes"
        )
    batch_size = min(batch_size, own)
    order = torch.randperm(size, generator=generator("order", seed, epoch))
    mine = order[rank::world][: own - own % batch_size]
    return list(torch.split(mine, batch_size))


def test_batches(size: int, *, batch_size: int, rank: int, world: int) -> list[Tensor]:
    """Return one process's batches of the test set, as image numbers in ascending order.

    Raises:
        CompressError: an impossible rank or batch size.
    """
    _check(batch_size, rank, world)
    start, stop = rank * size // world, (rank + 1) * size // world
    return list(torch.split(torch.arange(start, stop), batch_size)) if stop > start else []


def draw(size: int, n: int, seed: int) -> Tensor:
    """Return `min(n, size)` different image numbers in `[0, size)`, drawn by `seed`."""
    return torch.randperm(size, generator=generator("draw", seed))[: max(n, 0)]


def _check(batch_size: int, rank: int, world: int) -> None:
    if batch_size < 1:
        raise CompressError(f"the batch size is {batch_size}", hint="give at least 1")
    if not 0 <= rank < world:
        raise CompressError(f"rank {rank} is not one of {world} processes")
