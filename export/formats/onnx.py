"""ONNX: one file, any batch size by default, that says what goes in and what comes out.

The dynamo exporter is used as it is, and its result is read back from the file: the opset and the free
batch size are what the file has, not what was asked for.
"""

from __future__ import annotations

import contextlib
import io
import json
import logging
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from torch import nn

from compress.core.errors import CompressError, Exit
from compress.core.files import atomic_path
from compress.export.options import check_batch
from compress.export.registry import Built, Job, NotRun, Precision, Source, register
from compress.export.session import (
    META_CLASSES,
    META_MODEL,
    META_PREPROCESS,
    META_RUN,
    META_VERSION,
    OnnxClassifier,
)
from compress.export.trust.manifest import versions

Sizes = int | Literal["dynamic"]
"""A fixed batch size, or any: what an ONNX file can say."""

INPUT = "input"
OUTPUT = "logits"
TOOLS = ("onnx", "onnxscript", "onnxruntime", "onnxruntime-gpu", "onnxsim")

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
    """Write `model` to one ONNX file, checked, and return its opset.

    Args:
        model: any module with one image tensor in and one `[B, classes]` tensor out. It is exported in
            eval mode on the CPU and left as it was.
        example_input: float32 `[B, C, H, W]`; only its shape without B and its type matter.
        path: where to write; replaced in one step.
        opset: the operator set wanted; None takes the exporter's default.
        batch: a fixed batch size, or ``"dynamic"`` for any.
        metadata: entries for the file's `metadata_props`.

    Raises:
        CompressError: the network cannot be exported, the opset or the free batch size asked for is not
            what the file came out with, or the checker refuses the file (exit BUILD).
    """
    import onnx

    check_batch(batch)
    with atomic_path(path) as temporary:
        _export(model, _example(example_input, batch), temporary, opset, batch)
        proto = onnx.load(str(temporary))
        found = opset_of(proto)
        if opset is not None and found != opset:
            raise CompressError(
                f"opset {opset} was asked for, but the exporter produced opset {found}",
                hint=f"ask for --opset {found}, or leave --opset out",
                code="opset",
                exit=Exit.BUILD,
                details={"asked": opset, "found": found},
            )
        _require_batch(proto, batch)
        _strip(proto)
        onnx.helper.set_model_props(proto, dict(metadata or {}))
        onnx.save(proto, str(temporary))
        check_file(temporary)
    return found


def check_file(path: Path) -> None:
    """Run ONNX's full check, with shape inference, on a file.

    Raises:
        CompressError: the checker's first line (exit BUILD).
    """
    import onnx

    try:
        onnx.checker.check_model(str(path), full_check=True)
    except Exception as error:  # checker and shape inference raise classes without a common base
        raise CompressError(
            f"the ONNX checker refuses the exported file: {_first_line(error)}",
            hint="try another --opset",
            code="onnx-check",
            exit=Exit.BUILD,
        ) from error


def opset_of(proto: Any) -> int:
    """Return the version of the default operator set that a model imports."""
    return next(int(entry.version) for entry in proto.opset_import if entry.domain in ("", "ai.onnx"))


def metadata_of(job: Job) -> dict[str, str]:
    """Return what an exported file says about itself, as text entries."""
    return {
        META_PREPROCESS: job.preprocess.model_dump_json(),
        META_CLASSES: json.dumps(list(job.classes), ensure_ascii=False),
        META_RUN: job.run,
        META_MODEL: job.spec.name,
        META_VERSION: versions(())["compress"],
    }


@register
class OnnxFormat:
    """``--format onnx``: one file in any precision, for ONNX Runtime; other formats start from the same."""

    name = "onnx"
    runtime = "ONNX Runtime"
    requires: ClassVar[Mapping[str, str]] = {
        "onnx": "onnx",
        "onnxscript": "onnxscript",
        "onnxruntime": "onnxruntime",
    }
    honours = frozenset({"opset", "simplify"})
    refusals: ClassVar[Mapping[str, str]] = {
        "batch-range": "an ONNX file takes any batch size or one: give --batch dynamic or a number",
    }

    def filename(self, precision: Precision) -> str:
        """``model.onnx``, ``model.fp16.onnx``, ..."""
        from compress.export.source import onnx_filename

        return onnx_filename(precision)

    def build(self, job: Job, source: Source, path: Path) -> Built:
        """Nothing is left to do: the proven file is the result."""
        if path != source.path:
            path.write_bytes(source.path.read_bytes())
        return Built(
            inputs=source.inputs,
            outputs=source.outputs,
            precision=source.precision,
            opset=source.opset,
            tools=versions(TOOLS),
        )

    def open(self, path: Path, precision: Precision) -> OnnxClassifier | NotRun:
        """Load the file in ONNX Runtime on the CPU, which has no bfloat16 convolutions."""
        try:
            return OnnxClassifier(path)
        except CompressError as error:
            if precision != "bf16":
                raise
            return NotRun(f"ONNX Runtime's CPU provider: {error.__cause__ or error.message}".splitlines()[0])


def _example(given: torch.Tensor, batch: Sizes) -> torch.Tensor:
    """An input of the size to export; two images for a free size, because one is taken for a constant."""
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
    except Exception as error:  # the exporter wraps whatever the network's code or its own passes raise
        raise _not_exportable(error, batch) from error
    finally:
        for module, training in modes.items():
            module.training = training
    try:
        with _quiet():
            program.save(str(path), external_data=False)
    except OSError:  # a full disk is no fault of the network
        raise
    except Exception as error:
        raise _not_exportable(error, batch) from error


def _not_exportable(error: BaseException, batch: Sizes) -> CompressError:
    cause = error
    while cause.__cause__ is not None:
        cause = cause.__cause__
    hint = "torch.export must be able to trace the network's forward; see --debug for the exporter's report"
    if batch == "dynamic":
        hint = f"if its forward fixes the batch size, give one with --batch N; {hint}"
    return CompressError(
        f"the network cannot be exported to ONNX: {type(cause).__name__}: {_first_line(cause)}",
        hint=hint,
        code="export-failed",
        exit=Exit.BUILD,
    )


def _require_batch(proto: Any, batch: Sizes) -> None:
    """Refuse a file whose input and output do not have the batch size asked for."""
    for value in (*proto.graph.input, *proto.graph.output):
        first = value.type.tensor_type.shape.dim[0]
        found: Sizes = first.dim_value if first.HasField("dim_value") else "dynamic"
        if found != batch:
            raise CompressError(
                f"batch {batch} was asked for, but the exported file has {found} for {value.name!r}: "
                "the network's forward fixes the batch size",
                hint=f"export with --batch {found}",
                code="batch",
                exit=Exit.BUILD,
                details={"asked": batch, "found": found},
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
    """Keep the exporter's prints, warnings and log lines off the terminal; they go to the debug log."""
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
            _log.debug("the exporter said: %s", printed.getvalue().strip())


def _first_line(error: BaseException) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
