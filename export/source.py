"""The ONNX files that every format starts from, each written and checked once.

`OnnxSources` exports a network to ONNX in float32, simplifies it on request, and reduces it to the requested
precision. Every file is compared with the step before it in a parity chain. Formats and precisions that are
exported together share the files they have in common.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from compress.core.errors import CompressError
from compress.export.onnx import onnx_filename
from compress.export.onnx.exporter import Sizes, opset_of, to_onnx
from compress.export.onnx.session import OnnxClassifier
from compress.export.onnx.simplify import simplify
from compress.export.options import BF16_OPSET, BatchRange, Options, Precision
from compress.export.parity.chain import ParityChain, ParityLink
from compress.export.precision.deviation import layer_deviations
from compress.export.precision.emulate import RUNNER, EmulatedClassifier
from compress.export.precision.reduce import reduce_precision
from compress.export.trust.manifest import FileRecord, TensorRecord, versions
from compress.export.trust.onnx_metadata import (
    META_CLASSES,
    META_MODEL,
    META_PREPROCESS,
    META_RUN,
    META_VERSION,
)
from compress.export.types import ExportInputs, OnnxSource, Predictor

REQUESTED_OPSET = "requested_opset"
"""Key in the details of a record: the operator set that was requested; None for the default."""

_DETAILS = ("simplified", "simplify", REQUESTED_OPSET)
_TYPE_NAMES = {"fp16": "float16", "bf16": "bfloat16"}


class ParityFailure(Exception):
    """A file does not compute what the step before it computes.

    Attributes:
        link: the comparison that failed.
        chain: all comparisons up to it.
        files: the files that failed.
    """

    def __init__(self, link: ParityLink, chain: ParityChain, files: tuple[Path, ...]) -> None:
        super().__init__(link.name)
        self.link = link
        self.chain = chain
        self.files = files


@dataclass(frozen=True)
class _CheckedFile:
    """An ONNX file, the chain that ends with it, and details for the manifest."""

    path: Path
    chain: ParityChain
    details: dict[str, Any]


@dataclass(frozen=True)
class ReusableOnnx:
    """A float32 ONNX file of the same network and tool versions, released by an earlier export."""

    path: Path
    record: FileRecord

    def fits(self, options: Options, opset: int | None) -> bool:
        """Return whether an export with these options would write the same file."""
        details = self.record.details
        batch = "dynamic" if isinstance(options.batch, BatchRange) else options.batch
        return (
            self.record.batch == batch
            and REQUESTED_OPSET in details
            and details[REQUESTED_OPSET] == opset
            and ("simplify" in details) == options.simplify
        )


class OnnxSources:
    """ONNX files of one network by operator set and precision; each is made on first use.

    Args:
        inputs: the network and its data.
        folder: where to write the files.
        chain: a chain that ends with the compact network; it is not changed.
        reusable: a file to start from instead of a new export, if its options are the same. It is compared
            with the network like a new one.
    """

    def __init__(
        self,
        inputs: ExportInputs,
        folder: Path,
        chain: ParityChain,
        reusable: ReusableOnnx | None = None,
    ) -> None:
        self._inputs = inputs
        self._folder = folder
        self._chain = chain
        self._reusable = reusable
        self._outcomes: dict[Hashable, _CheckedFile | Exception] = {}

    def get(self, options: Options) -> tuple[OnnxSource, ParityChain]:
        """Return the ONNX file in the precision of `options`, and a chain of its own that ends with it.

        Raises:
            ParityFailure: a file does not compute what the step before it computes.
            CompressError: the network cannot be exported or reduced (exit BUILD).
        """
        opset = BF16_OPSET if options.precision == "bf16" and options.opset is None else options.opset
        full = self._once((opset,), lambda: self._export(options, opset))
        file = full
        if options.precision != "fp32":
            key = (opset, options.precision, options.quantize_ends)
            file = self._once(key, lambda: self._reduce(full, options))
        tensors = OnnxClassifier(full.path)
        source = OnnxSource(
            path=file.path,
            full=full.path,
            precision=options.precision,
            opset=opset_of(_load_onnx(file.path)),
            inputs=tuple(map(_with_named_batch, tensors.inputs)),
            outputs=tuple(map(_with_named_batch, tensors.outputs)),
            details=dict(file.details),
        )
        return source, file.chain.branch(options.precision)

    def _once(self, key: Hashable, make: Callable[[], _CheckedFile]) -> _CheckedFile:
        """Return or raise the outcome of `make`, which is called once per key."""
        if key not in self._outcomes:
            try:
                self._outcomes[key] = make()
            except (ParityFailure, CompressError) as error:
                self._outcomes[key] = error
        outcome = self._outcomes[key]
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    def _export(self, options: Options, opset: int | None) -> _CheckedFile:
        """Write the float32 file and compare it with the compact network."""
        inputs = self._inputs
        folder = self._folder / f"opset-{opset or 'default'}"
        folder.mkdir()
        path = folder / onnx_filename("fp32")
        details: dict[str, Any] = {"simplified": False, REQUESTED_OPSET: opset}
        if self._reusable is not None and self._reusable.fits(options, opset):
            path.write_bytes(self._reusable.path.read_bytes())
            details = {key: value for key, value in self._reusable.record.details.items() if key in _DETAILS}
        else:
            batch: Sizes = "dynamic" if isinstance(options.batch, BatchRange) else options.batch
            example = torch.zeros(1, *inputs.spec.input_size)
            to_onnx(inputs.model, example, path, opset=opset, batch=batch, metadata=_metadata_of(inputs))
            if options.simplify:
                report = simplify(path, inputs.images)
                details |= {"simplified": report.kept, "simplify": report.to_json()}
        chain = self._chain.branch()
        link = chain.add("onnx-fp32", OnnxClassifier(path), "ONNX Runtime", precision="fp32")
        return _passed(link, chain, path, details)

    def _reduce(self, full: _CheckedFile, options: Options) -> _CheckedFile:
        """Write the file in lower precision and compare it with the float32 file."""
        precision = options.precision
        path = full.path.with_name(onnx_filename(precision))
        calibration = self._inputs.calibration()
        report = reduce_precision(
            full.path, path, precision, calibration, quantize_ends=options.quantize_ends
        )
        chain = full.chain.branch(precision)
        predictor, runner = _open_reduced(path, precision)
        link = chain.add(
            f"onnx-{precision}",
            predictor,
            runner,
            deviations=lambda: layer_deviations(full.path, path, chain.images),
        )
        return _passed(link, chain, path, {**full.details, precision: report})


def _passed(link: ParityLink, chain: ParityChain, path: Path, details: dict[str, Any]) -> _CheckedFile:
    if link.status == "failed":
        raise ParityFailure(link, chain, (path,))
    return _CheckedFile(path, chain, details)


def _open_reduced(path: Path, precision: Precision) -> tuple[Predictor, str]:
    """Return a predictor of a reduced ONNX file, and a description of how it computes."""
    if precision == "int8":
        return OnnxClassifier(path), "ONNX Runtime"
    return EmulatedClassifier(path), RUNNER.format(precision=_TYPE_NAMES[precision])


def _metadata_of(inputs: ExportInputs) -> dict[str, str]:
    """Return the metadata that is written into an exported ONNX file."""
    return {
        META_PREPROCESS: inputs.preprocess.model_dump_json(),
        META_CLASSES: json.dumps(list(inputs.classes), ensure_ascii=False),
        META_RUN: inputs.run,
        META_MODEL: inputs.spec.name,
        META_VERSION: versions(())["compress"],
    }


def _with_named_batch(tensor: TensorRecord) -> TensorRecord:
    """Name a free size without a name ``batch``."""
    shape = tuple("batch" if size == "?" else size for size in tensor.shape)
    return tensor.model_copy(update={"shape": shape})


def _load_onnx(path: Path) -> Any:
    import onnx

    return onnx.load(str(path))
