"""What the methods with learned gates share: a search, fixed masks that meet the budget, the slice."""

from __future__ import annotations

import copy
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
from compress.methods.base import Method, MethodConfig, Prepared
from compress.methods.gated.budget import Budget, settle
from compress.methods.gated.gates import Gates, gate, gates_of, plain_state
from compress.methods.gated.space import Space, scattered_space, whole_space
from compress.planning.choose import TOLERANCE
from compress.slicing import slice_model


class GatedConfig(MethodConfig):
    """Settings of every method with learned gates.

    Attributes:
        fixed_share: share of the epochs, at the end, in which the masks are final.
        ramp: share of the search in which the budget's target falls from the dense cost to its final value,
            geometrically, so that the closings do not overshoot it.
        residual: ``keep``: streams are not cut; ``tied``: one mask for all layers of a residual stream;
            ``scatter``: streams are not cut, the last layer of each branch is, and its narrow output is
            scattered into the stream.
    """

    fixed_share: float = Field(0.1, gt=0, lt=1)
    ramp: float = Field(0.6, ge=0, le=1)
    residual: Literal["keep", "tied", "scatter"] = "keep"
    scatters: ClassVar[bool] = True


class GatedMethod(Method):
    """A method that learns gates in a first phase and trains on with fixed ones in a second.

    Attributes:
        dense_cost: the dense network's MACs or parameters, whichever is limited.
    """

    dense_cost: float

    chooses: ClassVar[bool] = True
    free_pads: ClassVar[bool] = False
    config: GatedConfig

    def __init__(self, config: GatedConfig) -> None:
        super().__init__(config)
        self._last: Tensor | None = None
        self._metrics: dict[str, float] = {}
        self._searching = True
        self._epoch = self._step = 0

    def make_gates(self, space: Space) -> Gates:
        """The gates this method learns."""
        raise NotImplementedError

    def scores(self, gates: Gates) -> Tensor:
        """How much each unit is wanted `[units]`; the lowest close first."""
        raise NotImplementedError

    def space(self, graph: ChannelGraph, place: Placement) -> Space:
        """What is chosen from: all groups but what a gate could not make zero and, unless tied, streams."""
        if self.config.residual == "scatter":
            return scattered_space(graph, place)
        return whole_space(
            graph, place.never | place.residual if self.config.residual == "keep" else place.never
        )

    def check(self, graph: ChannelGraph) -> None:
        """Make sure that there are epochs to search in and that the target can be reached.

        Raises:
            CompressError: ``too-few-epochs``; ``target-unreachable`` with the smallest target.
        """
        if self.setup.config.epochs < 2:
            raise CompressError(
                f"{self.name} needs an epoch to search and one with fixed masks, "
                f"{self.setup.config.epochs} is given",
                hint="give --epochs 2 or more",
                code="too-few-epochs",
            )
        space, dense = self.space(graph, Placement(graph)), getattr(graph.costs, self.setup.kind)
        least = float(getattr(space.cost, self.setup.kind)(space.least))
        if self.setup.goal < least * (1 - TOLERANCE):
            streams = "; --residual tied cuts the residual streams too" * (self.config.residual != "tied")
            raise CompressError(
                f"{self.setup.kind}={self.setup.goal:,.0f} cannot be reached by {self.name}: what it may "
                f"not cut costs {least:,.0f} of {dense:,.0f}",
                hint=f"the smallest target is {self.setup.kind}={least / dense:.4f}{streams}",
                code="target-unreachable",
                details={"least": least / dense},
            )

    def prepare(self, model: nn.Module, graph: ChannelGraph, plan: SlicePlan | None) -> Prepared:
        """Put gates on a copy of the dense network."""
        place = Placement(graph)
        self._graph = graph
        self.dense_cost = float(getattr(graph.costs, self.setup.kind))
        self._space = self.space(graph, place)
        self._relaxed = RelaxedCost(self._space.cost)
        gates = self.make_gates(self._space)
        gates.wanted.fill_(self.target_at(0, 0, self.config.ramp))
        student = copy.deepcopy(model)
        self.place_gates(student, graph, place, gates)
        return Prepared(student, None)

    def place_gates(self, student: nn.Module, graph: ChannelGraph, place: Placement, gates: Gates) -> None:
        """Where the masks act."""
        gate(student, graph, gates, place.after, root=self._space.classes.root)

    def _cost(self, gates: Gates, open_units: NDArray[np.bool_]) -> float:
        with torch.no_grad():
            keep = gates.keep(torch.from_numpy(open_units).to(gates.frozen.device).float())
            return float(self._relaxed.of(self.setup.kind, keep.cpu().double()))

    def cost_share(self, gates: Gates, of_units: Tensor) -> Tensor:
        """The limited cost of relaxed gates `[units]`, as a share of the dense network's."""
        return self._relaxed.of(self.setup.kind, gates.keep(of_units)) / self.dense_cost

    @property
    def target(self) -> float:
        """The limit as a share of the dense network's cost."""
        return self.setup.goal / self.dense_cost

    def target_at(self, epoch: int, step: int, ramp: float) -> float:
        """The limit at a step, falling geometrically from 1 to `target` in the first `ramp` of the search."""
        done = (epoch + step / self.setup.steps) / self.fixed_from(self.setup.config.epochs)
        return float(self.target ** min(1.0, done / ramp)) if ramp else self.target

    def fixed_from(self, epochs: int) -> int:
        """The first epoch with final masks."""
        return epochs - min(epochs - 1, max(1, round(self.config.fixed_share * epochs)))

    def phases(self, epochs: int) -> tuple[int, ...]:
        """The search, and the epochs with fixed masks."""
        return (0, self.fixed_from(epochs))

    def begin_epoch(self, model: nn.Module, epoch: int, epochs: int) -> None:
        """Fix the masks when it is time."""
        gates = gates_of(model)
        if self._last is None:
            self._last = gates.binary().detach().cpu()
        if epoch >= self.fixed_from(epochs) and not gates.is_frozen:
            mask = self._settled(gates)
            gates.freeze(mask)
            self._plan(mask, gates)  # a network that cannot be cut so must say so now, not after the training
        self._relaxed.place(gates.frozen)
        self._searching = epoch < self.fixed_from(epochs)
        self._epoch, self._step = epoch, 0

    def begin_step(self, model: nn.Module) -> None:
        """Bring the gates to this step, and the budget's target."""
        gates = gates_of(model)
        gates.step()
        if self._searching:
            gates.wanted.fill_(self.target_at(self._epoch, self._step, self.config.ramp))
            self._step += 1

    def _settled(self, gates: Gates) -> NDArray[np.bool_]:
        budget = Budget(self.setup.kind, self.setup.goal, lambda mask: self._cost(gates, mask))
        scores = self.scores(gates).detach().double().cpu().numpy()
        learned = gates.binary().detach().cpu().numpy() > 0
        return settle(budget, self._space.layers, scores, learned, self.setup.align)

    def end_epoch(self, model: nn.Module, epoch: int, epochs: int) -> None:
        """Count what has closed and opened again since the last epoch."""
        gates = gates_of(model)
        now = (gates.fixed if gates.is_frozen else gates.binary()).detach().cpu()
        before = self._last if self._last is not None else now
        self._metrics = {
            f"{self.name}_closed": float(((before > 0) & (now == 0)).sum()),
            f"{self.name}_reopened": float(((before == 0) & (now > 0)).sum()),
            f"{self.name}_open": float((now > 0).sum()),
            f"{self.name}_{self.setup.kind}": self._cost(gates, now.numpy() > 0) / self.dense_cost,
        }
        self._last = now

    def metrics(self) -> dict[str, float]:
        """Closings, re-openings and open gates of the epoch, and the share of the cost that is left."""
        return dict(self._metrics)

    def state_dict(self) -> dict[str, Any]:
        """The mask of the last epoch, for counting."""
        return {"last": self._last}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take it back."""
        self._last = state["last"]

    def _plan(self, mask: NDArray[np.bool_], gates: Gates) -> SlicePlan:
        keep = gates.keep(torch.from_numpy(mask).to(gates.frozen.device).float()).cpu().numpy() > 0
        return self._space.plan(keep)

    def plan(self, model: nn.Module) -> SlicePlan:
        """What the final gates keep."""
        gates = gates_of(model)
        return self._plan(gates.fixed.cpu().numpy() > 0, gates)

    def finish(self, model: nn.Module) -> nn.Module:
        """The dense network with the trained tensors, sliced: kept gates are exactly 1 and vanish."""
        dense = copy.deepcopy(self._graph.model).cpu()
        dense.load_state_dict(plain_state(model))
        return slice_model(dense.train(model.training), self.plan(model))
