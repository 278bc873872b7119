"""Read recipes and convert their drop rates to widths."""

from __future__ import annotations

import fnmatch
import tomllib
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from pydantic import Field, ValidationError, model_validator

from compress.core.errors import CompressError, Exit, did_you_mean
from compress.core.spec import Record

if TYPE_CHECKING:
    from compress.graph import ChannelGraph


class Published(Record):
    """Results of a paper, or exact costs.

    Attributes:
        macs, params: costs of the compact model.
        dense_macs, dense_params: costs of the dense network.
        top1, dense_top1: accuracy in percent.
    """

    macs: int
    params: int | None = None
    dense_macs: int | None = None
    dense_params: int | None = None
    top1: float | None = None
    dense_top1: float | None = None


class Launch(Record):
    """Commands that start a recipe; words in capitals must be replaced.

    Attributes:
        first: training that must be done before, if any.
        gpu: on one GPU.
        gpus: on several GPUs of one machine.
        nodes: on several machines, the same command on each.
    """

    first: str | None = None
    gpu: str
    gpus: str
    nodes: str

    def commands(self) -> dict[str, str]:
        """Return the commands by what they are for."""
        commands = {"before": self.first, "one GPU": self.gpu, "several GPUs": self.gpus, "nodes": self.nodes}
        return {what: command for what, command in commands.items() if command is not None}


class Recipe(Record):
    """One recipe.

    Attributes:
        name, description: identify the recipe.
        method, model, num_classes, input_size, data: as on the command line.
        target: such as ``macs=0.5``; None if `drop` is given.
        train: fields of `TrainConfig`.
        options: fields of the method's config.
        drop: layer name or pattern -> fraction of channels dropped in each matching group, in order.
        published: results of the paper.
        exact: MACs of convolutions and linear layers, and parameters including those of norms.
        reference: the recipe with whose published results this one is compared.
        own_widths: the paper gives no widths; `drop` was chosen by this project, so results are compared, not
            reproduced.
        launch: commands that start it.
    """

    name: str
    description: str = ""
    method: str = "dcff"
    model: str | None = None
    num_classes: int | None = None
    input_size: tuple[int, int, int] | None = None
    data: str | None = None
    target: str | None = None
    train: dict[str, Any] = Field(default_factory=dict)
    options: dict[str, Any] = Field(default_factory=dict)
    drop: dict[str, list[float]] = Field(default_factory=dict)
    published: Published | None = None
    exact: Published | None = None
    reference: str | None = None
    own_widths: bool = False
    launch: Launch | None = None

    @model_validator(mode="after")
    def _target_or_drop(self) -> Self:
        if self.target and self.drop:
            raise ValueError("give a target or a list of drop rates, not both")
        return self


def list_recipes() -> list[str]:
    """Return the names of the built-in recipes, sorted."""
    folder = resources.files(__package__)
    return sorted(f.name.removesuffix(".toml") for f in folder.iterdir() if f.name.endswith(".toml"))


def load(name: str) -> Recipe:
    """Return a built-in recipe by name, or the recipe in a file whose path ends in ``.toml``.

    Raises:
        CompressError: (exit 2) ``unknown-recipe``, ``bad-recipe``; (exit 3) ``missing-file``.
    """
    if name.endswith(".toml") and name.removesuffix(".toml") not in list_recipes():
        path = Path(name)
        if not path.is_file():
            raise CompressError(
                f"there is no recipe file {name!r}",
                code="missing-file",
                exit=Exit.MISSING,
                hint=f"give a TOML file or one of {', '.join(list_recipes())}",
            )
        text = path.read_bytes()
        name = path.stem
    else:
        name = name.removesuffix(".toml")
        if name not in list_recipes():
            raise CompressError(
                f"unknown recipe {name!r}",
                code="unknown-recipe",
                hint=did_you_mean(name, list_recipes()) or f"one of {', '.join(list_recipes())}",
            )
        text = resources.files(__package__).joinpath(f"{name}.toml").read_bytes()
    try:
        return Recipe(**{"name": name, **tomllib.loads(text.decode())})
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise CompressError(f"the recipe {name!r} is not valid TOML: {error}", code="bad-recipe") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        at = f" at {where!r}" if where else ""
        raise CompressError(
            f"the recipe {name!r} is not valid{at}: {first['msg'].removeprefix('Value error, ')}",
            code="bad-recipe",
            hint=f"the keys are {', '.join(Recipe.model_fields)}"
            if first["type"] == "extra_forbidden"
            else "",
        ) from error


def widths_from_drop_rates(graph: ChannelGraph, drop: dict[str, list[float]]) -> dict[str, int]:
    """Return the width of each group for which a drop rate is given: `int(c * (1 - rate))`, at least 1.

    Args:
        graph: the network.
        drop: group name or pattern -> one rate for all matching groups, or one for each in the network's
            order. Groups with an entry of their own are not matched by patterns.

    Raises:
        CompressError: (exit 2) ``unknown-group``, ``drop-count``, ``drop-range``.
    """
    names = [g.name for g in graph.groups]
    rate_of: dict[str, float] = {}
    for pattern in sorted(drop, key=lambda p: p not in names):
        rates = drop[pattern]
        matching = (
            [pattern]
            if pattern in names
            else [n for n in names if fnmatch.fnmatchcase(n, pattern) and n not in rate_of]
        )
        if not matching:
            raise CompressError(
                f"there is no channel group {pattern!r}",
                code="unknown-group",
                hint=did_you_mean(pattern, names) or f"the groups are {', '.join(names[:8])}, ...",
            )
        if len(rates) not in (1, len(matching)):
            raise CompressError(
                f"{pattern!r} matches {len(matching)} groups but {len(rates)} drop rates are given",
                hint="give one rate, or one for each group in order",
                code="drop-count",
            )
        for name, rate in zip(matching, rates * len(matching) if len(rates) == 1 else rates, strict=True):
            if not 0 <= rate < 1:
                raise CompressError(f"{name}: the drop rate {rate} is not in [0, 1)", code="drop-range")
            rate_of[name] = rate
    return {name: max(1, int(graph.group(name).width * (1 - rate))) for name, rate in rate_of.items()}
