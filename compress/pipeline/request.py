"""A training as it is requested, and the same with every name and default resolved.

A request takes objects (modules, data sets, configuration objects) or their names. `resolve` is the only
place of this package that turns names into objects. Precedence of settings: request, recipe, method, default.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from torch import nn

from compress import data as image_data
from compress import methods, models, recipes
from compress.artifact.compact import MODULE_PREFIX
from compress.core.errors import CompressError, did_you_mean
from compress.core.spec import ModelSpec
from compress.data import ImageData
from compress.pipeline.targets import Target, parse_target
from compress.training import TrainConfig

DEFAULT_METHOD = "dcff"

T = TypeVar("T", bound=BaseModel)
Size = tuple[int, int, int]


@dataclass(frozen=True)
class TrainRequest:
    """A training as it is requested; None means: the recipe's value, or the default.

    Attributes:
        method: name of a method, or a configuration object such as `compress.KDFS()`.
        model: name of a network, or an `nn.Module`, which is copied and not changed.
        data: name of a data set, or a data set object (see `compress.data.ImageData`).
        recipe: name of a recipe or path of a TOML file.
        target: such as ``macs=0.5``, ``params=40%``, ``macs=60M`` or ``speedup=2``.
        drop: layer name or pattern -> fractions dropped, instead of a target.
        num_classes: classes of the model; None: those of the data.
        input_size: channels, height and width of an image; None: those of the data.
        mean: normalization per channel, on the 0 to 1 scale; None: the data's own.
        std: likewise.
        weights: weights of the dense network to start from: a file, or the run folder of a dense network.
        reset_head: whether the classifier keeps random weights instead of those in `weights`; None: if its
            number of classes differs (see `compress.models.load_weights`).
        teacher: run folder or weights file of a trained dense network that a method learns from, or a module.
        pretrained: whether the weights of a module passed as `model` are trained.
        dense_out: run folder of the dense network that is trained first; None: next to `out`.
        align: ``auto``, ``none`` or a number that widths are multiples of.
        settings: fields of `TrainConfig`.
        options: fields of the method's configuration; empty if `method` is a configuration object.
        dense_settings: `settings` for a dense network that is trained first; None: the same.
        out: the run folder.
        resume: resume the run in `out`.
        workers: processes that decode images.
        dali: decode on the GPU (``folder:`` only).
        profile: trace some steps of the training.
    """

    method: str | methods.MethodConfig | None = None
    model: str | nn.Module | None = None
    data: str | ImageData | None = None
    recipe: str | None = None
    target: str | None = None
    drop: dict[str, list[float]] = field(default_factory=dict)
    num_classes: int | None = None
    input_size: Size | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    weights: str | None = None
    reset_head: bool | None = None
    teacher: str | nn.Module | None = None
    pretrained: bool = True
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
class DenseSource:
    """The dense network of a training: a name, or a module that was passed.

    Attributes:
        name: as in `ModelSpec.name`.
        module: the module, if one was passed.
    """

    name: str
    module: nn.Module | None = None

    @classmethod
    def of(cls, model: str | nn.Module) -> DenseSource:
        """Return the source of a name or a module."""
        if isinstance(model, str):
            return cls(model)
        return cls(f"{MODULE_PREFIX}{type(model).__module__}.{type(model).__qualname__}", model)

    def build(
        self,
        num_classes: int,
        input_size: Size,
        weights: str | None = None,
        reset_head: bool | None = None,
    ) -> nn.Module:
        """Return the network, on the CPU, in training mode; a module that was passed is copied.

        Raises:
            CompressError: as `compress.models.build`.
        """
        if self.module is None:
            return models.build(self.name, num_classes, input_size, weights, reset_head=reset_head)
        _check_module(self.module)
        model = copy.deepcopy(self.module).cpu().train()
        if weights is not None:
            models.load_weights(model, weights, reset_head=reset_head)
        return model

    def spec(self, num_classes: int, input_size: Size) -> ModelSpec:
        """Return the record from which the network is built again."""
        if self.module is None:
            return models.model_spec(self.name, num_classes, input_size)
        return ModelSpec(name=self.name, num_classes=num_classes, input_size=input_size)


def _check_module(module: object) -> None:
    """Refuse an object that is no module, and weights without values.

    Raises:
        CompressError: (exit 2) ``model-object``.
    """
    if not isinstance(module, nn.Module):
        what, hint = f"{module!r} is not a torch.nn.Module", "pass a network, such as MyNet(), or a name"
    elif any(t.is_meta for t in (*module.parameters(), *module.buffers())):
        what = f"{type(module).__name__} is on the meta device: its weights have no values"
        hint = "make it on the CPU, or load its weights with module.to_empty(device='cpu')"
    else:
        return
    raise CompressError(what, hint=hint, code="model-object")


@dataclass(frozen=True)
class ResolvedRequest:
    """A request with every name and default resolved.

    Attributes:
        request: what was requested.
        recipe: the recipe, if one was named.
        method: the method's class.
        options: the method's settings.
        config: settings of the training.
        dense_config: settings of a dense network that would be trained first, over all epochs: without the
            defaults that the method has for itself.
        model: the dense network.
        data: name of the data set.
        dataset: the data set, if an object was passed.
        target: the cost limit, None without one.
        drop: layer name or pattern -> fractions dropped.
        num_classes: classes as requested, or None.
        input_size: image size as requested, or None.
        dense_epochs: epochs that a dense network was trained before, for the record.
    """

    request: TrainRequest
    recipe: recipes.Recipe | None
    method: type[methods.Method]
    options: methods.MethodConfig
    config: TrainConfig
    dense_config: TrainConfig
    model: DenseSource
    data: str
    dataset: ImageData | None
    target: Target | None
    drop: dict[str, list[float]]
    num_classes: int | None
    input_size: Size | None
    dense_epochs: int = 0

    @property
    def out(self) -> Path:
        """The run folder: as requested, or named after method, model and data."""
        if self.request.out is not None:
            return Path(self.request.out)
        parts = [self.method.name, self.model.name.removeprefix(MODULE_PREFIX), self.data.split(":")[0]]
        return Path("runs") / "-".join(_alphanumeric(Path(part).name) for part in parts)

    @property
    def has_trained_module(self) -> bool:
        """Whether a module with trained weights was passed as the model."""
        return self.model.module is not None and self.request.pretrained

    def settings(self) -> dict[str, Any]:
        """Return everything for `run.json`."""
        teacher = self.request.teacher
        return {
            **self.config.model_dump(mode="json"),
            "options": self.options.model_dump(mode="json"),
            "recipe": self.request.recipe,
            "drop": self.drop,
            "align": self.request.align,
            "mean": self.request.mean,
            "std": self.request.std,
            "weights": self.request.weights,
            "teacher": teacher
            if teacher is None or isinstance(teacher, str)
            else DenseSource.of(teacher).name,
            "workers": self.request.workers,
            # absent in runs from before they existed
            **({"dali": True} if self.request.dali else {}),
            **({} if self.request.reset_head is None else {"reset_head": self.request.reset_head}),
        }

    def load_data(self) -> ImageData:
        """Load the data set under the requested normalization.

        Raises:
            CompressError: as `compress.data.load`.
        """
        request = self.request
        data = self.dataset
        if data is None:
            data = image_data.load(self.data, self.input_size, workers=request.workers, dali=request.dali)
        return image_data.with_normalization(data, request.mean, request.std)


def resolve(request: TrainRequest) -> ResolvedRequest:
    """Turn names into objects and fill in recipe and defaults.

    Raises:
        CompressError: (exit 2) unknown names, values out of range, or something that must be given.
    """
    recipe = recipes.load(request.recipe) if request.recipe else None
    method = _method(request, recipe)
    options = _options(request, recipe, method)
    common = recipe.train if recipe else {}
    shared = {**_loader_settings(request.data), **common}
    config = validated(
        TrainConfig, {**method.training_defaults, **shared, **request.settings}, "setting", method.config_type
    )
    first = request.settings if request.dense_settings is None else request.dense_settings
    dense_config = validated(TrainConfig, {**shared, **first, "epochs": config.epochs}, "setting")
    if request.teacher is not None and not method.uses_teacher:
        raise CompressError(
            f"the method {method.name!r} has no teacher", hint="leave out --teacher", code="no-teacher"
        )
    target, drop = _target(request, recipe, method)
    model, data = request.model, request.data
    if recipe is not None:
        model = recipe.model if model is None else model
        data = recipe.data if data is None else data
    for word, value in (("model", model), ("data", data)):
        if value is None or value == "":
            raise CompressError(
                f"no {word} is given", hint=f"give --{word} NAME, or a recipe that has one", code=f"no-{word}"
            )
    assert model is not None
    assert data is not None
    recipe_model = recipe is None or request.model in (None, recipe.model)
    return ResolvedRequest(
        request=request,
        recipe=recipe,
        method=method,
        options=options,
        config=config,
        dense_config=dense_config,
        model=DenseSource.of(model),
        data=data if isinstance(data, str) else data.info.name,
        dataset=None if isinstance(data, str) else data,
        target=target,
        drop=drop,
        num_classes=request.num_classes
        or (recipe.num_classes if recipe and recipe_model and request.data is None else None),
        input_size=request.input_size or (recipe.input_size if recipe and recipe_model else None),
    )


def method_of(request: TrainRequest) -> type[methods.Method]:
    """Return the class of the requested method, of the recipe's, or of the default.

    Raises:
        CompressError: (exit 2) an unknown method or recipe.
    """
    return _method(request, recipes.load(request.recipe) if request.recipe else None)


def _method(request: TrainRequest, recipe: recipes.Recipe | None) -> type[methods.Method]:
    if isinstance(request.method, methods.MethodConfig):
        return methods.METHODS.of_config(request.method)
    if request.method is not None and not isinstance(request.method, str):
        raise CompressError(
            f"{request.method!r} is not a method",
            hint="pass a name such as 'dcff', or a configuration object such as compress.DCFF()",
            code="unknown-method",
        )
    return methods.METHODS.get_or_raise(request.method or (recipe.method if recipe else DEFAULT_METHOD))


def _options(
    request: TrainRequest, recipe: recipes.Recipe | None, method: type[methods.Method]
) -> methods.MethodConfig:
    """Return the settings of the method."""
    if isinstance(request.method, methods.MethodConfig):
        return request.method
    defaults = recipe.options if recipe is not None and recipe.method == method.name else {}
    return validated(method.config_type, {**defaults, **request.options}, f"option of {method.name}")


def _loader_settings(data: str | ImageData | None) -> dict[str, Any]:
    """Return the batch size of a data loader that was passed, as a default."""
    batch_size = getattr(data, "batch_size", None)
    return {"batch_size": batch_size} if isinstance(batch_size, int) else {}


def _target(
    request: TrainRequest, recipe: recipes.Recipe | None, method: type[methods.Method]
) -> tuple[Target | None, dict[str, list[float]]]:
    """Return the target, or the drop rates, of which a method that cuts needs one."""
    target = request.target or (recipe.target if recipe and not request.drop else None)
    drop = request.drop or (dict(recipe.drop) if recipe and not request.target else {})
    if request.target and request.drop:
        raise CompressError(
            f"both a target ({request.target}) and drop rates are given",
            hint="give one of them",
            code="two-targets",
        )
    if not method.needs_target:
        return None, {}
    if not target and not drop:
        raise CompressError(
            f"the method {method.name!r} needs a target for the size of the compact model",
            hint="give --target macs=0.5 (or params=), a --recipe or --drop LAYER=RATE",
            code="no-target",
        )
    if method.learns_plan and drop:
        raise CompressError(
            f"the method {method.name!r} learns what each layer keeps; it cannot follow drop rates",
            hint="give --target macs=0.5 (or params=)",
            code="no-target",
        )
    return parse_target(target) if target else None, drop


def validated(
    kind: type[T], values: dict[str, Any], what: str, elsewhere: type[BaseModel] | None = None
) -> T:
    """Return the settings `kind(**values)`.

    Args:
        kind: the settings' type.
        values: by field name.
        what: what a field is, for the message: ``setting``, ``option of kdfs``.
        elsewhere: other settings whose fields may have been meant.

    Raises:
        CompressError: (exit 2) ``bad-setting``, with the nearest and all names for an unknown one.
    """
    try:
        return kind(**values)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        given = f" (given: {values[key]!r})" if key in values else ""
        if first["type"] == "extra_forbidden":
            raise CompressError(
                f"there is no {what} {key!r}{given}",
                code="bad-setting",
                hint=_known_settings(key, kind.model_fields, elsewhere),
            ) from error
        where = f"{what} {key!r}: " if key else ""
        message = first["msg"].removeprefix("Value error, ")
        raise CompressError(f"{where}{message}{given}", code="bad-setting") from error


def _known_settings(key: str, known: Iterable[str], elsewhere: type[BaseModel] | None) -> str:
    if elsewhere is not None and key in elsewhere.model_fields:
        return f"it is a setting of the method: pass {elsewhere.__name__}({key}=...) as the method"
    return f"{did_you_mean(key, known)} known: {', '.join(known)}".strip()


def _alphanumeric(text: str) -> str:
    return "".join(c if c.isalnum() else "-" for c in text)
