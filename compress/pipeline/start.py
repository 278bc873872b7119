"""What a method starts from: given weights, or a dense network that is trained first and counted."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import nn

from compress import models
from compress.artifact import compact_info, load
from compress.core.errors import CompressError
from compress.core.spec import ModelSpec
from compress.pipeline.request import Resolved, TrainRequest
from compress.training import Progress, TrainConfig


@dataclass(frozen=True)
class Start:
    """A request whose dense network is trained.

    Attributes:
        resolved: with its weights, and the epochs that are left for the method.
        dense_epochs: epochs that went into the dense network here. dense_run: its run folder, or empty.
    """

    resolved: Resolved
    dense_epochs: int = 0
    dense_run: str = ""


def needs_dense(resolved: Resolved) -> bool:
    """Whether a dense network must be trained before the method can begin."""
    request = resolved.request
    return resolved.method.starts_dense and not request.weights and not request.teacher


def dense_epochs(resolved: Resolved) -> int:
    """How many of the epochs go into the dense network.

    Raises:
        CompressError: (exit 2) there are too few to share.
    """
    total = resolved.config.epochs
    left = 2 if resolved.method.chooses else 1
    if total <= left:
        raise CompressError(
            f"{resolved.method.name} trains the dense network first and needs more than {left} epochs, "
            f"{total} is given",
            hint=f"give --epochs {left + 1} or more, or --weights FILE",
            code="too-few-epochs",
        )
    share: float = getattr(resolved.options, "dense_share", 0.5)
    return max(1, min(total - left, round(share * total)))


def dense_folder(resolved: Resolved) -> Path:
    """Where the dense network is trained: as asked, or beside the run folder."""
    asked = resolved.request.dense_out
    return Path(asked) if asked is not None else Path(f"{resolved.out}-dense")


def dense_request(resolved: Resolved) -> TrainRequest:
    """The training of the dense network, which goes on with what is there."""
    request, out = resolved.request, dense_folder(resolved)
    return TrainRequest(
        method="dense",
        model=resolved.model,
        data=resolved.data,
        num_classes=resolved.num_classes,
        input_size=resolved.input_size,
        mean=request.mean,
        std=request.std,
        settings=_with_epochs(resolved.dense_config, dense_epochs(resolved)).model_dump(),
        out=out,
        resume=(out / "run.json").is_file(),
        workers=request.workers,
        dali=request.dali,
    )


def after_dense(resolved: Resolved, weights: str | None) -> Resolved:
    """The method's own training, in the epochs that are left, from the dense network's weights."""
    left = resolved.config.epochs - dense_epochs(resolved)
    request = replace(resolved.request, weights=weights)
    return replace(resolved, request=request, config=_with_epochs(resolved.config, left))


def train_dense(
    resolved: Resolved, progress: Progress | None, command: Sequence[str] | None, say: Callable[[str], None]
) -> Start:
    """Train the dense network in its own run folder, if the method needs one, or go on with it."""
    if not needs_dense(resolved):
        return Start(resolved)
    from compress.pipeline.training import train

    epochs = dense_epochs(resolved)
    left = resolved.config.epochs - epochs
    out = dense_folder(resolved)
    say(
        f"no weights are given: {resolved.method.name} trains the dense network first, {epochs} of "
        f"{resolved.config.epochs} epochs, in {out}; {left} are left for itself"
    )
    dense = dense_request(resolved)
    train(dense, progress=progress, command=command)
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.barrier()  # the first process writes what the others are about to read
    weights = str(out / "compact" / "weights.safetensors")
    settled = after_dense(resolved, weights)
    return Start(settled, epochs, str(out))


def _with_epochs(config: TrainConfig, epochs: int) -> TrainConfig:
    """The same settings over fewer epochs; warm-up and annealing shrink with them."""
    values = config.model_dump()
    scale = epochs / config.epochs
    warmup = values["warmup_epochs"] * scale
    marks = tuple(mark if mark < 1 else max(1.0, round(mark * scale)) for mark in config.milestones)
    anneal = config.anneal_epochs * scale if config.anneal_epochs is not None else None
    changed = {"epochs": epochs, "warmup_epochs": warmup, "milestones": marks, "anneal_epochs": anneal}
    return TrainConfig(**{**values, **changed})


def find_teacher(resolved: Resolved, model: nn.Module, spec: ModelSpec) -> nn.Module | None:
    """The network a method learns from: ``--teacher``, or a copy of the dense network with its weights.

    With a teacher and no weights the dense network starts from the teacher's (in place).

    Raises:
        CompressError: (exit 2) a teacher of another architecture or class count, or a narrow one.
    """
    if not resolved.method.teacher:
        return None
    text = resolved.request.teacher
    if text is None:
        return copy.deepcopy(model)
    teacher = _from_run(text, spec) if Path(text).is_dir() else _from_file(text, spec)
    if resolved.request.weights is None:
        model.load_state_dict(teacher.state_dict())
    return teacher


def _from_run(text: str, spec: ModelSpec) -> nn.Module:
    info = compact_info(text)
    if info.model.num_classes != spec.num_classes:
        raise CompressError(
            f"the teacher {text!r} tells {info.model.num_classes} classes apart, "
            f"the student {spec.num_classes}",
            hint="give a teacher that was trained on the same classes",
            code="teacher-classes",
        )
    if (info.model.name, info.model.source_sha256) != (spec.name, spec.source_sha256):
        raise CompressError(
            f"the teacher {text!r} is a {info.model.name}, the student a {spec.name}",
            hint="give a teacher of the student's architecture",
            code="teacher-architecture",
        )
    if info.compact != info.dense:
        raise CompressError(
            f"the teacher {text!r} is a narrow network (method {info.method})",
            hint="give a run of `compress train --method dense`",
            code="teacher-narrow",
        )
    return load(text)


def _from_file(text: str, spec: ModelSpec) -> nn.Module:
    try:
        return models.build(spec.name, spec.num_classes, spec.input_size, text, reset_head=False).eval()
    except CompressError as error:
        if error.code != "weights-mismatch":
            raise
        classes = "file_classes" in error.details
        raise CompressError(
            f"the teacher does not fit the student: {error.message}",
            hint="give a teacher of the student's architecture and classes",
            code="teacher-classes" if classes else "teacher-architecture",
            details=error.details,
        ) from error


__all__ = [
    "Start",
    "after_dense",
    "dense_epochs",
    "dense_folder",
    "dense_request",
    "find_teacher",
    "needs_dense",
    "train_dense",
]
