from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchless
from numpy.typing import NDArray
from PIL import Image
from sklearn.datasets import load_sample_images

from compress import data
from compress.core.errors import CompressError
from compress.data import ImageData
from compress.export import export
from compress.export.deploy import standalone
from compress.export.deploy.extras import prepare_extras
from compress.export.deploy.inference_script import write_script
from compress.export.onnx.session import OnnxClassifier
from compress.export.trust import manifest
from compress.export.trust.signing import PublicKey, new_key
from compress.export.trust.verify import verify_folder


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return torchless.packages(tmp_path_factory.mktemp("torchless") / "site")


@pytest.fixture
def pictures(digits: ImageData, tmp_path: Path) -> list[Path]:
    """The first 12 test images of the digits as files."""
    preprocess = digits.info.preprocess
    values = digits.test_arrays(12)[0].numpy() * preprocess.std[0] + preprocess.mean[0]
    paths = [tmp_path / f"{i}.png" for i in range(12)]
    for path, image in zip(paths, values, strict=True):
        Image.fromarray(np.rint(image[0] * 255).astype(np.uint8)).save(path)
    return paths


def logits_of(done: Any) -> NDArray[np.float32]:
    assert done.returncode == 0, done.stderr
    return np.array([result["logits"] for result in json.loads(done.stdout)], np.float32)


def test_the_other_python_has_no_torch(site: Path, tmp_path: Path) -> None:
    (tmp_path / "try.py").write_text("import numpy, PIL, onnxruntime\nimport torch\n")
    assert "No module named 'torch'" in torchless.run(site, tmp_path / "try.py").stderr


def test_the_script_without_torch_gives_the_results_of_eval(
    exported: Path, pictures: list[Path], digits: ImageData, site: Path
) -> None:
    script = write_script(exported / "infer.py", exported, manifest.read(exported).files[0])
    result = logits_of(torchless.run(site, script, *pictures, "--json"))
    inputs = digits.test_arrays(12)[0].numpy()
    expected = [OnnxClassifier(exported / "model.onnx").logits(image[None])[0] for image in inputs]
    np.testing.assert_allclose(result, np.stack(expected), rtol=0, atol=1e-6)


def test_the_script_names_the_class_of_each_image(exported: Path, pictures: list[Path], site: Path) -> None:
    script = write_script(exported / "infer.py", exported, manifest.read(exported).files[0])
    lines = torchless.run(site, script, *pictures[:2]).stdout.splitlines()
    assert [line.partition(": ")[0] for line in lines] == [str(path) for path in pictures[:2]]
    assert all(line.partition(": ")[2][0].isdigit() and line.endswith("%)") for line in lines)


def test_the_script_refuses_a_tampered_file(exported: Path, pictures: list[Path], site: Path) -> None:
    script = write_script(exported / "infer.py", exported, manifest.read(exported).files[0])
    with (exported / "model.onnx").open("ab") as file:
        file.write(b"x")
    done = torchless.run(site, script, pictures[0])
    assert done.returncode == 3
    assert "not the file of the manifest" in done.stderr


@pytest.mark.parametrize("content", [None, b"no image"], ids=["missing", "damaged"])
def test_an_image_that_cannot_be_read_is_one_line_and_exit_3(
    exported: Path, tmp_path: Path, site: Path, content: bytes | None
) -> None:
    script = write_script(exported / "infer.py", exported, manifest.read(exported).files[0])
    image = tmp_path / "cat.png"
    if content is not None:
        image.write_bytes(content)
    done = torchless.run(site, script, image)
    assert done.returncode == 3
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"error: the image {image} cannot be read: ")


def test_a_missing_manifest_is_one_line_and_exit_3(exported: Path, pictures: list[Path], site: Path) -> None:
    script = write_script(exported / "infer.py", exported, manifest.read(exported).files[0])
    (exported / "manifest.json").unlink()
    done = torchless.run(site, script, pictures[0])
    assert done.returncode == 3
    (line,) = done.stderr.splitlines()
    assert line == f"error: there is no manifest {exported / 'manifest.json'}; keep the files together"


def test_the_script_finds_its_file_from_any_folder(
    exported: Path, pictures: list[Path], site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_script(exported / "infer.py", exported, manifest.read(exported).files[0])
    moved = exported.rename(tmp_path / "moved")
    for folder in (moved, tmp_path, Path("/")):
        monkeypatch.chdir(folder)
        done = torchless.run(site, moved / "infer.py", pictures[0])
        assert done.returncode == 0, done.stderr


def test_a_script_elsewhere_finds_the_manifest(exported: Path, tmp_path: Path) -> None:
    script = write_script(tmp_path / "app" / "infer.py", exported, manifest.read(exported).files[0])
    assert "MANIFEST = '../tiny-run/export/manifest.json'" in script.read_text()
    assert manifest.read(exported).extras == ()


def test_a_script_in_the_export_folder_is_in_the_manifest(exported: Path) -> None:
    write_script(exported / "infer.py", exported, manifest.read(exported).files[0])
    assert verify_folder(exported).passed
    with (exported / "infer.py").open("a") as file:
        file.write("import os\n")
    assert [fault.file for fault in verify_folder(exported).faults] == ["infer.py"]


def test_a_fixed_batch_is_filled_up(run: Path, images: NDArray[np.float32]) -> None:
    folder = export(run, samples=32, batch=8).path.parent
    result = standalone.Classifier(folder / "manifest.json").run(images[:11])
    expected = OnnxClassifier(folder / "model.onnx").logits(images[:11])
    np.testing.assert_array_equal(result, expected)


def test_one_of_several_files_is_chosen_by_name(exported: Path) -> None:
    listed = manifest.read(exported)
    shutil.copy(exported / "model.onnx", exported / "second.onnx")
    second = listed.files[0].model_copy(update={"file": "second.onnx"})
    manifest.write(exported, listed.with_file(second))
    with pytest.raises(standalone.InferenceError, match=r"model\.onnx, second\.onnx"):
        standalone.Classifier(exported / "manifest.json")
    chosen = standalone.Classifier(exported / "manifest.json", "second.onnx")
    assert chosen.record["file"] == "second.onnx"


# --- the contract, against what the data really is made of ----------------------------------------------


def contract(images: ImageData) -> dict[str, Any]:
    return json.loads(images.info.preprocess.model_dump_json())


def photos() -> list[NDArray[np.uint8]]:
    """Two photographs, 427x640."""
    return list(load_sample_images().images)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The photographs in several shapes, sorted into classes as ImageNet is."""
    for part in ("train", "val"):
        for label, photo in zip(("china", "flower"), photos(), strict=True):
            where = tmp_path / "photos" / part / label
            where.mkdir(parents=True)
            for i, cut in enumerate((photo, photo[:, :201], photo[:115, :400], photo[10:267, 3:260])):
                Image.fromarray(cut).save(where / f"{i}.png")
    return tmp_path / "photos"


@pytest.mark.parametrize("size", [(3, 64, 64), (3, 37, 53)])
def test_the_contract_of_a_folder_is_followed_to_the_last_bit(
    folder: Path, size: tuple[int, int, int]
) -> None:
    images = data.load(f"folder:{folder}", input_size=size, workers=0)
    expected = images.test_arrays(None)[0].numpy()
    results = [standalone.read_image(path, contract(images)) for path in sorted(folder.glob("val/*/*.png"))]
    np.testing.assert_array_equal(np.stack(results), expected)


@pytest.mark.parametrize("size", [(1, 8, 8), (1, 32, 32), (3, 32, 32), (1, 20, 13)])
def test_the_contract_of_the_digits_is_followed(size: tuple[int, int, int], tmp_path: Path) -> None:
    original = data.load("digits", input_size=(1, 8, 8))
    pixels = (
        original.test_arrays(50)[0].numpy() * original.info.preprocess.std + original.info.preprocess.mean
    )
    images = data.load("digits", input_size=size)
    results = []
    for image in pixels:
        Image.fromarray(np.rint(image[0] * 255).astype(np.uint8)).save(tmp_path / "digit.png")
        results.append(standalone.read_image(tmp_path / "digit.png", contract(images)))
    assert_same_pixels(np.stack(results), images.test_arrays(50)[0].numpy(), images)


@pytest.mark.parametrize("size", [(3, 32, 32), (3, 48, 20), (3, 100, 150)])
def test_the_contract_of_photographs_in_memory_is_followed(
    size: tuple[int, int, int], tmp_path: Path
) -> None:
    tiles = np.stack(
        [photo[y : y + 61, x : x + 90] for photo in photos() for y in (0, 200) for x in (5, 400)]
    )
    np.savez(
        tmp_path / "x.npz", x_train=tiles, y_train=np.arange(8) % 2, x_test=tiles, y_test=np.arange(8) % 2
    )
    images = data.load(f"npz:{tmp_path / 'x.npz'}", input_size=size)
    results = []
    for tile in tiles:
        Image.fromarray(tile).save(tmp_path / "tile.png")
        results.append(standalone.read_image(tmp_path / "tile.png", contract(images)))
    assert_same_pixels(np.stack(results), images.test_arrays(None)[0].numpy(), images)


def assert_same_pixels(result: NDArray[Any], expected: NDArray[Any], images: ImageData) -> None:
    """Equal, but for values within a float's error of a half, which torch and Pillow may round apart."""
    assert result.shape == expected.shape
    std = torch.tensor(images.info.preprocess.std).numpy()[:, None, None]
    levels = np.abs(result - expected) * std * 255
    assert levels.max() < 1.001
    assert (levels > 0.001).mean() < 0.01


def test_an_image_that_is_too_small_is_refused(tmp_path: Path) -> None:
    Image.new("L", (8, 7)).save(tmp_path / "low.png")
    with pytest.raises(standalone.InferenceError, match="the network takes"):
        standalone.read_image(tmp_path / "low.png", contract(data.load("digits", input_size=(1, 8, 8))))


# --- what is asked for beside the file ------------------------------------------------------------------


def test_an_export_leaves_script_signature_and_repository(run: Path, tmp_path: Path) -> None:
    public = new_key(tmp_path / "key.pem")
    script, models = run / "export" / "infer.py", tmp_path / "models"
    todo = prepare_extras(run, ["onnx"], sign=tmp_path / "key.pem", script=script, triton_repository=models)
    left = todo.write([export(run, samples=32)])
    assert left.script == script
    assert left.triton == models / "tiny-run"
    assert verify_folder(run, public).passed
    signature = run / "export" / manifest.SIGNATURE
    assert (
        PublicKey(public).signature_error(
            (run / "export" / "manifest.json").read_bytes(), signature.read_bytes()
        )
        is None
    )


def test_an_export_without_options_writes_no_script_signature_or_repository(run: Path) -> None:
    left = prepare_extras(run, ["onnx"]).write([export(run, samples=32)])
    assert left.to_json() == {}
    assert {path.name for path in (run / "export").iterdir()} == {"model.onnx", "manifest.json"}


def test_invalid_script_signature_and_repository_options_are_refused_before_the_export(
    run: Path, tmp_path: Path
) -> None:
    for format, options, code in (
        ("onnx", {"sign": tmp_path / "none.pem"}, "missing-file"),
        ("trt", {"script": tmp_path / "a.py"}, "script-format"),
        ("trt-rtx", {"triton_repository": tmp_path / "m"}, "triton-format"),
        ("onnx", {"triton_repository": run / "export" / "m"}, "triton-place"),
        ("onnx", {"script": run / "run.json"}, "exists"),
        ("onnx", {"script": tmp_path}, "exists"),
    ):
        with pytest.raises(CompressError) as caught:
            prepare_extras(run, [format], **options)
        assert caught.value.code == code
    assert not (run / "export").exists()


def test_a_file_of_openvino_is_run_too(exported: Path, images: NDArray[np.float32]) -> None:
    openvino = pytest.importorskip("openvino")
    openvino.save_model(
        openvino.convert_model(exported / "model.onnx"), exported / "model.fp32.xml", compress_to_fp16=False
    )
    listed = manifest.read(exported)
    weights = manifest.companion_record(exported / "model.fp32.bin")
    part = manifest.companion_record(exported / "model.fp32.xml").model_dump()
    record = listed.files[0].model_copy(update={**part, "format": "openvino", "companions": (weights,)})
    manifest.write(exported, listed.with_file(record))
    result = standalone.Classifier(exported / "manifest.json", "model.fp32.xml").run(images)
    expected = OnnxClassifier(exported / "model.onnx").logits(images)
    np.testing.assert_allclose(result, expected, rtol=0, atol=1e-4 * np.abs(expected).max())
    (exported / "model.fp32.bin").write_bytes(b"others")
    with pytest.raises(standalone.InferenceError, match=r"model\.fp32\.bin is not the file of the manifest"):
        standalone.Classifier(exported / "manifest.json", "model.fp32.xml")
