"""The account: what every row lost against a network whose time fell as its MACs did.

With times t (dense) and t' (compact), MACs m and m', and R the network's MAC reduction, the gap is
``sum(t') - sum(t) / R``. A row's loss is ``t' - t / R``, so that the losses add up to the gap exactly. For a
layer it is the sum of what it did not gain by its own MACs, ``t' - t m' / m``, and of what comes from its
MACs having fallen otherwise than the network's, ``t (m' / m - 1 / R)``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Item:
    """A row's times (in any unit) and MACs on both sides; MACs of 0 for what is no layer."""

    dense: float
    compact: float
    dense_macs: int = 0
    compact_macs: int = 0

    @property
    def share(self) -> float | None:
        """MACs that are left, as a share; None for what is no layer."""
        return self.compact_macs / self.dense_macs if self.dense_macs else None


@dataclass(frozen=True)
class Loss:
    """What a row lost, in the unit of its times.

    Attributes:
        own: its time less what its own MACs promise; of other work, less what the network's promise.
        mix: what comes from its MACs having fallen otherwise than the network's; 0 for other work.
    """

    own: float
    mix: float

    @property
    def total(self) -> float:
        """Both."""
        return self.own + self.mix


def loss(item: Item, reduction: float) -> Loss:
    """Return the loss of a row in a network whose MACs fell by the factor `reduction`."""
    if item.share is None:
        return Loss(item.compact - item.dense / reduction, 0.0)
    return Loss(item.compact - item.dense * item.share, item.dense * (item.share - 1 / reduction))


def gap(items: Sequence[Item], reduction: float) -> float:
    """Return what all rows lost together: the compact time less the dense one over the reduction."""
    return sum(item.compact for item in items) - sum(item.dense for item in items) / reduction
