"""Cut a trained network by a criterion, without training, into a run folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from compress import data as image_data
from compress import models
from compress.artifact import RunFolder, new_record
from compress.core.errors import CompressError
from compress.graph import Criterion, trace
from compress.pipeline.plan import plan_for_target
from compress.pipeline.request import Size
from compress.pipeline.verification import VERIFY_IMAGES, cut, save_verified
from compress.training import evaluate


def slice_to_run(
    model: str,
    data: str,
    target: str,
    out: str | Path,
    *,
    weights: str | None = None,
    input_size: Size | None = None,
    num_classes: int | None = None,
    mean: tuple[float, ...] | None = None,
    std: tuple[float, ...] | None = None,
    criterion: Criterion = "l1",
    align: str = "auto",
    seed: int = 0,
    command: Sequence[str] | None = None,
) -> dict[str, Any]:
    """Rank, cut, verify and save; return costs and the accuracy before and after.

    Raises:
        CompressError: unknown names, bad weights, a target out of reach, (exit 5) an inexact slice.
    """
    images = image_data.with_normalization(image_data.load(data, input_size), mean, std)
    info = images.info
    size, classes = info.preprocess.input_size, info.num_classes
    if num_classes not in (None, classes):
        raise CompressError(
            f"the model would have {num_classes} classes, {info.name!r} has {classes}",
            hint=f"leave out --num-classes, or give {classes}",
            code="class-count",
        )
    torch.manual_seed(seed)
    dense = models.build(model, classes, size, weights)
    spec = models.model_spec(model, classes, size)
    batch, _ = images.test_arrays(VERIFY_IMAGES)
    graph = trace(dense, batch[:2])
    plan, _ = plan_for_target(graph, target, align, criterion, seed)
    narrow, report = cut(dense, plan, batch)
    settings = {"criterion": criterion, "align": align, "weights": weights, "mean": mean, "std": std}
    record = new_record(
        model=spec,
        data=info,
        dense=graph.costs,
        target=target,
        seed=seed,
        method=f"slice-{criterion}",
        settings=settings,
        command=command,
    )
    with RunFolder.create(out, record) as run:
        before = evaluate(dense, images.test_batches(batch_size=256), "cpu", classes)
        after = evaluate(narrow, images.test_batches(batch_size=256), "cpu", classes)
        extra = {"top1": after.top1, "dense_top1": before.top1}
        try:
            save_verified(run, narrow, spec, plan, batch, {"sliced_vs_masked_dense": report}, extra)
        except BaseException:
            run.record_path.unlink(missing_ok=True)  # the same command may be given again
            raise
    return {"run": str(out), "dense": plan.dense.model_dump(), "compact": plan.narrow.model_dump(), **extra}
