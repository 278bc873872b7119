"""Interface of a compression method, and the registry of methods.

Lifecycle of a method in one training (`compress.pipeline.training`, `compress.training.loop`)::

    Method.check(config, setup)            before anything is trained; refuses an impossible request
       |
    method = Method(config, setup)         gets dense network, graph, plan, settings and teacher,
       |                                   builds `method.model`, the network that is trained
    build_optimizers / param_groups        once; `load_state_dict` follows when a run is resumed
       |
       |   for each epoch:
       +--> begin_epoch                    such as: update proxies, lower a temperature, fix the masks
       |      |   for each step:
       |      +--> begin_step              such as: draw samples
       |      |    loss                    of a forward pass
       |      |    (backward, optimizers)
       |      +--- end_step                such as: add up parts of the loss
       |    end_epoch                      before the evaluation
       +--- metrics, state_dict            for the log and the checkpoint
       |
    final_plan(model)                      what the trained network keeps of the dense one
    finish(model)                          the trained network as an ordinary compact module

A new method is one file: a frozen configuration derived from `MethodConfig` and a class under
`@METHODS.register("name")`. Another package adds one through the entry point group ``compress.methods``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from pydantic import field_validator
from torch import Tensor, nn

from compress.core.errors import CompressError
from compress.core.registry import Registry, subclass_of
from compress.core.spec import Record
from compress.cost import dense_costs
from compress.graph import ChannelGraph, SlicePlan
from compress.training.config import TrainConfig
from compress.training.method import PlainMethod


class MethodConfig(Record):
    """Settings of a method; each method has its own subclass, whose type selects the method.

    Attributes:
        residual: ``tied``: a residual stream is cut, with the same channels in all layers that add to it;
            ``keep``: the channels that reach a residual addition are not cut.
    """

    residual: Literal["keep", "tied", "scatter"] = "tied"

    supports_scatter: ClassVar[bool] = False

    @field_validator("residual")
    @classmethod
    def _is_supported(cls, value: str) -> str:
        if value == "scatter" and not cls.supports_scatter:
            raise ValueError("only a method that learns what it keeps can scatter; use keep or tied")
        return value


@dataclass(frozen=True)
class Setup:
    """Everything a method needs to prepare a network.

    Attributes:
        model: the dense network. A method may change it or train a copy.
        graph: channel graph of `model`.
        plan: what is kept of it; None if nothing is cut. For a method that learns its plan it only shows that
            the target can be met.
        config: settings of the training.
        steps_per_epoch: optimizer steps in an epoch.
        cost: the cost that is limited, ``macs`` or ``params``; empty without a target.
        budget: the limit of that cost, an absolute number.
        align: ``auto``, ``none`` or a number; channel counts become multiples of it.
        teacher: a trained network to learn from, for a method that `uses_teacher`; None in `Method.check`.
    """

    model: nn.Module
    graph: ChannelGraph
    plan: SlicePlan | None
    config: TrainConfig
    steps_per_epoch: int = 1
    cost: str = ""
    budget: float = 0.0
    align: str = "auto"
    teacher: nn.Module | None = None

    @property
    def dense_cost(self) -> float:
        """Cost of the dense network, of the kind that is limited."""
        return float(getattr(dense_costs(self.graph), self.cost))

    @property
    def required_plan(self) -> SlicePlan:
        """The plan, for a method that cannot work without one."""
        if self.plan is None:
            raise ValueError("this method needs a slicing plan")
        return self.plan

    @property
    def required_teacher(self) -> nn.Module:
        """The teacher, for a method that cannot work without one."""
        if self.teacher is None:
            raise ValueError("this method needs a teacher")
        return self.teacher


class Method(PlainMethod):
    """A way to train a compact network. Its hooks in the loop are those of `PlainMethod`.

    A subclass builds the network that is trained in its constructor::

        def __init__(self, config: MyConfig, setup: Setup) -> None:
            super().__init__(config, setup, slice_model(setup.model, setup.required_plan))

    Args:
        config: settings of the method.
        setup: the dense network and how it is trained.
        model: the network that is trained; None: the dense network itself.

    Attributes:
        name: name for ``--method``, set by the registry.
        config_type: type of the settings.
        needs_target: whether it cuts the network and so needs a target and a plan.
        free_pads: how zero-padded shortcuts are treated (see `compress.trace`).
        criterion: which channels the plan keeps (see `compress.graph.str`).
        learns_plan: whether it decides during the training what is kept (see `final_plan`).
        starts_from_dense: whether it starts from a trained dense network; without weights one is trained
            first, in the share of the epochs that its configuration gives as ``dense_share``.
        uses_teacher: whether it learns from a trained dense network.
        training_defaults: defaults of the training's settings that differ for this method.
    """

    name: ClassVar[str]
    config_type: ClassVar[type[MethodConfig]] = MethodConfig
    needs_target: ClassVar[bool] = True
    free_pads: ClassVar[bool] = True
    criterion: ClassVar[str] = "window"
    learns_plan: ClassVar[bool] = False
    starts_from_dense: ClassVar[bool] = False
    uses_teacher: ClassVar[bool] = False
    training_defaults: ClassVar[Mapping[str, Any]] = {}

    def __init__(self, config: MethodConfig, setup: Setup, model: nn.Module | None = None) -> None:
        self.config = config
        self.setup = setup
        self.model = setup.model if model is None else model

    @classmethod
    def check(cls, config: MethodConfig, setup: Setup) -> None:
        """Refuse, before anything is trained, a request that the method cannot fulfil.

        Raises:
            CompressError: for example for a target below what the method can reach.
        """

    def phases(self, epochs: int) -> tuple[int, ...]:
        """Return the first epochs of the phases with constant step time, such as a search and fine-tuning."""
        return (0,)

    def final_plan(self, model: nn.Module) -> SlicePlan | None:
        """Return what the trained `model` keeps of the dense network; None if nothing is cut."""
        return self.setup.plan

    def finish(self, model: nn.Module) -> nn.Module:
        """Return the trained network as an ordinary compact module; `model` stays usable."""
        raise NotImplementedError

    def loss(
        self, model: nn.Module, inputs: Tensor, outputs: Any, targets: Tensor, criterion: nn.Module
    ) -> Tensor:
        """Return the criterion of outputs and targets."""
        return super().loss(model, inputs, outputs, targets, criterion)


class MethodRegistry(Registry[type[Method]]):
    """Methods by name; an entry learns its name here."""

    def add(self, name: str, entry: type[Method]) -> type[Method]:
        """Register a method class and set its `name`."""
        super().add(name, entry)
        entry.name = name
        return entry

    def of_config(self, config: MethodConfig) -> type[Method]:
        """Return the method whose settings have the type of `config`.

        Raises:
            CompressError: (exit 2) ``unknown-method``: no registered method has such settings.
        """
        for name in self.names():
            if self[name].config_type is type(config):
                return self[name]
        raise CompressError(
            f"no method has settings of type {type(config).__name__}",
            hint=f"pass one of {', '.join(sorted(self[n].config_type.__name__ for n in self.names()))}",
            code="unknown-method",
        )


METHODS = MethodRegistry(
    "method",
    group="methods",
    package="compress.methods",
    convert=subclass_of(Method),
)


def list_methods() -> list[str]:
    """Return the names of all methods, those of installed packages included, sorted."""
    return METHODS.names()
