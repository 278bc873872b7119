"""Results of trained recipes, their comparison with the published rows, and the files that hold them."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from benchmarks.common import write_result
from compress.core.files import read_json
from compress.core.spec import DataInfo
from compress.recipes import Measured, Published, Recipe, list_recipes, load, save_measured

NAME = "reproduce"
SCHEMA_VERSION = 1

Form = Literal["whole", "short", "changed", "other data"]
"""The recipe unchanged; with other epochs; other settings; other images. Only ``whole`` is compared."""

DATA: dict[str, tuple[int, int, int, tuple[float, ...] | None]] = {
    "cifar10": (50_000, 10_000, 10, (0.4914, 0.4822, 0.4465)),
    "cifar100": (50_000, 10_000, 100, (0.5071, 0.4865, 0.4409)),
    "folder:imagenet": (1_281_167, 50_000, 1000, None),
}
"""Numbers of training and test images, of classes, and channel means, by which a data set is recognized."""


def is_data_of(recipe: Recipe, info: DataInfo, own_mean: bool) -> bool:
    """Return whether the images are those of the recipe, whatever their source.

    Args:
        own_mean: whether the mean in `info` is that of the images and not one the user gave.
    """
    if recipe.data is None or info.name == recipe.data:
        return True
    if recipe.data not in DATA:
        return False
    train, test, classes, mean = DATA[recipe.data]
    if (info.train_size, info.test_size, info.num_classes) != (train, test, classes):
        return False
    if mean is None or not own_mean:
        return True
    return all(abs(a - b) < 0.002 for a, b in zip(info.preprocess.mean, mean, strict=True))


def against(recipe: Recipe, form: Form, macs: int, params: int, top1: float, best: float) -> dict[str, Any]:
    """Compare a result with the published row of the recipe, or of the one it refers to.

    Args:
        macs, params: of the compact network. top1, best: of the last and of the best epoch, percent.

    Returns:
        ``row``, and ``why`` if nothing is compared. Else the differences: percentage points for accuracies,
        percent for costs; ``reaches`` for the last epoch and ``best_reaches`` for the best one, which the
        papers' code keeps.
    """
    row = recipe.name if recipe.published is not None else recipe.reference
    if row is None:
        return {"row": None, "why": "no row is published for it"}
    if form != "whole":
        return {"row": row, "why": f"not compared: {form}"}
    published = recipe.published or load(row).published
    if published is None or published.top1 is None:
        return {"row": row, "why": "no accuracy is published for it"}
    exact = recipe.exact
    return {
        "row": row,
        "reproduction": row == recipe.name and not recipe.own_widths,
        "published": published.model_dump(exclude_none=True),
        "exact_costs": None if exact is None else (macs, params) == (exact.macs, exact.params),
        "macs_percent": 100 * (macs / published.macs - 1),
        "params_percent": _percent(params, published),
        "top1_points": top1 - published.top1,
        "best_points": best - published.top1,
        "reaches": top1 >= published.top1,
        "best_reaches": best >= published.top1,
    }


def _percent(params: int, published: Published) -> float | None:
    return None if published.params is None else 100 * (params / published.params - 1)


def merge(entry: dict[str, Any], folder: Path, measured: Path) -> Path:
    """Write an entry to ``reproduce.json`` in a folder; it replaces one of the same recipe, seed and form.

    `measured` is written again from all ``whole`` entries.
    """
    path = folder / f"{NAME}.json"
    entries = read_entries(path)
    key = ("recipe", "seed", "form")
    kept = [old for old in entries if any(old[word] != entry[word] for word in key)]
    entries = sorted([*kept, entry], key=lambda one: tuple(one[word] for word in key))
    write_result(NAME, {"schema_version": SCHEMA_VERSION, "entries": entries}, folder)
    save_measured(summarize(entries), measured)
    return path


def read_entries(path: Path) -> list[dict[str, Any]]:
    """Return the entries of a file; an empty list if it does not exist."""
    if not path.is_file():
        return []
    entries: list[dict[str, Any]] = read_json(path, what="file of reproductions")["entries"]
    return entries


def summarize(entries: Sequence[dict[str, Any]]) -> dict[str, Measured]:
    """Return the mean results over the seeds of ``whole`` entries, by recipe."""
    known = set(list_recipes())
    whole = [entry for entry in entries if entry["form"] == "whole" and entry["recipe"] in known]
    names = dict.fromkeys(entry["recipe"] for entry in whole)
    return {name: _mean([entry for entry in whole if entry["recipe"] == name]) for name in names}


def _mean(same: list[dict[str, Any]]) -> Measured:
    top1 = [entry["top1"] for entry in same]
    last = max(same, key=lambda entry: str(entry["date"]))
    machine = last["machine"]
    return Measured(
        top1=statistics.mean(top1),
        spread=statistics.stdev(top1) if len(top1) > 1 else None,
        best_top1=statistics.mean(entry["best_top1"] for entry in same),
        seeds=tuple(sorted(entry["seed"] for entry in same)),
        epochs=last["epochs"],
        minutes=statistics.mean(entry["minutes"] for entry in same),
        macs=last["macs"],
        params=last["params"],
        machine=", ".join(machine["gpus"]) or machine["cpu"],
        date=last["date"],
    )
