"""Reading recipes and turning their drop rates into widths."""

from __future__ import annotations

import fnmatch
import tomllib
from importlib import resources
from pathlib import Path
from typing import Any, Self

from pydantic import Field, ValidationError, model_validator

from compress.core.errors import CompressError, Exit, did_you_mean
from compress.core.spec import Record
from compress.graph import ChannelGraph


class Published(Record):
    """Numbers of a paper's table (or exact ones): MACs and parameters, top-1 in percent."""

    macs: int
    params: int | None = None
    dense_macs: int | None = None
    dense_params: int | None = None
    top1: float | None = None
    dense_top1: float | None = None


class Launch(Record):
    """The commands that start a recipe, words in capitals to be replaced.

    Attributes:
        first: what must have been trained before, if anything. gpu: on one GPU.
        gpus: on several GPUs of one machine. nodes: on several machines, the same command on each.
    """

    first: str | None = None
    gpu: str
    gpus: str
    nodes: str

    def commands(self) -> dict[str, str]:
        """Each of them under what it is for."""
        named = {"before": self.first, "one GPU": self.gpu, "several GPUs": self.gpus, "nodes": self.nodes}
        return {what: command for what, command in named.items() if command is not None}


class Recipe(Record):
    """One recipe.

    Attributes:
        train: fields of `TrainConfig`. options: fields of the method's config.
        target: such as ``macs=0.5``, where no list is given.
        drop: layer name or pattern -> fraction dropped of each matching group, in order.
        published: the paper's numbers. exact: convolution and linear MACs, and parameters with norms.
        reference: the recipe whose published row a training of our own is compared with.
        own_widths: the paper prints no widths and these are ours, so that its row is compared with only.
        launch: how it is started.
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
    def _one_way(self) -> Self:
        if self.target and self.drop:
            raise ValueError("give a target or a list of drop rates, not both")
        return self


def list_recipes() -> list[str]:
    """The recipes that come with the package."""
    folder = resources.files(__package__)
    return sorted(f.name.removesuffix(".toml") for f in folder.iterdir() if f.name.endswith(".toml"))


def load(name: str) -> Recipe:
    """A recipe by name, or from a path ending in ``.toml``.

    Raises:
        CompressError: (exit 2) unknown name, or what is wrong in the file; (exit 3) missing file.
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
        raise CompressError(f"the recipe {name!r} is not readable: {error}", code="bad-recipe") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        at = f" at {where!r}" if where else ""
        raise CompressError(
            f"the recipe {name!r} is wrong{at}: {first['msg'].removeprefix('Value error, ')}",
            code="bad-recipe",
            hint=f"known: {', '.join(Recipe.model_fields)}" if first["type"] == "extra_forbidden" else "",
        ) from error


def widths_from_drop_rates(graph: ChannelGraph, drop: dict[str, list[float]]) -> dict[str, int]:
    """The width of every group a list of drop rates names: `int(c * (1 - rate))`, at least 1.

    A pattern takes the groups it matches in the network's order; one rate for all, or one for each. Groups
    that an exact name claims are left out of patterns.

    Raises:
        CompressError: (exit 2) a name that matches nothing, or another number of rates than groups.
    """
    every = [g.name for g in graph.groups]
    taken: dict[str, float] = {}
    for pattern in sorted(drop, key=lambda p: p not in every):
        rates = drop[pattern]
        found = (
            [pattern]
            if pattern in every
            else [n for n in every if fnmatch.fnmatchcase(n, pattern) and n not in taken]
        )
        if not found:
            raise CompressError(
                f"no channel group is called {pattern!r}",
                code="unknown-group",
                hint=did_you_mean(pattern, every) or f"the groups are {', '.join(every[:8])}, ...",
            )
        if len(rates) not in (1, len(found)):
            raise CompressError(
                f"{pattern!r} matches {len(found)} groups but {len(rates)} drop rates are given",
                hint="give one rate, or one for each group in order",
                code="drop-count",
            )
        for name, rate in zip(found, rates * len(found) if len(rates) == 1 else rates, strict=True):
            if not 0 <= rate < 1:
                raise CompressError(f"{name}: the drop rate {rate} is not in [0, 1)", code="drop-range")
            taken[name] = rate
    return {name: max(1, int(graph.group(name).width * (1 - rate))) for name, rate in taken.items()}
