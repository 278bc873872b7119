"""Compare methods: the same network, data, target and number of epochs, several seeds, one table.

Every method and seed has a run folder of its own, so a comparison that was stopped resumes where it was. A
dense network that several methods start from is trained once per seed; its epochs count for each of them.
"""

from __future__ import annotations

import logging
import re
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from torch import nn

from compress.artifact import RunFolder, compact_info
from compress.bench.comparison.record import (
    BASELINES,
    ComparedRun,
    Comparison,
    MethodLatency,
    MethodSummary,
    matching_baselines,
    plot_comparison,
    summarize,
)
from compress.bench.files import onnx_pair
from compress.bench.pipeline import bench
from compress.bench.results import record
from compress.bench.results.table import summary_row
from compress.core.errors import CompressError
from compress.core.files import read_json, write_json
from compress.methods import METHODS, MethodConfig
from compress.pipeline import TrainRequest, dense_epochs, needs_dense, resolve, run_training
from compress.pipeline.objects import DataLike, as_image_data
from compress.pipeline.request import ResolvedRequest
from compress.training import Progress, TrainConfig
from compress.training.metrics import read_metrics
from compress.training.progress import notebook_progress

Say = Callable[[str], None]
MethodLike = MethodConfig | str

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ComparisonRequest:
    """A comparison as it is requested.

    Attributes:
        methods: name in the comparison -> a method by name, or its configuration object.
        training: what all trainings have in common; its method, run folders, `options` and the settings
            ``epochs`` and ``seed`` are filled in for each. A method keeps the training defaults of its own,
            such as the learning rate of KDFS.
        epochs: epochs of every method, including those of its dense network.
        seeds: number of seeds, from 0.
        out: folder of the run folders and the result.
        method_settings: name in the comparison -> settings of that method and of its training.
        latency: whether to measure the latency of the first seed's networks.
    """

    methods: Mapping[str, MethodLike]
    training: TrainRequest
    epochs: int
    seeds: int
    out: Path
    method_settings: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    latency: bool = True


def compare(
    model: nn.Module | str,
    data: DataLike,
    methods: Sequence[MethodLike] | Mapping[str, MethodLike],
    *,
    target: str,
    epochs: int,
    seeds: int = 3,
    out: str | Path | None = None,
    method_settings: Mapping[str, Mapping[str, Any]] | None = None,
    weights: str | Path | None = None,
    reset_head: bool | None = None,
    teacher: nn.Module | str | None = None,
    pretrained: bool = True,
    num_classes: int | None = None,
    input_size: tuple[int, int, int] | None = None,
    mean: tuple[float, ...] | None = None,
    std: tuple[float, ...] | None = None,
    align: str = "auto",
    workers: int = 2,
    latency: bool = True,
    progress: Progress | Literal["auto"] | None = "auto",
    say: Say = logger.info,
    **settings: Any,
) -> Comparison:
    """Train every method with every seed, measure the compact models, and return the results side by side.

    `compare.json` and `compare.png` are written to `out`; a comparison that was stopped there is resumed.

    Args:
        model: the dense network, which is not changed, or its name.
        data: a data set of `compress.data`, a pair (train, test) of torch datasets or data loaders, or a
            name.
        methods: names or configuration objects such as ``compress.KDFS()``. Two configurations of one
            method need names: ``{"kdfs-a": compress.KDFS(...), "kdfs-b": compress.KDFS(...)}``.
        target: cost of the compact models, as for `compress.train`.
        epochs: epochs of every method, including those of a dense network that it trains first.
        seeds: number of seeds, from 0.
        out: folder of the runs. None: a temporary folder that is removed with the result.
        method_settings: method name -> settings of that method and of its training.
        weights: weights of the dense network: a file, or the run folder of a dense network. Without them
            the methods that start from a trained network train it within their epochs.
        reset_head: as for `compress.train`, like the following arguments.
        teacher: a trained dense network for the methods that learn from one.
        pretrained: whether the weights of a module passed as `model` are trained.
        num_classes: classes of the model; None: those of the data.
        input_size: channels, height and width of an image, for data by name.
        mean: normalization per channel, on the 0 to 1 scale; None: the data's own.
        std: likewise.
        align: ``auto``, ``none`` or a number that widths are multiples of.
        workers: processes that decode images, for data by name.
        latency: measure the first seed's compact models in pairs with the dense network.
        progress: ``auto``: a bar in a notebook or on a terminal; None: none; or an object of your own.
        say: receives messages about the current step.
        **settings: fields of `compress.training.TrainConfig`, for every training.

    Returns:
        The result; it prints as a table.

    Raises:
        CompressError: ``bad-option``: no methods, no seeds, or a method that does not reduce the network;
            ``run-exists``: `out` has a different comparison; and whatever a training or measurement raises.

    Example:
        >>> import compress
        >>> result = compress.compare("vgg_small", "digits", [compress.Scratch()], target="macs=0.5",
        ...                           epochs=1, seeds=1, input_size=(1, 8, 8), latency=False, progress=None)
        >>> [row.method for row in result.rows]
        ['scratch']
    """
    temporary = tempfile.TemporaryDirectory(prefix="compress-") if out is None else None
    training = TrainRequest(
        model=model,
        data=data if isinstance(data, str) else as_image_data(data),
        target=target,
        num_classes=num_classes,
        input_size=input_size,
        mean=mean,
        std=std,
        weights=None if weights is None else str(weights),
        reset_head=reset_head,
        teacher=teacher,
        pretrained=pretrained,
        align=align,
        workers=workers,
        settings=settings,
    )
    request = ComparisonRequest(
        methods=methods if isinstance(methods, Mapping) else named_methods(methods),
        training=training,
        epochs=epochs,
        seeds=seeds,
        out=Path(temporary.name if temporary is not None else out or ""),
        method_settings=method_settings or {},
        latency=latency,
    )
    shown = notebook_progress() if progress == "auto" else progress
    result = run_comparison(request, progress=shown, say=say)
    result._temporary = temporary
    return result


def named_methods(methods: Iterable[MethodLike]) -> dict[str, MethodLike]:
    """Return each method under its name; one that is given twice is used once.

    Raises:
        CompressError: ``bad-option``: two configurations of one method; ``unknown-method``.
    """
    named: dict[str, MethodLike] = {}
    for method in methods:
        name = method if isinstance(method, str) else METHODS.of_config(method).name
        if named.setdefault(name, method) != method:
            raise CompressError(
                f"the method {name!r} is given with two configurations",
                hint='name them: methods={"a": ..., "b": ...}',
                code="bad-option",
            )
    return named


def run_comparison(
    request: ComparisonRequest, *, progress: Progress | None = None, say: Say = logger.info
) -> Comparison:
    """Run a comparison as requested; write `compare.json` and `compare.png`.

    Raises:
        CompressError: as `compare`.
    """
    if not request.methods or request.seeds < 1:
        raise CompressError(
            f"a comparison needs methods and seeds: {len(request.methods)} methods, {request.seeds} seeds",
            hint="give --methods A,B and --seeds 1 or more",
            code="bad-option",
        )
    for name, method in request.methods.items():
        _check_method(name, method)
    trainings = [_training(request, name, seed) for seed in range(request.seeds) for name in request.methods]
    resolved = [_checked(training) for _, training in trainings]  # before anything is trained
    runs = [
        _train_or_read(name, training, stage, progress, say)
        for (name, training), stage in zip(trainings, resolved, strict=True)
    ]
    module = resolved[0].model.module
    measured = {
        name: _measure_latency(request.out / f"{name}-s0", module, say) if request.latency else None
        for name in request.methods
    }
    rows = tuple(summarize(n, [r for r in runs if r.method == n], measured[n]) for n in request.methods)
    result = _result(request, resolved[0], rows, runs)
    write_json(request.out / "compare.json", result.model_dump(mode="json"))
    plot_comparison(result, request.out / "compare.png")
    return result


def _check_method(name: str, method: MethodLike) -> None:
    if not re.fullmatch(r"[\w.+-]+", name) or name.startswith("."):
        raise CompressError(
            f"{name!r} cannot be the name of a folder",
            hint="use letters, digits, '-', '_', '+' and '.'",
            code="bad-option",
        )
    kind = METHODS.get_or_raise(method) if isinstance(method, str) else METHODS.of_config(method)
    if not kind.needs_target:
        raise CompressError(
            f"the method {name!r} does not produce a compact model", hint="leave it out", code="bad-option"
        )


def _training(request: ComparisonRequest, name: str, seed: int) -> tuple[str, TrainRequest]:
    """Return the training of one method with one seed."""
    method = request.methods[name]
    kind = METHODS[method] if isinstance(method, str) else METHODS.of_config(method)
    given = request.method_settings.get(name, {})
    own = {key: value for key, value in given.items() if key in TrainConfig.model_fields}
    options = {key: value for key, value in given.items() if key not in own}
    if options and not isinstance(method, str):
        raise CompressError(
            f"settings of the method {name!r} are given twice: {', '.join(options)}",
            hint=f"pass them to {type(method).__name__}(...)",
            code="bad-option",
        )
    shared = {**request.training.settings, "epochs": request.epochs, "seed": seed}
    out = request.out / f"{name}-s{seed}"
    training = replace(
        request.training,
        method=method,
        teacher=request.training.teacher if kind.uses_teacher else None,
        settings={**shared, **kind.training_defaults, **own},
        options=options,
        dense_settings=shared,
        out=out,
        resume=(out / "run.json").is_file(),
    )
    resolved = resolve(training)
    if not needs_dense(resolved):
        return name, training
    return name, replace(training, dense_out=request.out / f"dense{dense_epochs(resolved)}-s{seed}")


def _checked(training: TrainRequest) -> ResolvedRequest:
    """Return the resolved training; refuse too few epochs for a dense network."""
    resolved = resolve(training)
    if needs_dense(resolved):
        dense_epochs(resolved)
    return resolved


def _train_or_read(
    name: str, training: TrainRequest, resolved: ResolvedRequest, progress: Progress | None, say: Say
) -> ComparedRun:
    """Train a run, or read it if it is finished."""
    out = resolved.out
    if not (out / "compact" / "model.json").is_file():
        say(f"training {out.name}")
        run_training(training, progress=progress, say=say)
    info = compact_info(out)
    target = read_json(out / "run.json", what="run record", hint="")["target"]
    if (target, info.model.name, info.data) != (training.target, resolved.model.name, resolved.data):
        raise CompressError(
            f"{str(out)!r} belongs to another comparison: {info.model.name}, {info.data}, {target}",
            hint="choose another --out",
            code="run-exists",
        )
    spent = int(info.extra.get("dense_epochs", 0))
    shares_dense = training.dense_out is not None and spent > 0
    return ComparedRun(
        method=name,
        seed=int(training.settings["seed"]),
        run=str(out),
        top1=float(info.extra["top1"]),
        macs=info.compact.macs,
        params=info.compact.params,
        epochs=int(info.extra["epochs"]),
        dense_epochs=spent,
        seconds=_seconds(out) + (_seconds(Path(training.dense_out or "")) if shares_dense else 0.0),
    )


def _seconds(run: Path) -> float:
    return sum(float(row["seconds"]) for row in read_metrics(run / "metrics.jsonl"))


def _measure_latency(run: Path, module: nn.Module | None, say: Say) -> MethodLatency:
    """Measure a run, or read its stored measurement; `module` is the dense network if one was passed."""
    path = run / "bench" / "results.json"
    if path.is_file():
        result = record.read(path)
    else:
        say(f"measuring {run.name}")
        if module is not None:  # the measurement itself uses the files that are made here
            with RunFolder.open(run, write=True) as folder:
                onnx_pair(folder, compact_info(folder), module)
        result = bench(run)
    row = summary_row(result)
    return MethodLatency(
        run=run.name,
        dense_ms=row.baseline_ms,
        compact_ms=row.candidate_ms,
        speedup=row.speedup,
        low=row.low,
        high=row.high,
        verdict=str(row.verdict),
    )


def _result(
    request: ComparisonRequest,
    resolved: ResolvedRequest,
    rows: tuple[MethodSummary, ...],
    runs: Sequence[ComparedRun],
) -> Comparison:
    dense = compact_info(runs[0].run).dense
    baselines = [name for name, method in request.methods.items() if _is_baseline(method)]
    return Comparison(
        model=resolved.model.name,
        data=resolved.data,
        target=request.training.target or "",
        epochs=request.epochs,
        seeds=request.seeds,
        dense_macs=dense.macs,
        dense_params=dense.params,
        rows=rows,
        cells=tuple(runs),
        beaten_by=matching_baselines(rows, baselines),
    )


def _is_baseline(method: MethodLike) -> bool:
    name = method if isinstance(method, str) else METHODS.of_config(method).name
    return name in BASELINES


__all__ = ["Comparison", "ComparisonRequest", "compare", "named_methods", "run_comparison"]
