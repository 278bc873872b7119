"""Save and load compact models.

The folder ``compact/`` contains ``model.json`` (how the dense network is built), ``plan.json`` (the channels
that were kept), ``weights.safetensors`` and ``verify.json``. It is complete: a copy on another machine can be
loaded there.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from pydantic import Field
from torch import nn

from compress import models
from compress.artifact.run import RunFolder, check_version
from compress.artifact.weights import load_state, read_weights, save_weights
from compress.core.errors import CompressError, Exit
from compress.core.files import current_folder, read_json, sha256_file, staged_directory, write_json
from compress.core.records import validate_record
from compress.core.spec import SCHEMA_VERSION, Costs, ModelSpec, Preprocess, Record

if TYPE_CHECKING:
    from compress.slicing import SlicePlan

MODULE_PREFIX = "module:"
"""Start of the name of a model that was passed as a module; such a name cannot be built again."""

_HINT = "finish the run with `compress train --resume`, or slice it again with `compress slice`"


class CompactInfo(Record):
    """``model.json``: description of a compact model.

    Attributes:
        created: time of writing, ISO 8601 in UTC.
        model: how the dense network is built.
        preprocess: how the input tensor is made from an image.
        classes: names of the outputs, in order.
        data: name of the data set it was trained on.
        method: name of the method that made it.
        dense: costs of the dense network.
        compact: costs of the compact model.
        weights_sha256: SHA-256 of ``weights.safetensors``.
        extra: other measured values, such as accuracies; JSON types only.
    """

    schema_version: int = SCHEMA_VERSION
    kind: Literal["compress-compact"] = "compress-compact"
    created: str
    model: ModelSpec
    preprocess: Preprocess
    classes: tuple[str, ...]
    data: str
    method: str
    dense: Costs
    compact: Costs
    weights_sha256: str
    extra: dict[str, Any] = Field(default_factory=dict)


def save_compact(
    run: RunFolder,
    model: nn.Module,
    spec: ModelSpec,
    plan: SlicePlan | None,
    verify: dict[str, Any],
    extra: dict[str, Any] | None = None,
    *,
    compact: Costs | None = None,
) -> CompactInfo:
    """Write `model` as the compact model of a run; the folder is replaced atomically.

    Call it in the process that writes the run (`RunFolder.is_writer`).

    Args:
        run: the run, which provides preprocessing, classes, method and dense costs.
        model: the compact model, an ordinary module without parametrizations.
        spec: how the dense network is built.
        plan: the channels that were kept; None if nothing was cut.
        verify: record of the check against the masked dense network; JSON types only.
        extra: see `CompactInfo`.
        compact: costs of `model`; None: those in the plan, or the dense costs without a plan.

    Raises:
        CompressError: ``disk-full``, ``not-writable``, ``not-a-tensor``; the previous compact model is
            then unchanged.
    """
    if compact is None:
        compact = plan.narrow if plan is not None else run.record.dense
    with staged_directory(run.compact) as folder:
        save_weights(folder / "weights.safetensors", model.state_dict())
        info = CompactInfo(
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            model=spec,
            preprocess=run.record.data.preprocess,
            classes=run.record.data.classes,
            data=run.record.data.name,
            method=run.record.method,
            dense=run.record.dense,
            compact=compact,
            weights_sha256=sha256_file(folder / "weights.safetensors"),
            extra=extra or {},
        )
        kept = plan.to_json() if plan is not None else {"schema_version": SCHEMA_VERSION, "kept": {}}
        write_json(folder / "model.json", info.model_dump(mode="json"))
        write_json(folder / "plan.json", kept)
        write_json(folder / "verify.json", {"schema_version": SCHEMA_VERSION, **verify})
    return info


def compact_info(run: str | Path | RunFolder) -> CompactInfo:
    """Return the description of a run's compact model.

    Args:
        run: an open run folder, its path, or the path of a ``compact/`` folder.

    Raises:
        CompressError: ``missing-file``, ``damaged-file``, ``schema-version``.
    """
    path = _folder(run) / "model.json"
    value = read_json(path, what="record of a compact model", hint=_HINT)
    if value.get("kind") != "compress-compact":
        raise CompressError(
            f"{str(path)!r} is not the record of a compact model (kind {value.get('kind')!r})",
            hint=_HINT,
            code="damaged-file",
            exit=Exit.MISSING,
        )
    check_version(path, value)
    return validate_record(path, value, CompactInfo, what="record of a compact model", hint=_HINT)


def load(
    run: str | Path | RunFolder, *, model: nn.Module | Callable[[], nn.Module] | None = None
) -> nn.Module:
    """Return the compact model of a run: an ordinary `torch.nn.Module` in evaluation mode, on the CPU.

    Args:
        run: an open run folder, its path, or the path of a ``compact/`` folder.
        model: the dense network, or a function that makes it, for a run that was trained from a module. It is
            copied; its weights do not matter.

    Raises:
        CompressError: (exit 3) ``missing-file``, ``damaged-file``, ``weights-mismatch``; (exit 2)
            ``schema-version``, ``model-changed``. ``weights.safetensors`` is checked against the SHA-256 in
            ``model.json``.

    Example:
        >>> model = load("runs/small")                 # doctest: +SKIP
    """
    folder = _folder(run)
    info = compact_info(run)
    plan = read_json(folder / "plan.json", what="slicing plan", hint=_HINT)
    path = folder / "weights.safetensors"
    state = read_weights(path, hint=_HINT)
    if sha256_file(path) != info.weights_sha256:
        raise CompressError(
            f"the weights {str(path)!r} do not match model.json (another SHA-256)",
            hint=_HINT,
            code="damaged-file",
            exit=Exit.MISSING,
        )
    network = _build(info.model) if model is None else _copied(model)
    if plan.get("kept"):
        network = _cut(network, plan, folder / "plan.json")
    load_state(network, state, source=str(path), hint=_HINT)
    return network.eval()


def build_dense(run: str | Path | RunFolder) -> nn.Module:
    """Return the dense network of a run with random weights (seed 0), in evaluation mode.

    It is the baseline when speed is measured.

    Raises:
        CompressError: as `compact_info` and `compress.models.build`.
    """
    return _build(compact_info(run).model).eval()


def _folder(run: str | Path | RunFolder) -> Path:
    """Return the folder that contains ``model.json``."""
    if isinstance(run, RunFolder):
        return current_folder(run.compact)
    path = Path(run).expanduser()
    if (path / "model.json").is_file():
        return path
    folder = current_folder(path / "compact")
    if folder.is_dir():
        return folder
    hint = "give the folder that `compress train --out` wrote"
    if path.is_file():
        what = f"{str(run)!r} is a file, not a run folder"
    elif not path.is_dir():
        what = f"there is no run folder {str(run)!r}"
    elif (path / "run.json").is_file():
        what, hint = f"the run {str(run)!r} has no compact model yet", _HINT
    else:
        what = f"the folder {str(run)!r} is not a run: it contains no run.json and no compact model"
    raise CompressError(what, hint=hint, code="missing-file", exit=Exit.MISSING)


def _build(spec: ModelSpec) -> nn.Module:
    """Build the dense network with seed 0; the global random generators are unchanged."""
    if spec.name.startswith(MODULE_PREFIX):
        raise CompressError(
            f"the run was trained from a module, {spec.name.removeprefix(MODULE_PREFIX)}, which only Python "
            "can make",
            hint="pass the dense network or a function that makes it: compress.load(run, model=...)",
            code="module-needed",
        )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return models.build_from_spec(spec)


def _copied(model: nn.Module | Callable[[], nn.Module]) -> nn.Module:
    network = copy.deepcopy(model) if isinstance(model, nn.Module) else model()
    return network.cpu()


def _cut(model: nn.Module, plan: dict[str, Any], path: Path) -> nn.Module:
    from compress.slicing import SlicePlan, apply_plan

    try:
        return apply_plan(model, SlicePlan.from_json(plan))
    except CompressError as error:
        raise CompressError(
            f"cannot use the slicing plan {str(path)!r}: {error.message}",
            hint=_HINT,
            code="damaged-file",
            exit=Exit.MISSING,
        ) from error
