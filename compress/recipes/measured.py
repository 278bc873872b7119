"""Measured results of the recipes: ``measured.json``, written by ``python -m benchmarks.reproduce``."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from compress.core.errors import CompressError, Exit
from compress.core.files import read_json, write_json
from compress.core.spec import SCHEMA_VERSION, Record
from compress.recipes.load import Recipe

FILENAME = "measured.json"


class Measured(Record):
    """Results of complete trainings of a recipe.

    Attributes:
        top1: accuracy on the test images after the last epoch, in percent, mean over the seeds.
        spread: standard deviation of `top1` over the seeds; None for one seed.
        best_top1: as `top1`, for the best epoch of each training.
        seeds: seeds of the trainings.
        epochs, minutes: of one training.
        macs, params: costs of the compact model.
        machine: the machine that trained.
        date: of the latest training, ISO 8601.
    """

    top1: float
    spread: float | None = None
    best_top1: float
    seeds: tuple[int, ...]
    epochs: int
    minutes: float
    macs: int
    params: int
    machine: str
    date: str


def load_measured(path: Path | None = None) -> dict[str, Measured]:
    """Return the measured results by name of the recipe.

    Args:
        path: the file; None: the one of the package.

    Raises:
        CompressError: (exit 3) ``missing-file``, ``damaged-file``.
    """
    if path is None:
        with resources.as_file(resources.files(__package__).joinpath(FILENAME)) as own:
            return load_measured(own)
    hint = "write it by `python -m benchmarks.reproduce`"
    value = read_json(path, what="file of measured recipes", hint=hint)
    try:
        return {name: Measured.model_validate(entry) for name, entry in value["recipes"].items()}
    except (KeyError, AttributeError, ValidationError) as error:
        raise CompressError(
            f"the file of measured recipes {str(path)!r} is damaged",
            hint=hint,
            code="damaged-file",
            exit=Exit.MISSING,
        ) from error


def save_measured(results: Mapping[str, Measured], path: Path) -> None:
    """Write results by name of the recipe, atomically."""
    recipes: dict[str, Any] = {name: results[name].model_dump(mode="json") for name in sorted(results)}
    write_json(path, {"schema_version": SCHEMA_VERSION, "recipes": recipes})


def describe_recipe(recipe: Recipe, results: Measured | None) -> dict[str, Any]:
    """Return a recipe as JSON types, with its measured results (None: not measured) under ``ours``."""
    ours = None if results is None else results.model_dump(mode="json", exclude_none=True)
    return {**recipe.model_dump(mode="json", exclude_none=True), "ours": ours}
