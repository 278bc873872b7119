"""Base of the methods with learned gates.

A search learns the gates under a falling budget; then the mask that meets the budget is fixed and the network
is trained further; at the end the closed channels are sliced away.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor, nn

from compress.core.errors import CompressError
from compress.cost.relaxed import RelaxedCost
from compress.graph import ChannelGraph, SlicePlan
from compress.graph.placement import Placement
from compress.methods.base import Method, MethodConfig, Setup
from compress.methods.gated.gates import Gates, add_gates, gates_of, plain_state
from compress.methods.gated.space import Space, scattered_space, whole_space
from compress.planning.fit_mask import Budget, fit_mask_to_budget
from compress.planning.selection import TOLERANCE
from compress.slicing import slice_model


class GatedConfig(MethodConfig):
    """Settings of every method with learned gates.

    Attributes:
        fixed_share: share of the epochs, at the end, in which the masks are fixed.
        ramp: share of the search in which the budget falls from the dense cost to its final value,
            geometrically, so that the gates do not close further than the budget needs.
        residual: ``keep``: residual streams are not cut; ``tied``: one mask for all layers of a residual
            stream; ``scatter``: streams are not cut, the last layer of each branch is, and its compact output
            is scattered into the stream.
    """

    fixed_share: float = Field(0.1, gt=0, lt=1)
    ramp: float = Field(0.6, ge=0, le=1)
    residual: Literal["keep", "tied", "scatter"] = "keep"
    supports_scatter: ClassVar[bool] = True


class GatedMethod(Method):
    """A method that learns gates in a search phase and then trains with fixed masks.

    Args:
        config: settings of the method.
        setup: the dense network and how it is trained; a copy of the network gets the gates.
        gates: makes the gates that are learned.
        two_places: put masks in front of the norms as well (see `Gates.acts`).
    """

    learns_plan: ClassVar[bool] = True
    free_pads: ClassVar[bool] = False
    config: GatedConfig

    def __init__(
        self, config: GatedConfig, setup: Setup, gates: Callable[[Space], Gates], two_places: bool = False
    ) -> None:
        graph, place = setup.graph, Placement(setup.graph)
        self.dense_cost = setup.dense_cost
        self._space = search_space(config, graph, place)
        self._relaxed = RelaxedCost(self._space.cost)
        self._last: Tensor | None = None
        self._metrics: dict[str, float] = {}
        self._searching = True
        self._epoch = self._step = 0
        own = gates(self._space)
        student = copy.deepcopy(setup.model)
        before = place.before if two_places else ()
        add_gates(student, graph, own, place.after, before, root=self._space.channels.of_label)
        super().__init__(config, setup, student)
        own.budget_share.fill_(self.target_at(0, 0, config.ramp))

    def scores(self, gates: Gates) -> Tensor:
        """Return the importance of each unit `[units]`; the lowest close first."""
        raise NotImplementedError

    @classmethod
    def check(cls, config: MethodConfig, setup: Setup) -> None:
        """Make sure that there are epochs to search in and that the target can be reached.

        Raises:
            CompressError: ``too-few-epochs``; ``target-unreachable`` with the smallest target.
        """
        if setup.config.epochs < 2:
            raise CompressError(
                f"{cls.name} needs at least 2 epochs, one to search and one with fixed masks, "
                f"not {setup.config.epochs}",
                hint="give --epochs 2 or more",
                code="too-few-epochs",
            )
        space, dense = search_space(config, setup.graph, Placement(setup.graph)), setup.dense_cost
        least = float(getattr(space.cost, setup.cost)(space.least))
        if setup.budget < least * (1 - TOLERANCE):
            streams = "; --residual tied cuts the residual streams too" * (config.residual != "tied")
            raise CompressError(
                f"{setup.cost}={setup.budget:,.0f} cannot be reached by {cls.name}: channels "
                f"that it cannot cut cost {least:,.0f} of {dense:,.0f}",
                hint=f"the smallest target is {setup.cost}={least / dense:.4f}{streams}",
                code="target-unreachable",
                details={"least": least / dense},
            )

    def _cost(self, gates: Gates, open_units: NDArray[np.bool_]) -> float:
        with torch.no_grad():
            keep = gates.keep(torch.from_numpy(open_units).to(gates.frozen.device).float())
            return float(self._relaxed.of(self.setup.cost, keep.cpu().double()))

    def cost_share(self, gates: Gates, of_units: Tensor) -> Tensor:
        """Return the limited cost of relaxed gates `[units]`, as a share of the dense network's."""
        return self._relaxed.of(self.setup.cost, gates.keep(of_units)) / self.dense_cost

    @property
    def target(self) -> float:
        """The limit as a share of the dense network's cost."""
        return self.setup.budget / self.dense_cost

    def target_at(self, epoch: int, step: int, ramp: float) -> float:
        """Return the limit at a step: it falls geometrically from 1 to `target` in the first `ramp`."""
        done = (epoch + step / self.setup.steps_per_epoch) / self.fixed_from(self.setup.config.epochs)
        return float(self.target ** min(1.0, done / ramp)) if ramp else self.target

    def fixed_from(self, epochs: int) -> int:
        """Return the first epoch with fixed masks."""
        return epochs - min(epochs - 1, max(1, round(self.config.fixed_share * epochs)))

    def phases(self, epochs: int) -> tuple[int, ...]:
        """Return the first epochs of the search and of the phase with fixed masks."""
        return (0, self.fixed_from(epochs))

    def begin_epoch(self, model: nn.Module, epoch: int, epochs: int) -> None:
        """Fix the masks in the first epoch after the search."""
        gates = gates_of(model)
        if self._last is None:
            self._last = gates.binary().detach().cpu()
        if epoch >= self.fixed_from(epochs) and not gates.is_frozen:
            mask = self._mask_within_budget(gates)
            gates.freeze(mask)
            self._plan(mask, gates)  # an impossible cut must raise here, not after the training
        self._relaxed.place(gates.frozen)
        self._searching = epoch < self.fixed_from(epochs)
        self._epoch, self._step = epoch, 0

    def begin_step(self, model: nn.Module) -> None:
        """Update the gates, and the budget of this step."""
        gates = gates_of(model)
        gates.step()
        if self._searching:
            gates.budget_share.fill_(self.target_at(self._epoch, self._step, self.config.ramp))
            self._step += 1

    def _mask_within_budget(self, gates: Gates) -> NDArray[np.bool_]:
        budget = Budget(self.setup.cost, self.setup.budget, lambda mask: self._cost(gates, mask))
        scores = self.scores(gates).detach().double().cpu().numpy()
        learned = gates.binary().detach().cpu().numpy() > 0
        return fit_mask_to_budget(budget, self._space.layers, scores, learned, self.setup.align)

    def end_epoch(self, model: nn.Module, epoch: int, epochs: int) -> None:
        """Count the gates that closed and reopened since the last epoch."""
        gates = gates_of(model)
        now = (gates.fixed if gates.is_frozen else gates.binary()).detach().cpu()
        before = self._last if self._last is not None else now
        self._metrics = {
            f"{self.name}_closed": float(((before > 0) & (now == 0)).sum()),
            f"{self.name}_reopened": float(((before == 0) & (now > 0)).sum()),
            f"{self.name}_open": float((now > 0).sum()),
            f"{self.name}_{self.setup.cost}": self._cost(gates, now.numpy() > 0) / self.dense_cost,
        }
        self._last = now

    def metrics(self) -> dict[str, float]:
        """Return closed, reopened and open gates of the epoch, and the share of the dense cost."""
        return dict(self._metrics)

    def state_dict(self) -> dict[str, Any]:
        """Return the mask of the last epoch, with which the next one is compared."""
        return {"last": self._last}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the mask of the last epoch."""
        self._last = state["last"]

    def _plan(self, mask: NDArray[np.bool_], gates: Gates) -> SlicePlan:
        keep = gates.keep(torch.from_numpy(mask).to(gates.frozen.device).float()).cpu().numpy() > 0
        return self._space.plan(keep)

    def final_plan(self, model: nn.Module) -> SlicePlan:
        """Return what the fixed gates keep."""
        gates = gates_of(model)
        return self._plan(gates.fixed.cpu().numpy() > 0, gates)

    def finish(self, model: nn.Module) -> nn.Module:
        """Return the dense network with the trained weights, sliced; an open gate is exactly 1."""
        dense = copy.deepcopy(self.setup.model).cpu()
        dense.load_state_dict(plain_state(model))
        return slice_model(dense.train(model.training), self.final_plan(model))


def search_space(config: MethodConfig, graph: ChannelGraph, place: Placement) -> Space:
    """Return the units to choose from.

    All groups except those that a gate could not set to zero and, unless tied, residual streams.
    """
    if config.residual == "scatter":
        return scattered_space(graph, place)
    return whole_space(graph, place.never | place.residual if config.residual == "keep" else place.never)
