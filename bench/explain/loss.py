"""Time lost per row, relative to a network whose time fell as much as its MACs.

With times t (dense) and t' (compact), MACs m and m', and R the network's MAC reduction, the gap is
``sum(t') - sum(t) / R``. The loss of a row is ``t' - t / R``, so that the losses of all rows add up to the
gap exactly. For a layer it is the sum of two terms: its own loss ``t' - t m' / m``, measured against its own
MAC reduction, and the mix term ``t (m' / m - 1 / R)``, which is not zero where the layer was cut less or more
than the network.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class RowCost:
    """Times (in any unit) and MACs of a row in both networks; MACs are 0 if the row is not a layer."""

    dense: float
    compact: float
    dense_macs: int = 0
    compact_macs: int = 0

    @property
    def share(self) -> float | None:
        """Remaining share of the MACs; None if the row is not a layer."""
        return self.compact_macs / self.dense_macs if self.dense_macs else None


@dataclass(frozen=True)
class Loss:
    """Lost time of a row, in the unit of its times.

    Attributes:
        own: compact time minus the time that the row's own MAC reduction predicts; for a row that is not a
            layer, minus the time that the network's MAC reduction predicts.
        mix: loss because the row's MAC reduction differs from the network's; 0 unless a layer.
    """

    own: float
    mix: float

    @property
    def total(self) -> float:
        """Sum of both terms."""
        return self.own + self.mix


def row_loss(cost: RowCost, reduction: float) -> Loss:
    """Return the loss of a row in a network whose MACs were reduced by the factor `reduction`."""
    if cost.share is None:
        return Loss(cost.compact - cost.dense / reduction, 0.0)
    return Loss(cost.compact - cost.dense * cost.share, cost.dense * (cost.share - 1 / reduction))


def total_gap(costs: Sequence[RowCost], reduction: float) -> float:
    """Return the loss of all rows together: compact time minus dense time over the MAC reduction."""
    return sum(cost.compact for cost in costs) - sum(cost.dense for cost in costs) / reduction
