"""The ONNX file every format starts from: exported in float32, reduced, and each step proven."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from compress.export.formats.onnx import Sizes, metadata_of, opset_of, to_onnx
from compress.export.formats.simplify import simplify
from compress.export.options import BF16_OPSET, BatchRange
from compress.export.parity.chain import Chain, Link
from compress.export.precision import reduce
from compress.export.precision.emulate import RUNNER, EmulatedClassifier
from compress.export.precision.losses import layer_losses
from compress.export.registry import Job, Source
from compress.export.session import OnnxClassifier
from compress.export.trust.manifest import TensorRecord

FULL = "model.onnx"
"""Name of the file in float32."""

NAMES = {"fp32": "float32", "fp16": "float16", "bf16": "bfloat16", "int8": "int8"}


class Broken(Exception):
    """A link of the chain broke: which, and the files that failed."""

    def __init__(self, link: Link, files: tuple[Path, ...]) -> None:
        super().__init__(link.name)
        self.link = link
        self.files = files


def onnx_filename(precision: str) -> str:
    """Return the name of an exported ONNX file, such as ``model.int8.onnx``."""
    return FULL if precision == "fp32" else f"model.{precision}.onnx"


def prepare(job: Job, folder: Path, chain: Chain) -> Source:
    """Write the ONNX file in the precision asked for into `folder`, adding its links to `chain`.

    Raises:
        Broken: a file does not compute what the step before it computes.
        CompressError: the network cannot be exported or reduced (exit BUILD).
    """
    options = job.options
    full, details = _export(job, folder / FULL)
    _link(chain, "onnx-fp32", full, job)
    path = full
    if options.precision != "fp32":
        path = folder / onnx_filename(options.precision)
        details[options.precision] = reduce(
            full, path, options.precision, job.calibration(), quantize_ends=options.quantize_ends
        )
        _link(chain, f"onnx-{options.precision}", path, job, full)
    file = OnnxClassifier(full)
    return Source(
        path=path,
        full=full,
        precision=options.precision,
        opset=opset_of(_load(path)),
        inputs=tuple(named_batch(tensor) for tensor in file.inputs),
        outputs=tuple(named_batch(tensor) for tensor in file.outputs),
        details=details,
    )


def _export(job: Job, path: Path) -> tuple[Path, dict[str, Any]]:
    options = job.options
    opset = options.opset
    if options.precision == "bf16" and opset is None:
        opset = BF16_OPSET
    batch: Sizes = "dynamic" if isinstance(options.batch, BatchRange) else options.batch
    example = torch.zeros(1, *job.spec.input_size)
    to_onnx(job.model, example, path, opset=opset, batch=batch, metadata=metadata_of(job))
    if not options.simplify:
        return path, {"simplified": False}
    report = simplify(path, job.images)
    return path, {"simplified": report.kept, "simplify": report.as_json()}


def _link(chain: Chain, name: str, path: Path, job: Job, full: Path | None = None) -> None:
    """Run the file and add its link; raise `Broken` where it is not what the step before is."""
    if full is None or job.options.precision == "int8":
        predictor: Any = OnnxClassifier(path)
        runner = "ONNX Runtime"
    else:
        predictor = EmulatedClassifier(path)
        runner = RUNNER.format(precision=NAMES[job.options.precision])
    link = chain.add(
        name,
        predictor,
        runner,
        precision="fp32" if full is None else None,
        losses=None if full is None else lambda: layer_losses(full, path, chain.images),
    )
    if link.status == "failed":
        raise Broken(link, (path,))


def named_batch(tensor: TensorRecord) -> TensorRecord:
    """Call a nameless free size ``batch``."""
    shape = tuple("batch" if size == "?" else size for size in tensor.shape)
    return tensor.model_copy(update={"shape": shape})


def _load(path: Path) -> Any:
    import onnx

    return onnx.load(str(path))
