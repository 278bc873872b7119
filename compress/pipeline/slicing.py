"""Slice a trained network by a criterion, without training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from compress import data as image_data
from compress.artifact import RunFolder, new_record
from compress.core.errors import CompressError
from compress.core.formatting import format_millions, format_percent
from compress.core.spec import Costs
from compress.cost import dense_costs
from compress.data import ImageData, check_class_count
from compress.graph import SlicePlan, trace
from compress.pipeline.objects import DataLike, as_image_data
from compress.pipeline.plan import trace_network
from compress.pipeline.request import DenseSource, Size
from compress.pipeline.results import html_table
from compress.pipeline.targets import Target, parse_target, plan_for_target
from compress.pipeline.verification import VERIFY_IMAGES, save_verified, slice_verified
from compress.slicing import VerifyReport
from compress.training import evaluate

_BATCH = 256


@dataclass(frozen=True)
class SliceResult:
    """A network that was sliced without training.

    Attributes:
        model: the compact model, on the CPU, in evaluation mode.
        plan: what was kept.
        dense: costs of the dense network.
        compact: costs of the compact model.
        max_rel: largest relative difference between the compact model and the masked dense network.
        dense_top1: accuracy of the dense network on the test images, a fraction; None without data.
        top1: accuracy of the compact model; None without data.
        run: the run folder; None without `out`.
    """

    model: nn.Module = field(repr=False, compare=False)
    plan: SlicePlan = field(repr=False)
    dense: Costs
    compact: Costs
    max_rel: float
    dense_top1: float | None = None
    top1: float | None = None
    run: Path | None = None

    def to_json(self) -> dict[str, Any]:
        """Return run folder, costs and accuracies as JSON types."""
        return {
            "run": str(self.run) if self.run is not None else None,
            "dense": self.dense.model_dump(),
            "compact": self.compact.model_dump(),
            "top1": self.top1,
            "dense_top1": self.dense_top1,
        }

    def __repr__(self) -> str:
        accuracy = "" if self.top1 is None else f", {self._accuracy()}"
        return (
            f"SliceResult({format_millions(self.compact.macs)} MACs of {format_millions(self.dense.macs)}, "
            f"{format_millions(self.compact.params)} parameters of {format_millions(self.dense.params)}"
            f"{accuracy})"
        )

    def _accuracy(self) -> str:
        return f"top-1 {format_percent(self.dense_top1)} before, {format_percent(self.top1)} after"

    def _repr_html_(self) -> str:
        note = "" if self.top1 is None else self._accuracy()
        return html_table("sliced network", {"dense": self.dense, "compact": self.compact}, note)


def slice(
    model: nn.Module | str,
    target: str,
    *,
    data: DataLike | None = None,
    example_inputs: Tensor | None = None,
    criterion: str = "l1",
    out: str | Path | None = None,
    weights: str | None = None,
    reset_head: bool | None = None,
    num_classes: int | None = None,
    input_size: Size | None = None,
    mean: tuple[float, ...] | None = None,
    std: tuple[float, ...] | None = None,
    align: str | int = "auto",
    seed: int = 0,
    command: Sequence[str] | None = None,
) -> SliceResult:
    """Rank the channels of a trained network, slice it to a target and verify the result.

    Args:
        model: the trained network, which is not changed, or the name of one.
        target: such as ``macs=0.5``, ``macs=50%``, ``params=0.4`` or ``macs=60M``.
        data: a data set, a pair of torch datasets or data loaders, or a name: for the exactness check and the
            accuracies.
        example_inputs: images `[N, C, H, W]` for the exactness check if there is no `data`; at least 2.
        criterion: how channels are ranked: ``l1``, ``l2``, ``bn-scale`` or ``random``.
        out: run folder to save the compact model in (needs `data`); None: nothing is written.
        weights: weights of the dense network: a file, or the run folder of a dense network.
        reset_head: as in `compress.train`.
        num_classes: classes of the model; None: those of the data.
        input_size: channels, height and width of an image; None: those of the data.
        mean: normalization per channel, on the 0 to 1 scale; None: the data's own.
        std: likewise.
        align: ``auto``, ``none`` or a number that widths are multiples of.
        seed: seed of random numbers.
        command: the command line for the record.

    Raises:
        CompressError: unknown names, bad weights, a target out of reach, (exit 5) an inexact slice.

    Example:
        >>> import compress, torch
        >>> net = compress.build("resnet20")
        >>> compress.slice(net, "macs=0.5", example_inputs=torch.rand(4, 3, 32, 32))
        SliceResult(20.44 M MACs of 40.81 M, 133.1 k parameters of 272.5 k)
    """
    goal, alignment = parse_target(target), str(align)
    source = DenseSource.of(model)
    if data is None:
        return _slice_with_inputs(source, goal, example_inputs, criterion, out, weights, alignment, seed)
    images = image_data.with_normalization(as_image_data(data, input_size), mean, std)
    info = images.info
    size, classes = info.preprocess.input_size, check_class_count(num_classes, info)
    torch.manual_seed(seed)
    dense = source.build(classes, size, weights, reset_head)
    batch, _ = images.test_arrays(VERIFY_IMAGES)
    graph = trace_network(dense, size)
    plan, _ = plan_for_target(graph, goal, alignment, criterion, seed)
    compact, report = slice_verified(dense, plan, batch)
    if out is None:
        accuracies = _accuracies(dense, compact, images)
        return _result(compact, plan, report, accuracies)
    record = new_record(
        model=source.spec(classes, size),
        data=info,
        dense=dense_costs(graph),
        target=target,
        seed=seed,
        method=f"slice-{criterion}",
        settings={"criterion": criterion, "align": alignment, "weights": weights, "mean": mean, "std": std},
        command=command,
    )
    with RunFolder.create(out, record) as run:
        try:
            accuracies = _accuracies(dense, compact, images)
            checks = {"sliced_vs_masked_dense": report}
            save_verified(run, compact, record.model, plan, batch, checks, accuracies, source)
        except BaseException:
            run.record_path.unlink(missing_ok=True)  # the same command may be given again
            raise
    return _result(compact, plan, report, accuracies, Path(out))


def _slice_with_inputs(
    source: DenseSource,
    target: Target,
    inputs: Tensor | None,
    criterion: str,
    out: str | Path | None,
    weights: str | None,
    align: str,
    seed: int,
) -> SliceResult:
    """Slice a module of which only example inputs are known."""
    if out is not None:
        raise CompressError(
            "a run folder needs the data set of the network", hint="pass data=...", code="no-data"
        )
    if inputs is None or source.module is None:
        raise CompressError(
            "there is nothing to verify the slice with",
            hint="pass data=..., or a module and example_inputs=torch.rand(4, 3, 32, 32)",
            code="no-data",
        )
    torch.manual_seed(seed)
    dense = source.build(1, (1, 1, 1), weights)
    plan, _ = plan_for_target(trace(dense, inputs[:2]), target, align, criterion, seed)
    compact, report = slice_verified(dense, plan, inputs)
    return _result(compact, plan, report, {})


def _accuracies(dense: nn.Module, compact: nn.Module, images: ImageData) -> dict[str, float]:
    classes = images.info.num_classes
    before = evaluate(dense, images.test_batches(batch_size=_BATCH), "cpu", classes)
    after = evaluate(compact, images.test_batches(batch_size=_BATCH), "cpu", classes)
    return {"top1": after.top1, "dense_top1": before.top1}


def _result(
    compact: nn.Module,
    plan: SlicePlan,
    report: VerifyReport,
    accuracies: dict[str, float],
    run: Path | None = None,
) -> SliceResult:
    return SliceResult(
        model=compact.eval(),
        plan=plan,
        dense=plan.dense,
        compact=plan.narrow,
        max_rel=report.max_rel,
        dense_top1=accuracies.get("dense_top1"),
        top1=accuracies.get("top1"),
        run=run,
    )
