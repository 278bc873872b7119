"""Resuming: the settings of a run come from its `run.json`; a setting that is given must agree with it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import nn

from compress.artifact import RunRecord
from compress.artifact.compact import MODULE_PREFIX
from compress.artifact.run import CHANGEABLE_ON_RESUME, read_record
from compress.core.errors import CompressError, Exit
from compress.methods import METHODS, MethodConfig
from compress.pipeline.request import DenseSource, ResolvedRequest, TrainRequest, resolve, validated
from compress.pipeline.stages import with_epochs
from compress.training import TrainConfig


def resolve_or_resume(request: TrainRequest) -> ResolvedRequest:
    """Resolve a request; with `resume` and a run in its folder, everything comes from the run's record.

    Raises:
        CompressError: as `resolve`; ``resume-mismatch`` for a given setting that differs from the record.
    """
    if not request.resume:
        return resolve(request)
    resolved = None
    if request.out is None or not _has_run(request):
        resolved = _resolve_unfinished(request)
        request = replace(request, out=resolved.out)
    return resolve_from_record(request) if _has_run(request) else (resolved or resolve(request))


def _has_run(request: TrainRequest) -> bool:
    return request.out is not None and (Path(request.out) / "run.json").is_file()


def _resolve_unfinished(request: TrainRequest) -> ResolvedRequest:
    """Resolve a resumed request that has no run yet, such as one stopped in its dense stage."""
    dense = Path(f"{request.out}-dense")
    if request.model is None and request.recipe is None and (dense / "run.json").is_file():
        command = " ".join(read_record(dense).command)
        raise CompressError(
            f"{str(request.out)!r} contains no run yet: it was stopped while its dense network was trained",
            hint=f"give the whole command with --resume: {command} --resume",
            code="nothing-to-resume",
        )
    if request.model is None and request.recipe is None:
        raise CompressError(
            "--resume needs --out RUN"
            if request.out is None
            else f"there is no run to resume in {str(request.out)!r}: it contains no run.json",
            hint="give the folder of an interrupted run: --resume --out RUN; or start without --resume",
            code="nothing-to-resume",
            exit=Exit.USAGE if request.out is None else Exit.MISSING,
        )
    return resolve(request)


def resolve_from_record(request: TrainRequest) -> ResolvedRequest:
    """Return the method's stage of the run in `request.out`, as its record describes it.

    Raises:
        CompressError: ``resume-mismatch`` naming what differs; a module or data set object that is missing.
    """
    assert request.out is not None
    record = read_record(Path(request.out))
    stored = _stored_request(record)
    config = _merged_config(record, request)
    options = {**stored.options, **_given_options(request)}
    differing = _differences(record, stored, request)
    if differing:
        shown = ", ".join(f"{key} (was {was!r}, now {now!r})" for key, was, now in differing[:5])
        raise CompressError(
            f"cannot resume {str(request.out)!r} with other settings: {shown}",
            hint="leave them out: --resume --out RUN suffices; or train again with another --out",
            code="resume-mismatch",
            details={"differing": [key for key, _, _ in differing]},
        )
    resolved = resolve(
        replace(
            stored,
            model=request.model if isinstance(request.model, nn.Module) else stored.model,
            data=request.data if request.data is not None else stored.data,
            teacher=request.teacher if request.teacher is not None else stored.teacher,
            pretrained=request.pretrained,
            settings=config.model_dump(),
            options=options,
            out=request.out,
            resume=True,
            workers=request.workers,
            dali=request.dali or stored.dali,
            profile=request.profile,
        )
    )
    _require_objects(resolved)
    recipe = record.settings.get("recipe")
    return replace(
        resolved,
        request=replace(resolved.request, recipe=recipe),
        dense_epochs=int(record.settings.get("dense_epochs", 0)),
    )


def _stored_request(record: RunRecord) -> TrainRequest:
    """Return the request of a run's method stage."""
    settings = record.settings

    def numbers(key: str) -> tuple[float, ...] | None:
        return tuple(settings[key]) if settings.get(key) is not None else None

    return TrainRequest(
        method=record.method,
        model=record.model.name,
        data=record.data.name,
        target=record.target or None,
        drop=settings.get("drop") or {},
        num_classes=record.model.num_classes,
        input_size=record.model.input_size,
        mean=numbers("mean"),
        std=numbers("std"),
        weights=settings.get("weights"),
        reset_head=settings.get("reset_head"),
        teacher=settings.get("teacher"),
        align=settings.get("align", "auto"),
        settings={key: settings[key] for key in TrainConfig.model_fields if key in settings},
        options=dict(settings.get("options") or {}),
        dali=bool(settings.get("dali")),
    )


def _given_options(request: TrainRequest) -> dict[str, Any]:
    if isinstance(request.method, MethodConfig):
        return request.method.model_dump()
    return request.options


def _merged_config(record: RunRecord, request: TrainRequest) -> TrainConfig:
    """Return the recorded settings; those that do not change the result may be given anew."""
    stored = {key: record.settings[key] for key in TrainConfig.model_fields if key in record.settings}
    free = {key: value for key, value in request.settings.items() if key in CHANGEABLE_ON_RESUME}
    return validated(TrainConfig, {**stored, **free}, "setting")


def _differences(
    record: RunRecord, stored: TrainRequest, request: TrainRequest
) -> list[tuple[str, Any, Any]]:
    """Return (name, recorded value, given value) of everything that is given and differs."""
    given: dict[str, Any] = {
        key: getattr(request, key)
        for key in ("target", "drop", "num_classes", "input_size", "mean", "std", "weights", "reset_head")
        if getattr(request, key)
    }
    was: dict[str, Any] = {key: getattr(stored, key) for key in given}
    if request.align != "auto":
        given["align"], was["align"] = request.align, stored.align
    if isinstance(request.teacher, str):
        given["teacher"], was["teacher"] = request.teacher, stored.teacher
    if request.recipe:
        given["recipe"], was["recipe"] = request.recipe, record.settings.get("recipe")
    if request.method is not None:
        method = request.method
        name = METHODS.of_config(method).name if isinstance(method, MethodConfig) else method
        given["method"], was["method"] = name, record.method
    if request.model is not None:
        spec = DenseSource.of(request.model).spec(record.model.num_classes, record.model.input_size)
        given["model"], was["model"] = spec.name, record.model.name
    config = _stage_settings(record, request)
    for key, value in config.items():
        given[key], was[key] = value, record.settings.get(key)
    if "epochs" in given:
        was["epochs"] = record.settings["epochs"] + int(record.settings.get("dense_epochs", 0))
    if record.method == given.get("method", record.method):
        recorded = record.settings.get("options") or {}
        for key, value in _given_options(request).items():
            given[key], was[key] = value, recorded.get(key)
    return [(key, was[key], value) for key, value in given.items() if _plain(was[key]) != _plain(value)]


def _stage_settings(record: RunRecord, request: TrainRequest) -> dict[str, Any]:
    """Return the given settings as the method's stage would have them after a dense stage."""
    keys = [key for key in request.settings if key not in CHANGEABLE_ON_RESUME]
    if not keys:
        return {}
    dense_epochs = int(record.settings.get("dense_epochs", 0))
    stored = {key: record.settings[key] for key in TrainConfig.model_fields if key in record.settings}
    total = stored["epochs"] + dense_epochs
    given = {key: request.settings[key] for key in keys}
    if not dense_epochs:
        config = validated(TrainConfig, {**stored, **given}, "setting")
        return {key: config.model_dump(mode="json")[key] for key in keys}
    scaled = ("warmup_epochs", "milestones", "anneal_epochs")
    base = {key: value for key, value in stored.items() if key not in scaled}
    config = validated(TrainConfig, {**base, "epochs": total, **given}, "setting")
    if config.epochs != total:
        return {"epochs": config.epochs}
    stage = with_epochs(config, stored["epochs"]).model_dump(mode="json")
    return {key: stage[key] if key != "epochs" else total for key in keys}


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _require_objects(resolved: ResolvedRequest) -> None:
    """Check that objects which a record can only name were passed again.

    Raises:
        CompressError: ``module-needed`` or ``no-data``.
    """
    if resolved.model.module is None and resolved.model.name.startswith(MODULE_PREFIX):
        raise CompressError(
            f"the run was trained from a module, {resolved.model.name.removeprefix(MODULE_PREFIX)}",
            hint="resume it from Python and pass the module: compress.train(model, ..., resume=True)",
            code="module-needed",
        )


__all__ = ["resolve_from_record", "resolve_or_resume"]
