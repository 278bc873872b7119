"""What a method is: it prepares a network for training, takes part in the loop, hands back a narrow one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from pydantic import field_validator
from torch import Tensor, nn

from compress.core.errors import CompressError, did_you_mean
from compress.core.spec import Record
from compress.graph import ChannelGraph, Criterion, SlicePlan
from compress.training.config import TrainConfig
from compress.training.method import PlainMethod


class MethodConfig(Record):
    """Settings of a method; each method has its own.

    Attributes:
        residual: ``tied``: a residual stream is cut, with the same channels in all layers that add to it;
            ``keep``: what reaches a residual add is not cut.
    """

    residual: Literal["keep", "tied", "scatter"] = "tied"

    @field_validator("residual")
    @classmethod
    def _offered(cls, value: str) -> str:
        if value == "scatter" and not cls.scatters:
            raise ValueError("only a method that learns what it keeps can scatter; use keep or tied")
        return value

    scatters: ClassVar[bool] = False


@dataclass(frozen=True)
class Prepared:
    """A network ready to be trained.

    Attributes:
        model: what is trained.
        plan: what is kept of the dense network, if it is already decided; None if nothing is cut.
    """

    model: nn.Module
    plan: SlicePlan | None


@dataclass(frozen=True)
class Setup:
    """What a method is told before it prepares a network.

    Attributes:
        config: how it will be trained. steps: optimizer steps in an epoch.
        kind: ``macs`` or ``params``, the cost that is limited; empty without a target.
        goal: its limit, an absolute number.
        align: ``auto``, ``none`` or a number that widths shall be multiples of.
        teacher: a trained network to learn from, for a method that has `teacher`.
    """

    config: TrainConfig
    steps: int = 1
    kind: str = ""
    goal: float = 0.0
    align: str = "auto"
    teacher: nn.Module | None = None


class Method(PlainMethod):
    """The interface of a method; its hooks in the loop are those of `compress.training.TrainableMethod`.

    Attributes:
        name: what a user gives to ``--method``.
        config_type: its settings.
        narrows: whether it needs a target and a plan.
        free_pads: how it wants zero-padded shortcuts treated (see `compress.trace`).
        criterion: which channels the plan keeps (see `compress.graph.Criterion`).
        chooses: whether it decides itself, while it trains, what is kept. The plan it gets then only shows
            that the target can be met, and `plan` returns the one it has come to.
        starts_dense: whether it starts from a trained dense network; without ``--weights`` one is trained
            first, in the share of the epochs that its config calls ``dense_share``.
        teacher: whether it learns from a trained dense network.
        defaults: settings of the training it wants where neither a flag nor a recipe says otherwise.
        setup: what it is told before `check` and `prepare`.
    """

    name: ClassVar[str]
    config_type: ClassVar[type[MethodConfig]] = MethodConfig
    narrows: ClassVar[bool] = True
    free_pads: ClassVar[bool] = True
    criterion: ClassVar[Criterion] = "window"
    chooses: ClassVar[bool] = False
    starts_dense: ClassVar[bool] = False
    teacher: ClassVar[bool] = False
    defaults: ClassVar[Mapping[str, Any]] = {}
    setup: Setup

    def __init__(self, config: MethodConfig) -> None:
        self.config = config

    def check(self, graph: ChannelGraph) -> None:
        """Refuse, before anything is trained, what cannot be done with `setup`.

        Raises:
            CompressError: such as a target under what this method may not cut.
        """

    def plan(self, model: nn.Module) -> SlicePlan | None:
        """What a method that `chooses` keeps of the dense network, once `model` is trained."""
        return None

    def phases(self, epochs: int) -> tuple[int, ...]:
        """The first epochs of the stretches whose steps cost alike, such as a search and what follows it."""
        return (0,)

    def prepare(self, model: nn.Module, graph: ChannelGraph, plan: SlicePlan | None) -> Prepared:
        """Make the network that is trained from the dense one (which may be changed or kept)."""
        raise NotImplementedError

    def finish(self, model: nn.Module) -> nn.Module:
        """The trained network as an ordinary narrow module; the given one stays usable."""
        raise NotImplementedError

    def loss(
        self, model: nn.Module, inputs: Tensor, outputs: Any, targets: Tensor, criterion: nn.Module
    ) -> Tensor:
        """Return the criterion of outputs and targets."""
        return super().loss(model, inputs, outputs, targets, criterion)


_METHODS: dict[str, type[Method]] = {}


def register(name: str) -> Callable[[type[Method]], type[Method]]:
    """Register a method under a name."""

    def add(method: type[Method]) -> type[Method]:
        if name in _METHODS:
            raise ValueError(f"there already is a method {name!r}")
        method.name = name
        _METHODS[name] = method
        return method

    return add


def names() -> list[str]:
    """All methods."""
    return sorted(_METHODS)


def get(name: str) -> type[Method]:
    """The method of that name.

    Raises:
        CompressError: (exit 2) unknown, with the nearest names.
    """
    if name not in _METHODS:
        hint = did_you_mean(name, _METHODS) or f"one of {', '.join(names())}"
        raise CompressError(f"unknown method {name!r}", hint=hint, code="unknown-method")
    return _METHODS[name]
