"""Checkpoints: everything that a resumed training needs to reach the same result.

A checkpoint is a `torch.save` file of tensors and plain values, readable with ``weights_only=True``. Its zip
container has a checksum of every member, all of which are verified before anything is read. It contains no
state of random generators: every epoch seeds its own (see `device.seed_everything`).
"""

from __future__ import annotations

import io
import pickle
import zipfile
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn

from compress.artifact import RunFolder
from compress.core.errors import CompressError, Exit
from compress.core.files import write_bytes
from compress.core.spec import SCHEMA_VERSION
from compress.training.method import TrainableMethod

State = dict[str, Any]
Which = Literal["last", "best"]


def checkpoint_path(run: RunFolder, which: Which = "last") -> Path:
    """Return the path of a run's last or best checkpoint."""
    return run.checkpoints / f"{which}.pt"


def save_checkpoint(run: RunFolder, state: State, *, best: bool) -> None:
    """Write `state` as the last checkpoint and, before that, as the best one if `best`.

    Raises:
        CompressError: ``disk-full`` or ``not-writable``; the older checkpoint is then unchanged.
    """
    buffer = io.BytesIO()
    torch.save({"kind": "compress-checkpoint", "schema_version": SCHEMA_VERSION, **state}, buffer)
    if best:
        write_bytes(checkpoint_path(run, "best"), buffer.getbuffer())
    write_bytes(checkpoint_path(run, "last"), buffer.getbuffer())


def load_checkpoint(run: RunFolder, which: Which = "last") -> State:
    """Return a checkpoint, its tensors on the CPU.

    Raises:
        CompressError: ``missing-file``, ``damaged-file`` (truncated or changed) or ``schema-version``,
            naming the file.
    """
    path = checkpoint_path(run, which)
    if not path.is_file():
        raise CompressError(
            f"there is no checkpoint {str(path)!r}",
            hint="train first, or give the folder of a run with at least one finished epoch",
            code="missing-file",
            exit=Exit.MISSING,
        )
    state = _read(run, path)
    if not isinstance(state, dict) or state.get("kind") != "compress-checkpoint":
        raise _damaged(run, path, "it is not a checkpoint of compress")
    if state.get("schema_version") != SCHEMA_VERSION:
        raise CompressError(
            f"{str(path)!r} has schema version {state.get('schema_version')!r}; "
            f"this version of compress reads {SCHEMA_VERSION}",
            hint="use the version of compress that wrote it, or train again with another --out",
            code="schema-version",
        )
    return state


def restore(
    run: RunFolder, model: nn.Module, method: TrainableMethod | None = None, *, which: Which = "last"
) -> int:
    """Load a checkpoint's weights (the average, if the training kept one) into `model`.

    Args:
        run: the run.
        model: the network in training, with the method's parametrizations.
        method: if given, its state is restored too.
        which: ``last`` or ``best``.

    Returns:
        The number of epochs that the weights were trained.

    Raises:
        CompressError: as `load_checkpoint`; ``weights-mismatch`` if the model is a different one.
    """
    state = load_checkpoint(run, which)
    load_model_state(model, state["ema"]["model"] if state["ema"] else state["model"], run, which)
    if method is not None:
        method.load_state_dict(state["method"])
    return int(state["epoch"])


def load_model_state(model: nn.Module, tensors: State, run: RunFolder, which: Which = "last") -> None:
    """Load a checkpoint's tensors strictly.

    Raises:
        CompressError: ``weights-mismatch``, naming the file and the difference.
    """
    try:
        model.load_state_dict(tensors)
    except RuntimeError as error:
        what = " ".join(str(error).split())[:400]
        raise CompressError(
            f"{str(checkpoint_path(run, which))!r} does not fit the model: {what}",
            hint="resume with the model and method of its run.json",
            code="weights-mismatch",
        ) from error


def _read(run: RunFolder, path: Path) -> Any:
    try:
        with zipfile.ZipFile(path) as archive:
            broken = archive.testzip()
        if broken is not None:
            raise _damaged(run, path, f"the checksum of {broken!r} is wrong")
        return torch.load(path, map_location="cpu", weights_only=True)
    except (zipfile.BadZipFile, pickle.UnpicklingError, EOFError, RuntimeError, OSError, ValueError) as error:
        raise _damaged(run, path, " ".join(str(error).split())[:200]) from error


def _damaged(run: RunFolder, path: Path, why: str) -> CompressError:
    best = checkpoint_path(run, "best")
    again = "train again with another --out"
    replace = f"to resume from the best epoch, replace it by a copy of {str(best)!r}; or {again}"
    return CompressError(
        f"the checkpoint {str(path)!r} is truncated or damaged: {why}",
        hint=replace if path != best and best.is_file() else again,
        code="damaged-file",
        exit=Exit.MISSING,
    )
