"""What we measured of the recipes: `measured.json`, which the benchmark `reproduce` writes."""

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
    """What whole trainings by a recipe came to.

    Attributes:
        top1: of the last epoch on the test images, percent, mean of the seeds. spread: its standard
            deviation over the seeds; None for one seed. best_top1: the same of each training's best epoch.
        seeds: which. epochs, minutes: of one training. macs, params: of the compact network.
        machine: what trained it. date: of the latest, ISO 8601.
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
    """Return ours by the name of the recipe: of the package, or of the file at `path`.

    Raises:
        CompressError: (exit 3) the file is missing or damaged.
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


def save_measured(found: Mapping[str, Measured], path: Path) -> None:
    """Write what was measured, by the name of the recipe, whole or not at all."""
    recipes: dict[str, Any] = {name: found[name].model_dump(mode="json") for name in sorted(found)}
    write_json(path, {"schema_version": SCHEMA_VERSION, "recipes": recipes})


def describe_recipe(recipe: Recipe, ours: Measured | None) -> dict[str, Any]:
    """A recipe as JSON types, with what was measured of it (None: nothing yet) under ``ours``."""
    found = None if ours is None else ours.model_dump(mode="json", exclude_none=True)
    return {**recipe.model_dump(mode="json", exclude_none=True), "ours": found}
