from __future__ import annotations

from pathlib import Path
from typing import Any

import onnx
import pytest
from records import trt
from triton_config import KINDS, TYPES, parse

from compress.core.errors import CompressError
from compress.export.deploy.triton import MAX_BATCH, batching, config, write_repository
from compress.export.trust import manifest
from compress.export.trust.manifest import FileRecord


@pytest.fixture(scope="session")
def record(exported_run: Path) -> FileRecord:
    return manifest.read(exported_run / "export").files[0]


def fixed(record: FileRecord, size: int) -> FileRecord:
    def shaped(tensor: Any) -> Any:
        return tensor.model_copy(update={"shape": (size, *tensor.shape[1:])})

    sides = {side: tuple(map(shaped, getattr(record, side))) for side in ("inputs", "outputs")}
    return record.model_copy(update=sides | {"batch": size})


def test_the_config_follows_tritons_message_format(record: FileRecord) -> None:
    result = parse(config(record, "tiny-run"))
    assert (result.name, result.backend, result.max_batch_size) == ("tiny-run", "onnxruntime", MAX_BATCH)
    assert (result.input[0].name, list(result.input[0].dims)) == ("input", [1, 8, 8])
    assert result.input[0].data_type == result.output[0].data_type == TYPES["TYPE_FP32"]
    assert (result.output[0].name, list(result.output[0].dims)) == ("logits", [10])
    assert result.output[0].label_filename == "labels.txt"
    assert result.HasField("dynamic_batching")
    assert [group.count for group in result.instance_group] == [1]


def test_a_client_can_read_the_contract(record: FileRecord) -> None:
    result = parse(config(record, "m")).parameters["compress.preprocess"].string_value
    assert type(record.preprocess).model_validate_json(result) == record.preprocess


def test_a_fixed_batch_is_part_of_the_shapes(record: FileRecord) -> None:
    result = parse(config(fixed(record, 4), "m"))
    assert result.max_batch_size == 0
    assert not result.HasField("dynamic_batching")
    assert (list(result.input[0].dims), list(result.output[0].dims)) == ([4, 1, 8, 8], [4, 10])


def test_an_engine_is_served_on_the_gpu_up_to_its_profile(record: FileRecord) -> None:
    engine = trt(record, profile={"min": 1, "opt": 8, "max": 16})
    result = parse(config(engine, "m"))
    assert (result.backend, result.max_batch_size) == ("tensorrt", 16)
    assert list(result.dynamic_batching.preferred_batch_size) == [8]
    assert result.instance_group[0].kind == KINDS["KIND_GPU"]


@pytest.mark.parametrize(
    ("profile", "wanted"),
    [
        (None, (64, None)),
        ({"min": 1, "opt": 1, "max": 32}, (32, None)),
        ({"min": 1, "opt": 8, "max": 8}, (8, 8)),
    ],
)
def test_the_profile_sets_the_size_of_dynamic_batches(
    record: FileRecord, profile: dict[str, int] | None, wanted: tuple[int, int | None]
) -> None:
    assert batching(trt(record, profile=profile)) == wanted


def test_a_profile_that_takes_no_single_image_is_refused(record: FileRecord) -> None:
    with pytest.raises(CompressError) as caught:
        batching(trt(record, profile={"min": 4, "opt": 8, "max": 16}))
    assert "--batch 1:8:16" in caught.value.hint


def test_names_with_quotes_survive(record: FileRecord) -> None:
    assert parse(config(record, 'a"b\\c')).name == 'a"b\\c'


def test_the_repository_holds_versions_labels_and_config(exported: Path, tmp_path: Path) -> None:
    record = manifest.read(exported).files[0]
    model = write_repository(tmp_path / "models", exported, record)
    assert write_repository(tmp_path / "models", exported, record) == model
    files = {path.relative_to(model).as_posix() for path in model.rglob("*") if path.is_file()}
    assert files == {"config.pbtxt", "labels.txt", "1/model.onnx", "2/model.onnx"}
    assert (model / "labels.txt").read_text().split() == list(record.classes)
    served = onnx.load(str(model / "2" / "model.onnx"))
    assert served.graph.input[0].name == parse((model / "config.pbtxt").read_text()).input[0].name


def test_an_engine_is_stored_under_tritons_name(exported: Path, tmp_path: Path) -> None:
    record = trt(manifest.read(exported).files[0])
    model = write_repository(tmp_path / "models", exported, record)
    assert (model / "1" / "model.plan").read_bytes() == (exported / record.file).read_bytes()


def test_a_model_of_another_back_end_is_not_replaced(exported: Path, tmp_path: Path) -> None:
    record = manifest.read(exported).files[0]
    write_repository(tmp_path, exported, record)
    with pytest.raises(CompressError, match="another back end"):
        write_repository(tmp_path, exported, trt(record))


def test_a_run_of_any_name_can_be_addressed(exported: Path, tmp_path: Path) -> None:
    record = manifest.read(exported).files[0]
    odd = record.model_copy(update={"lineage": record.lineage.model_copy(update={"run": "my run/1"})})
    assert write_repository(tmp_path / "models", exported, odd).name == "my_run_1"
