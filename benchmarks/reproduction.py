"""Training of one recipe and seed in pieces, each of which resumes the one before, on any machine."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks.budget import Budget, BudgetUsed
from benchmarks.reproduction_results import Form, against, is_data_of
from compress.artifact import RunFolder, this_machine, versions
from compress.artifact.run import CHANGEABLE_ON_RESUME
from compress.core import console
from compress.core.files import read_json, write_json
from compress.core.spec import DataInfo
from compress.pipeline import TrainRequest, TrainResult, resolve, run_training
from compress.recipes import Recipe, load

NEUTRAL_SETTINGS = (*CHANGEABLE_ON_RESUME, "precision", "channels_last", "seed", "compile", "data_on_device")
"""Settings that do not change a recipe: where and how fast it is trained."""


@dataclass(frozen=True)
class Overrides:
    """Arguments of a training besides its recipe; see `compress.pipeline.TrainRequest`."""

    data: str | None = None
    weights: str | None = None
    teacher: str | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    settings: dict[str, Any] = field(default_factory=dict)
    workers: int = 2


@dataclass(frozen=True)
class Unfinished:
    """State of a training that the budget ended."""

    recipe: str
    seed: int
    finished: int
    epochs: int
    out: Path


def form_of(recipe: Recipe, overrides: Overrides, info: DataInfo) -> Form:
    """Return whether a training follows the recipe, or how it differs.

    A recipe whose launch commands start from a trained network must be given one; another one must not.
    """
    if not is_data_of(recipe, info, overrides.mean is None):
        return "other data"
    changed = {
        k
        for k, value in overrides.settings.items()
        if k not in NEUTRAL_SETTINGS and recipe.train.get(k) != value
    }
    if "epochs" in changed:
        return "short"
    launch = recipe.launch.gpu if recipe.launch is not None else ""
    starts = "--weights" in launch or "--teacher" in launch
    given = overrides.weights is not None or overrides.teacher is not None
    return "changed" if changed or starts != given else "whole"


class Reproduction:
    """A recipe and seed in a folder: ``run/``, ``dense/`` if a dense network is trained first, and notes.

    Only the folder is needed to resume on another machine, with the same arguments. Relative paths of data
    and weights must be valid there too.

    Args:
        name: of the recipe, or of its file. out: the folder. command: the command line, for the record.
    """

    def __init__(self, name: str, seed: int, out: Path, overrides: Overrides, command: Sequence[str]) -> None:
        self.recipe: Recipe = load(name)
        self.seed, self.out, self.overrides, self.command = seed, out, overrides, tuple(command)
        self.request = TrainRequest(
            recipe=name,
            data=overrides.data,
            weights=overrides.weights,
            teacher=overrides.teacher,
            mean=overrides.mean,
            std=overrides.std,
            settings={**overrides.settings, "seed": seed},
            out=out / "run",
            dense_out=out / "dense",
            resume=(out / "run" / "run.json").is_file(),
            workers=overrides.workers,
        )
        self._resolved = resolve(self.request)

    def train(self, budget: Budget) -> dict[str, Any] | Unfinished | None:
        """Start or resume the training, until its end or until the budget is used.

        Returns:
            The entry of a finished training, the state of an unfinished one, or None on processes of
            `torchrun` other than the first.

        Raises:
            CompressError: see `compress.pipeline.train`.
        """
        entry = self._finished_entry()
        if entry is not None:
            return entry
        piece = _Piece(self.out, self.command)
        budget.saved = piece.note
        try:
            result = run_training(
                self.request, progress=budget, command=self.command, say=console.print_message
            )
        except BudgetUsed as used:
            return Unfinished(self.recipe.name, self.seed, used.finished, used.epochs, self.out)
        if not result.is_first:
            return None
        piece.note(result.epochs)
        entry = self._entry(result, piece)
        write_json(self.out / "outcome.json", {"identity": self._identity(), "entry": entry})
        return entry

    def _finished_entry(self) -> dict[str, Any] | None:
        """Return the entry of an earlier command that finished exactly this training."""
        path = self.out / "outcome.json"
        if not path.is_file():
            return None
        outcome = read_json(path, what="outcome of a recipe")
        entry: dict[str, Any] = outcome["entry"]
        return entry if outcome["identity"] == self._identity() else None

    def _identity(self) -> dict[str, Any]:
        settings = {key: v for key, v in self._resolved.settings().items() if key not in CHANGEABLE_ON_RESUME}
        target = self._resolved.target
        words = {
            "data": self._resolved.data,
            "model": self._resolved.model.name,
            "target": target.text if target is not None else None,
        }
        text: dict[str, Any] = _as_json({**words, **settings, "method": self._resolved.method.name})
        return text

    def _entry(self, result: TrainResult, piece: _Piece) -> dict[str, Any]:
        data = RunFolder.open(self.out / "run").record.data
        form = form_of(self.recipe, self.overrides, data)
        top1, best = 100 * result.top1, 100 * result.best_top1
        costs = result.compact
        return {
            "recipe": self.recipe.name,
            "seed": self.seed,
            "form": form,
            "method": result.method,
            "epochs": result.epochs + result.dense_epochs,
            "dense_epochs": result.dense_epochs,
            "minutes": sum(one["minutes"] for one in piece.all),
            "pieces": len(piece.all),
            "macs": costs.macs,
            "params": costs.params,
            "dense_macs": result.dense.macs,
            "dense_params": result.dense.params,
            "top1": top1,
            "best_top1": best,
            "best_epoch": result.best_epoch,
            "against": against(self.recipe, form, costs.macs, costs.params, top1, best),
            "data": {"name": Path(data.name).name, "fingerprint": data.fingerprint},
            "settings": _as_json(self.overrides.settings),
            "weights": None if self.overrides.weights is None else Path(self.overrides.weights).name,
            "teacher": None if self.overrides.teacher is None else Path(self.overrides.teacher).name,
            "command": " ".join(self.command),
            "date": datetime.now(UTC).isoformat(timespec="seconds"),
            "machine": this_machine().model_dump(mode="json"),
            "versions": versions(),
        }


class _Piece:
    """The record of the pieces of a training, `pieces.json`; the current one is written after every epoch."""

    def __init__(self, out: Path, command: Sequence[str]) -> None:
        self._path, self._began = out / "pieces.json", time.monotonic()
        before = read_json(self._path, what="notes on a training")["pieces"] if self._path.is_file() else []
        machine = this_machine()
        self._own = {
            "began": datetime.now(UTC).isoformat(timespec="seconds"),
            "machine": ", ".join(machine.gpus) or machine.cpu,
            "command": " ".join(command),
        }
        self._before: list[dict[str, Any]] = before
        self.all: list[dict[str, Any]] = before

    def note(self, finished: int) -> None:
        """Write the progress of this piece."""
        minutes = (time.monotonic() - self._began) / 60
        self.all = [*self._before, {**self._own, "minutes": minutes, "finished": finished}]
        write_json(self._path, {"pieces": self.all})


def _as_json(value: Any) -> Any:
    """Return a value with the types that are read back from a JSON file."""
    import json

    return json.loads(json.dumps(value))
