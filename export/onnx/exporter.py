"""Export a module to one ONNX file, and check the file.

`torch.onnx.export` does the export. The operator set and the free batch size are then read from the file it
wrote, because the exporter may fall back to others than those requested.
"""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn

from compress.core.errors import CompressError, Exit
from compress.core.files import atomic_path
from compress.export.options import check_batch

Sizes = int | Literal["dynamic"]
"""Batch sizes an ONNX file can have: a fixed one, or any."""

INPUT = "input"
OUTPUT = "logits"

_log = logging.getLogger(__name__)


def to_onnx(
    model: nn.Module,
    example_input: torch.Tensor,
    path: Path,
    *,
    opset: int | None = None,
    batch: Sizes = "dynamic",
    metadata: Mapping[str, str] | None = None,
) -> int:
    """Write `model` to one checked ONNX file and return its operator set.

    Args:
        model: a module with one image tensor in and one `[B, classes]` tensor out. It is exported in eval
            mode on the CPU; the modes of its modules are restored.
        example_input: float32 `[B, C, H, W]`; only its type and its shape without B matter.
        path: the file to write; replaced in one step.
        opset: the ONNX operator set; None for the exporter's default.
        batch: a fixed batch size, or ``"dynamic"`` for any.
        metadata: entries for the file's `metadata_props`.

    Raises:
        CompressError: the network cannot be exported, the file has another operator set or batch size than
            requested, or the ONNX checker rejects it (exit BUILD).
    """
    import onnx

    check_batch(batch)
    with atomic_path(path) as temporary:
        _export(model, _example(example_input, batch), temporary, opset, batch)
        proto = onnx.load(str(temporary))
        actual = opset_of(proto)
        if opset is not None and actual != opset:
            raise CompressError(
                f"opset {opset} was requested, but the exporter wrote opset {actual}",
                hint=f"give --opset {actual}, or leave --opset out",
                code="opset",
                exit=Exit.BUILD,
                details={"asked": opset, "found": actual},
            )
        _require_batch(proto, batch)
        _strip(proto)
        onnx.helper.set_model_props(proto, dict(metadata or {}))
        onnx.save(proto, str(temporary))
        check_onnx(temporary)
    return actual


def check_onnx(path: Path) -> None:
    """Run ONNX's full check, with shape inference, on a file.

    Raises:
        CompressError: with the checker's first line (exit BUILD).
    """
    import onnx

    try:
        onnx.checker.check_model(str(path), full_check=True)
    except Exception as error:  # checker and shape inference raise classes without a common base
        raise CompressError(
            f"the ONNX checker rejects the exported file: {_first_line(error)}",
            hint="try another --opset",
            code="onnx-check",
            exit=Exit.BUILD,
        ) from error


def opset_of(proto: Any) -> int:
    """Return the version of the default operator set that a model imports."""
    return next(int(entry.version) for entry in proto.opset_import if entry.domain in ("", "ai.onnx"))


def _example(given: torch.Tensor, batch: Sizes) -> torch.Tensor:
    """Return an input to trace with; two images for a free batch, since size 1 is traced as a constant."""
    size = 2 if batch == "dynamic" else batch
    generator = torch.Generator().manual_seed(0)
    return torch.randn(size, *given.shape[1:], generator=generator, dtype=given.dtype)


def _export(model: nn.Module, example: torch.Tensor, path: Path, opset: int | None, batch: Sizes) -> None:
    modes = {module: module.training for module in model.modules()}
    model.eval()
    shapes = ({0: torch.export.Dim("batch", min=1)},) if batch == "dynamic" else None
    try:
        with _quiet():
            program = torch.onnx.export(
                model,
                (example,),
                dynamo=True,
                dynamic_shapes=shapes,
                opset_version=opset,
                input_names=[INPUT],
                output_names=[OUTPUT],
                external_data=False,
                verbose=False,
            )
            if program is None:
                raise RuntimeError("the exporter returned nothing")
    except CompressError:
        raise
    except Exception as error:  # the exporter wraps any exception of the network's code or its own passes
        raise _not_exportable(error, batch) from error
    finally:
        for module, training in modes.items():
            module.training = training
    try:
        with _quiet():
            program.save(str(path), external_data=False)
    except OSError:  # a full disk is not the network's fault
        raise
    except Exception as error:
        raise _not_exportable(error, batch) from error


def _not_exportable(error: BaseException, batch: Sizes) -> CompressError:
    cause = error
    while cause.__cause__ is not None:
        cause = cause.__cause__
    hint = "torch.export must be able to trace the network's forward; --debug shows the exporter's report"
    if batch == "dynamic":
        hint = f"if its forward fixes the batch size, give that size with --batch N; {hint}"
    return CompressError(
        f"the network cannot be exported to ONNX: {type(cause).__name__}: {_first_line(cause)}",
        hint=hint,
        code="export-failed",
        exit=Exit.BUILD,
    )


def _require_batch(proto: Any, batch: Sizes) -> None:
    """Refuse a file whose input or output has another batch size than requested."""
    for value in (*proto.graph.input, *proto.graph.output):
        first = value.type.tensor_type.shape.dim[0]
        actual: Sizes = first.dim_value if first.HasField("dim_value") else "dynamic"
        if actual != batch:
            raise CompressError(
                f"batch {batch} was requested, but {value.name!r} of the exported file has {actual}: "
                "the network's forward fixes the batch size",
                hint=f"export with --batch {actual}",
                code="batch",
                exit=Exit.BUILD,
                details={"asked": batch, "found": actual},
            )


def _strip(proto: Any) -> None:
    """Remove the exporter's notes (stack traces with paths of this machine) from every part of the graph."""
    graph = proto.graph
    for part in (*graph.node, *graph.input, *graph.output, *graph.value_info, *graph.initializer, graph):
        del part.metadata_props[:]
        part.doc_string = ""
    del proto.metadata_props[:]


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Send the exporter's prints, warnings and log lines to the debug log instead of the terminal."""
    printed = io.StringIO()
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(printed):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
        if printed.getvalue().strip():
            _log.debug("output of the exporter: %s", printed.getvalue().strip())


def _first_line(error: BaseException) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
