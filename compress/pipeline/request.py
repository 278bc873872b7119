"""What a user asks for, and the settings that follow: flag over recipe over default."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from compress import methods, recipes
from compress.core.errors import CompressError
from compress.training import TrainConfig

T = TypeVar("T", bound=BaseModel)
Size = tuple[int, int, int]


@dataclass(frozen=True)
class TrainRequest:
    """A training as a user asks for it; None means: the recipe's, or the default.

    Attributes:
        method, model, data, recipe: names. target: ``macs=F`` or ``params=F``.
        drop: layer name or pattern -> fractions dropped, instead of a target.
        num_classes, input_size: of the model; None: the data's.
        mean, std: normalisation a channel on the 0 to 1 scale; None: the data's own.
        weights: file with weights of the dense network to start from.
        teacher: run folder or weights file of a trained dense network that a method learns from.
        dense_out: run folder of the dense network that a method trains first; None: beside `out`.
        align: ``auto``, ``none`` or a number that widths are multiples of.
        settings: fields of `TrainConfig`. options: fields of the method's config.
        dense_settings: `settings` for a dense network that is trained first; None: the same.
        out: the run folder. resume: go on with it.
        workers: processes that decode images. dali: decode on the GPU (``folder:`` only).
        profile: trace some steps of the training.
    """

    method: str | None = None
    model: str | None = None
    data: str | None = None
    recipe: str | None = None
    target: str | None = None
    drop: dict[str, list[float]] = field(default_factory=dict)
    num_classes: int | None = None
    input_size: Size | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    weights: str | None = None
    teacher: str | None = None
    dense_out: str | Path | None = None
    align: str = "auto"
    settings: dict[str, Any] = field(default_factory=dict)
    options: dict[str, Any] = field(default_factory=dict)
    dense_settings: dict[str, Any] | None = None
    out: str | Path | None = None
    resume: bool = False
    workers: int = 2
    dali: bool = False
    profile: bool = False


@dataclass(frozen=True)
class Resolved:
    """A request with every name and default filled in.

    `dense_config` is how a dense network would be trained first, over all epochs: without the defaults that
    the method has for itself.
    """

    request: TrainRequest
    recipe: recipes.Recipe | None
    method: type[methods.Method]
    options: methods.MethodConfig
    config: TrainConfig
    dense_config: TrainConfig
    model: str
    data: str
    target: str | None
    drop: dict[str, list[float]]
    num_classes: int | None
    input_size: Size | None

    @property
    def out(self) -> Path:
        """The run folder: as asked, or made from the names."""
        if self.request.out is not None:
            return Path(self.request.out)
        words = [self.method.name, self.model, self.data.split(":")[0]]
        return Path("runs") / "-".join(_plain(Path(w).name) for w in words)

    def settings(self) -> dict[str, Any]:
        """Everything for `run.json`."""
        return {
            **self.config.model_dump(mode="json"),
            "options": self.options.model_dump(mode="json"),
            "recipe": self.request.recipe,
            "drop": self.drop,
            "align": self.request.align,
            "mean": self.request.mean,
            "std": self.request.std,
            "weights": self.request.weights,
            "teacher": self.request.teacher,
            "workers": self.request.workers,
            **({"dali": True} if self.request.dali else {}),  # absent in runs from before it existed
        }


def _plain(word: str) -> str:
    return "".join(c if c.isalnum() else "-" for c in word)


def resolve(request: TrainRequest) -> Resolved:
    """Fill in recipe and defaults.

    Raises:
        CompressError: (exit 2) unknown names, values out of range, or something that must be given.
    """
    recipe = recipes.load(request.recipe) if request.recipe else None
    name = request.method or (recipe.method if recipe else "dcff")
    method = methods.get(name)
    same = recipe is not None and recipe.method == name
    common = recipe.train if recipe else {}
    config = _validated(TrainConfig, {**method.defaults, **common, **request.settings}, "setting")
    first = request.settings if request.dense_settings is None else request.dense_settings
    dense_config = _validated(TrainConfig, {**common, **first, "epochs": config.epochs}, "setting")
    options = _validated(
        method.config_type,
        {**(recipe.options if recipe and same else {}), **request.options},
        f"option of {name}",
    )
    if request.teacher and not method.teacher:
        raise CompressError(
            f"the method {name!r} has no teacher", hint="leave out --teacher", code="no-teacher"
        )
    target = request.target or (recipe.target if recipe and not request.drop else None)
    drop = request.drop or (dict(recipe.drop) if recipe and not request.target else {})
    if request.target and request.drop:
        raise CompressError(
            f"both a target ({request.target}) and a list of drop rates are given",
            hint="give one of them",
            code="two-targets",
        )
    if method.narrows and not target and not drop:
        raise CompressError(
            f"the method {name!r} needs to know how narrow the network shall be",
            hint="give --target macs=0.5 (or params=), a --recipe or --drop LAYER=RATE",
            code="no-target",
        )
    if method.chooses and drop:
        raise CompressError(
            f"the method {name!r} learns what each layer keeps; it cannot follow drop rates",
            hint="give --target macs=0.5 (or params=)",
            code="no-target",
        )
    model = request.model or (recipe.model if recipe else None)
    data = request.data or (recipe.data if recipe else None)
    for word, value in (("model", model), ("data", data)):
        if not value:
            raise CompressError(
                f"no {word} is given", hint=f"give --{word} NAME, or a recipe that has one", code=f"no-{word}"
            )
    assert model is not None
    assert data is not None
    own_model = recipe is None or (request.model in (None, recipe.model))
    return Resolved(
        request,
        recipe,
        method,
        options,
        config,
        dense_config,
        model,
        data,
        target if method.narrows else None,
        drop if method.narrows else {},
        request.num_classes or (recipe.num_classes if recipe and own_model and not request.data else None),
        request.input_size or (recipe.input_size if recipe and own_model else None),
    )


def _validated(kind: type[T], values: dict[str, Any], what: str) -> T:
    try:
        return kind(**values)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        given = f" (given: {values[key]!r})" if key in values else ""
        where = f"{what} {key!r}: " if key else ""
        raise CompressError(
            f"{where}{first['msg'].removeprefix('Value error, ')}{given}",
            code="bad-setting",
            hint=f"known: {', '.join(kind.model_fields)}" if first["type"] == "extra_forbidden" else "",
        ) from error
