"""Parity chains of whole exports in reduced precision, with and without a failing step."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import numpy_helper

from compress.core.errors import CompressError, Exit
from compress.data import ImageData
from compress.export import export, source
from compress.export.options import Precision
from compress.export.parity.chain import COMPACT, ParityChain
from compress.export.parity.check import LIMITS
from compress.export.parity.report import parity_lines
from compress.export.trust import manifest

Images = NDArray[np.float32]


class Answers:
    """A predictor that answers with given logits, in order of the images."""

    batch = None

    def __init__(self, logits: Images) -> None:
        self._left = logits

    def logits(self, images: Images) -> Images:
        result, self._left = self._left[: len(images)], self._left[len(images) :]
        return result


@pytest.fixture
def chain(model: Any, digits: ImageData) -> ParityChain:
    x, y = digits.test_arrays(200)
    return ParityChain.start(model, {"tolerance": 1e-5}, x.numpy(), y.numpy(), "int8")


def _links(record: manifest.FileRecord) -> dict[str, dict[str, Any]]:
    return {link["name"]: link for link in record.details["chain"]}


@pytest.mark.parametrize("precision", ["fp16", "int8"])
def test_each_link_of_an_onnx_export_has_its_numbers_and_limits(
    residual_run: Path, precision: Precision
) -> None:
    record = export(residual_run, samples=64, calib_images=64, precision=precision).record
    links = _links(record)
    assert list(links)[:2] == ["onnx-fp32", f"onnx-{precision}"]
    reduced = links[f"onnx-{precision}"]
    assert (reduced["against"], reduced["status"], reduced["images"]) == ("onnx-fp32", "passed", 64)
    assert 0 < reduced["max_rel"] <= reduced["limit_rel"] == LIMITS[precision].relative
    assert reduced["agreement"] >= reduced["limit_agreement"] == LIMITS[precision].agreement
    assert links["onnx-fp32"]["limit_rel"] == LIMITS["fp32"].relative
    assert record.precision == precision
    assert record.file == f"model.{precision}.onnx"
    assert record.parity.limit_rel == LIMITS[precision].relative


def test_files_of_several_precisions_lie_beside_each_other(residual_run: Path) -> None:
    export(residual_run, samples=16)
    export(residual_run, samples=16, calib_images=16, precision="int8")
    folder = residual_run / "export"
    assert {path.name for path in folder.iterdir()} == {"model.onnx", "model.int8.onnx", "manifest.json"}
    assert manifest.verified_record(folder, "model.onnx") is not None
    assert manifest.verified_record(folder, "model.int8.onnx") is not None


def test_a_bf16_file_is_reported_as_not_run_by_onnx_runtime(residual_run: Path) -> None:
    record = export(residual_run, samples=16, calib_images=16, precision="bf16").record
    links = _links(record)
    assert links["onnx-bf16"]["status"] == "passed"
    assert links["model.bf16.onnx"]["status"] == "not run"
    assert "Conv" in links["model.bf16.onnx"]["reason"]
    assert record.details["parity_of"] == "onnx-bf16"
    assert record.opset == 22


def test_the_first_broken_link_and_its_worst_layer_are_named(
    residual_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = source.reduce_precision

    def damaged(full: Path, path: Path, *rest: Any, **more: Any) -> dict[str, Any]:
        report = whole(full, path, *rest, **more)
        model = onnx.load(str(path))
        victim = [node for node in model.graph.node if node.op_type == "Conv"][1]
        weight = next(weight for weight in model.graph.initializer if weight.name == victim.input[1])
        weight.CopyFrom(numpy_helper.from_array(-numpy_helper.to_array(weight), weight.name))
        onnx.save(model, str(path))
        return report | {"victim": victim.name}

    monkeypatch.setattr(source, "reduce_precision", damaged)
    with pytest.raises(CompressError) as caught:
        export(residual_run, samples=64, calib_images=16, precision="fp16")
    assert caught.value.exit is Exit.PARITY
    assert "between onnx-fp32 and onnx-fp16" in caught.value.message
    folder = residual_run / "export"
    names = {"model.fp16.onnx.rejected", "model.fp16.onnx.rejected.json"}
    assert {path.name for path in folder.iterdir()} == names
    report = json.loads((folder / "model.fp16.onnx.rejected.json").read_text())
    assert (report["link"], report["passed"]) == ("onnx-fp16", False)
    layers = [
        n.name for n in onnx.load(str(folder / "model.fp16.onnx.rejected")).graph.node if n.op_type == "Conv"
    ]
    assert report["chain"][-1]["worst"][0]["node"] == layers[1]
    assert layers[1] in caught.value.message


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_step_whose_logits_are_not_finite_fails(chain: ParityChain, value: float) -> None:
    logits = chain.reference.copy()
    logits[1, 2] = value
    chain.max_relative, chain.min_agreement = 10.0, 0.0
    link = chain.add("step", Answers(logits), "test")
    assert (link.status, link.reason, link.max_rel) == ("failed", "an output is not finite", None)
    assert not chain.compare_with_compact().passed


def test_a_loss_of_accuracy_breaks_a_link_whose_classes_mostly_agree(chain: ParityChain) -> None:
    right = np.flatnonzero(chain.reference.argmax(1) == chain.labels)[:9]
    worse = chain.reference.copy()
    for i in right:
        worse[i, [int(worse[i].argmax()), int(worse[i].argsort()[-2])]] = worse[
            i, [int(worse[i].argsort()[-2]), int(worse[i].argmax())]
        ]
    chain.max_relative = 10.0
    link = chain.add("step", Answers(worse), "test")
    assert link.agreement is not None
    assert link.agreement > LIMITS["int8"].agreement
    assert link.status == "failed"
    assert "top-1 falls" in (link.reason or "")


def test_a_loss_that_chance_explains_does_not_break_a_link(chain: ParityChain) -> None:
    right = np.flatnonzero(chain.reference.argmax(1) == chain.labels)[:3]
    worse = chain.reference.copy()
    worse[right] = np.roll(worse[right], 1, axis=1)
    chain.max_relative = 10.0
    assert chain.add("step", Answers(worse), "test").status == "passed"


def test_a_step_that_is_not_run_is_skipped_by_the_next(chain: ParityChain) -> None:
    chain.add_not_run("engine", "TensorRT", "no device")
    assert chain.last_step == COMPACT
    assert chain.add("other", Answers(chain.reference), "test").against == COMPACT
    assert chain.failed_link is None


def test_the_comparison_of_the_run_is_the_first_link(model: Any, digits: ImageData) -> None:
    x, y = digits.test_arrays(10)
    report = {"max_abs": 1e-6, "max_rel": 1e-7, "samples": 64, "tolerance": 1e-5, "passed": True}
    verified = {"sliced_vs_masked_dense": report, "compact_vs_trained": None}
    first = ParityChain.start(model, verified, x.numpy(), y.numpy(), "fp32").links
    assert [(link.name, link.against, link.images) for link in first] == [("sliced", "masked dense", 64)]
    uncut = ParityChain.start(model, {}, x.numpy(), y.numpy(), "fp32")
    assert (uncut.links, uncut.last_step) == ([], COMPACT)


def test_the_report_names_every_link(residual_run: Path) -> None:
    record = export(residual_run, samples=16, calib_images=16, precision="int8").record
    lines = parity_lines(record)
    assert "parity on 16 images" in lines[0]
    assert [line for line in lines if "onnx-fp32 = onnx-int8: passed" in line]
    assert "in float32 without --quantize-ends" in lines[-1]
