"""Costs as functions that torch can differentiate, of masks anywhere between 0 and 1.

Built from the terms of `CostModel`, so any network and every coupling that the graph knows is covered; at
masks of zeros and ones the two agree to the digit (in float64).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from compress.cost.macs import CostModel, _Side


class _Products:
    """A sum of products of widths, each width linear in what is kept.

    Args:
        rows: for each summand its factor and the sides whose widths are multiplied.
    """

    def __init__(self, rows: Sequence[tuple[float, Sequence[_Side]]]) -> None:
        sides = [side for _, factors in rows for side in factors]
        widest = max((len(factors) for _, factors in rows), default=0)
        index = torch.full((len(rows), widest), len(sides), dtype=torch.int64)
        at = 0
        for row, (_, factors) in enumerate(rows):
            index[row, : len(factors)] = torch.arange(at, at + len(factors))
            at += len(factors)
        self._exact: dict[str, Tensor] = {
            "index": index,
            "factor": torch.tensor([factor for factor, _ in rows], dtype=torch.float64),
            "fixed": torch.tensor([side.fixed for side in sides] + [1.0], dtype=torch.float64),
            "side": torch.cat(
                [torch.full((side.channels.size,), i, dtype=torch.int64) for i, side in enumerate(sides)]
                or [torch.empty(0, dtype=torch.int64)]
            ),
            "class": torch.cat(
                [torch.from_numpy(side.channels) for side in sides] or [torch.empty(0, dtype=torch.int64)]
            ),
            "count": torch.cat(
                [torch.from_numpy(side.counts) for side in sides] or [torch.empty(0, dtype=torch.float64)]
            ),
        }
        self._placed = self._exact

    def __call__(self, keep: Tensor) -> Tensor:
        """The sum for `keep` `[channels]`, in its precision."""
        t = self._on(keep)
        widths = t["fixed"].index_add(0, t["side"], t["count"] * keep[t["class"]])
        total: Tensor = (t["factor"] * widths[t["index"]].prod(1)).sum()
        return total

    def place(self, like: Tensor) -> None:
        """Have the constants where `like` is and in its precision, so that no sum has to move them."""
        self._placed = {
            name: tensor.to(like.device, like.dtype if tensor.is_floating_point() else None)
            for name, tensor in self._exact.items()
        }

    def _on(self, keep: Tensor) -> dict[str, Tensor]:
        """The constants where `keep` is, in its precision; moved once."""
        for known in (self._placed, self._exact):
            if known["factor"].device == keep.device and known["factor"].dtype == keep.dtype:
                return known
        self.place(keep)
        return self._placed


class RelaxedCost:
    """MACs and parameters of a network for a mask `[channels]` with entries in [0, 1].

    Args:
        cost: the integer model.
    """

    def __init__(self, cost: CostModel) -> None:
        macs: list[tuple[float, Sequence[_Side]]] = [
            (float(factor), [outputs]) if groups == 0 else (factor / groups, [inputs, outputs])
            for factor, groups, inputs, outputs in cost._terms
        ]
        self._macs = _Products(macs)
        self._params = _Products(cost._parameters)

    def place(self, like: Tensor) -> None:
        """Copy the constants to the device and precision of `like`; the exact ones stay on the CPU."""
        self._macs.place(like)
        self._params.place(like)

    def macs(self, keep: Tensor) -> Tensor:
        """MACs of one image, a scalar that can be differentiated in `keep` `[channels]`."""
        return self._macs(keep)

    def params(self, keep: Tensor) -> Tensor:
        """Number of parameters, likewise."""
        return self._params(keep)

    def of(self, kind: str, keep: Tensor) -> Tensor:
        """`macs` or `params`, by name."""
        return self.macs(keep) if kind == "macs" else self.params(keep)
