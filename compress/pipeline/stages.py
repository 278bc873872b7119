"""The stages of a training: a dense network first, where the method needs one, then the method itself.

`prepare_run` does everything that can fail early: it loads the data, builds and traces the dense network once
and plans it, before anything is trained or written.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import nn

from compress import models
from compress.artifact import compact_info, load
from compress.core.errors import CompressError
from compress.core.spec import ModelSpec
from compress.cost import dense_costs
from compress.data import ImageData, check_class_count
from compress.methods import METHODS, Dense, Method, Setup
from compress.pipeline.plan import PlannedNetwork, build_network
from compress.pipeline.request import ResolvedRequest, TrainRequest
from compress.training import TrainConfig
from compress.training.device import resolve_device


@dataclass(frozen=True)
class PreparedRun:
    """A training that has been checked and can begin.

    Attributes:
        dense: the training of a dense network before the method's, or None.
        main: the method's own training, in the epochs that are left for it.
        data: the images.
        network: the dense network; untrained if there is a stage `dense`.
        teacher: the teacher that was given, or None.
    """

    dense: ResolvedRequest | None
    main: ResolvedRequest
    data: ImageData
    network: PlannedNetwork
    teacher: nn.Module | None

    @property
    def stages(self) -> list[ResolvedRequest]:
        """The trainings in their order."""
        return [self.main] if self.dense is None else [self.dense, self.main]

    def method(self) -> Method:
        """Return the method, ready to be trained, for the dense network with its present weights."""
        teacher = self.teacher
        if teacher is None and self.main.method.uses_teacher:
            teacher = copy.deepcopy(self.network.model)
        setup = make_setup(self.main, self.network, self.data, teacher)
        torch.manual_seed(self.main.config.seed)  # what a method draws does not depend on earlier stages
        return self.main.method(self.main.options, setup)

    def dense_method(self) -> Method:
        """Return ordinary training of a copy of the dense network."""
        assert self.dense is not None
        network = replace(self.network, model=copy.deepcopy(self.network.model), plan=None)
        return self.dense.method(self.dense.options, make_setup(self.dense, network, self.data, None))

    def with_dense_weights(self) -> PreparedRun:
        """Return the same run with the weights that the dense stage has trained."""
        assert self.main.request.weights is not None
        models.load_weights(self.network.model, self.main.request.weights)
        if self.main.method.learns_plan:
            return self  # its plan only shows that the target can be met, and does not depend on weights
        return replace(self, network=self.network.planned(self.main))


def prepare_run(resolved: ResolvedRequest) -> PreparedRun:
    """Load the data, build, trace and plan the dense network, and check the request.

    Raises:
        CompressError: whatever is wrong with the request; nothing has been written.
    """
    resolve_device(resolved.config)
    data = resolved.load_data()
    classes = check_class_count(resolved.num_classes, data.info)
    network = build_network(resolved, classes, data.info.preprocess.input_size)
    teacher = find_teacher(resolved, network.model, network.spec)
    network = network.planned(resolved)
    resolved.method.check(resolved.options, make_setup(resolved, network, data, None))
    if not needs_dense(resolved):
        return PreparedRun(None, resolved, data, network, teacher)
    return PreparedRun(dense_stage(resolved), main_stage(resolved), data, network, teacher)


def make_setup(
    resolved: ResolvedRequest, network: PlannedNetwork, data: ImageData, teacher: nn.Module | None
) -> Setup:
    """Return what a method gets to prepare a network."""
    target = resolved.target
    batches = data.train_batches(epoch=0, batch_size=resolved.config.batch_size, seed=0)
    return Setup(
        model=network.model,
        graph=network.graph,
        plan=network.plan,
        config=resolved.config,
        steps_per_epoch=len(batches),
        cost=target.cost if target else "",
        budget=target.budget(dense_costs(network.graph)) if target else 0.0,
        align=resolved.request.align,
        teacher=teacher,
    )


def needs_dense(resolved: ResolvedRequest) -> bool:
    """Return whether a dense network must be trained before the method can begin."""
    has_weights = bool(resolved.request.weights) or resolved.has_trained_module
    return resolved.method.starts_from_dense and not has_weights and resolved.request.teacher is None


def dense_epochs(resolved: ResolvedRequest) -> int:
    """Return how many of the epochs the dense network is trained.

    Raises:
        CompressError: (exit 2) there are too few to share.
    """
    total = resolved.config.epochs
    left = 2 if resolved.method.learns_plan else 1
    if total <= left:
        raise CompressError(
            f"{resolved.method.name} trains the dense network first and needs at least {left + 1} epochs "
            f"(given: {total})",
            hint=f"give --epochs {left + 1} or more, or --weights FILE",
            code="too-few-epochs",
        )
    share: float = getattr(resolved.options, "dense_share", 0.5)
    return max(1, min(total - left, round(share * total)))


def dense_folder(resolved: ResolvedRequest) -> Path:
    """Return the run folder of the dense network: as requested, or next to the run folder."""
    requested = resolved.request.dense_out
    return Path(requested) if requested is not None else Path(f"{resolved.out}-dense")


def dense_stage(resolved: ResolvedRequest) -> ResolvedRequest:
    """Return the training of the dense network, which resumes the run that its folder may hold.

    Raises:
        CompressError: (exit 2) there are too few epochs to share.
    """
    request, out = resolved.request, dense_folder(resolved)
    config = with_epochs(resolved.dense_config, dense_epochs(resolved))
    dense_request = TrainRequest(
        method="dense",
        model=request.model,
        data=request.data,
        num_classes=resolved.num_classes,
        input_size=resolved.input_size,
        mean=request.mean,
        std=request.std,
        settings=config.model_dump(),
        out=out,
        resume=(out / "run.json").is_file(),
        workers=request.workers,
        dali=request.dali,
    )
    return replace(
        resolved,
        request=dense_request,
        recipe=None,
        method=METHODS["dense"],
        options=Dense(),
        config=config,
        dense_config=config,
        target=None,
        drop={},
    )


def main_stage(resolved: ResolvedRequest) -> ResolvedRequest:
    """Return the method's own training, in the epochs that are left, from the dense network's weights."""
    epochs = dense_epochs(resolved)
    return replace(
        resolved,
        request=replace(resolved.request, weights=str(dense_weights(resolved)), reset_head=None),
        config=with_epochs(resolved.config, resolved.config.epochs - epochs),
        dense_epochs=epochs,
    )


def dense_weights(resolved: ResolvedRequest) -> Path:
    """Return the file of the weights of a dense network that is trained first."""
    return dense_folder(resolved) / "compact" / "weights.safetensors"


def with_epochs(config: TrainConfig, epochs: int) -> TrainConfig:
    """Return the same settings over fewer epochs; warm-up and annealing shrink with them."""
    values = config.model_dump()
    scale = epochs / config.epochs
    warmup = values["warmup_epochs"] * scale
    marks = tuple(mark if mark < 1 else max(1.0, round(mark * scale)) for mark in config.milestones)
    anneal = config.anneal_epochs * scale if config.anneal_epochs is not None else None
    changed = {"epochs": epochs, "warmup_epochs": warmup, "milestones": marks, "anneal_epochs": anneal}
    return TrainConfig(**{**values, **changed})


def find_teacher(resolved: ResolvedRequest, model: nn.Module, spec: ModelSpec) -> nn.Module | None:
    """Return the teacher that was given, on the CPU, or None.

    With a teacher and no weights the dense network `model` starts from the teacher's weights (in place).

    Raises:
        CompressError: (exit 2) a teacher of another architecture or class count, or a compact one.
    """
    given = resolved.request.teacher
    if not resolved.method.uses_teacher or given is None:
        return None
    if isinstance(given, nn.Module):
        teacher = copy.deepcopy(given).cpu()
    else:
        teacher = _from_run(given, spec) if Path(given).is_dir() else _from_file(given, spec)
    if resolved.request.weights is None and not resolved.has_trained_module:
        _copy_weights(teacher, model)
    return teacher


def _copy_weights(teacher: nn.Module, model: nn.Module) -> None:
    try:
        model.load_state_dict(teacher.state_dict())
    except RuntimeError as error:
        raise CompressError(
            f"the teacher, a {type(teacher).__name__}, does not fit the student, a {type(model).__name__}: "
            f"{' '.join(str(error).split())[:300]}",
            hint="give a teacher of the student's architecture, or weights for the student",
            code="teacher-architecture",
        ) from error


def _from_run(text: str, spec: ModelSpec) -> nn.Module:
    info = compact_info(text)
    if info.model.num_classes != spec.num_classes:
        raise CompressError(
            f"the teacher {text!r} has {info.model.num_classes} classes, the student {spec.num_classes}",
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
            f"the teacher {text!r} is a compact model (method {info.method})",
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
