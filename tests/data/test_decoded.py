"""Decoding by worker processes: the images do not depend on how they are decoded, and errors are clear."""

from __future__ import annotations

import gc
import multiprocessing
import os
import signal
import subprocess
import sys
from pathlib import Path
from types import FrameType

import numpy as np
import psutil
import pytest
import torch
from PIL import Image

from compress import data
from compress.core.errors import CompressError, Exit
from compress.data.crops import AREA, RATIO, random_crop
from compress.data.decode import pillow_rgb, pixels_rgb
from compress.data.folder import FolderImages

SIZE = (3, 24, 24)


def load(folder: Path, workers: int) -> data.ImageData:
    return data.load(f"folder:{folder}", SIZE, workers=workers)


def epoch(images: data.ImageData, number: int) -> list[torch.Tensor]:
    return [x for x, _ in images.train_batches(epoch=number, batch_size=4, seed=5)]


def same(a: list[torch.Tensor], b: list[torch.Tensor]) -> bool:
    return len(a) == len(b) and all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


def test_workers_are_kept_between_epochs_and_do_not_change_images(image_folder: Path) -> None:
    helped, alone = load(image_folder, 2), load(image_folder, 0)
    others = {child.pid for child in psutil.Process().children(recursive=True)}
    children = []
    for number in (3, 0, 1):  # as a resumed run would: in whatever order
        assert same(epoch(helped, number), epoch(alone, number))
        children.append({child.pid for child in psutil.Process().children(recursive=True)} - others)
    assert len(children[0]) == 2
    assert children[0] == children[1] == children[2]


def test_an_unfinished_epoch_does_not_affect_the_next(image_folder: Path) -> None:
    helped = load(image_folder, 2)
    for _ in helped.train_batches(epoch=0, batch_size=2, seed=5):
        break
    assert same(epoch(helped, 1), epoch(load(image_folder, 0), 1))


def test_two_concurrent_epochs_do_not_mix(image_folder: Path) -> None:
    helped, alone = load(image_folder, 2), load(image_folder, 0)
    pairs = zip(
        helped.train_batches(epoch=0, batch_size=4, seed=5),
        helped.train_batches(epoch=1, batch_size=4, seed=5),
        strict=True,
    )
    first, second = zip(*((a[0], b[0]) for a, b in pairs), strict=True)
    assert same(list(first), epoch(alone, 0))
    assert same(list(second), epoch(alone, 1))


def test_evaluation_between_epochs_uses_the_same_workers(image_folder: Path) -> None:
    helped, alone = load(image_folder, 2), load(image_folder, 0)
    others = set(psutil.Process().children(recursive=True))  # of earlier tests; some may end meanwhile
    epoch(helped, 0)
    own = set(psutil.Process().children(recursive=True)) - others
    assert len(own) == 2
    tests = [[x for x, _ in side.test_batches(batch_size=2)] for side in (helped, alone)]
    assert same(*tests)
    assert same(epoch(helped, 1), epoch(alone, 1))
    assert set(psutil.Process().children(recursive=True)) - others == own


def test_a_killed_worker_is_reported(image_folder: Path) -> None:
    others = set(psutil.Process().children(recursive=True))
    helped = load(image_folder, 2)
    batches = iter(helped.train_batches(epoch=0, batch_size=1, seed=5))
    next(batches)
    for child in set(psutil.Process().children(recursive=True)) - others:
        os.kill(child.pid, signal.SIGKILL)
    with pytest.raises(CompressError, match=r"a process that decodes images .*(killed|ended)") as caught:
        list(batches)
    assert (caught.value.code, caught.value.exit) == ("worker-died", Exit.MISSING)
    assert "--workers" in caught.value.hint
    assert "SIGKILL" in caught.value.message
    subprocess.run([sys.executable, "-c", ""], check=True)  # its end is not taken for that of a worker
    assert same(epoch(helped, 1), epoch(load(image_folder, 0), 1))  # new ones are started


def test_workers_end_when_their_data_is_collected_in_a_cycle(image_folder: Path) -> None:
    others = set(multiprocessing.active_children())
    lost = [load(image_folder, 2)]
    epoch(lost[0], 0)
    lost.append(lost)  # type: ignore[arg-type]
    own = set(multiprocessing.active_children()) - others
    assert len(own) == 2
    del lost
    gc.collect()
    for process in own:
        process.join(60)
    assert {process.exitcode for process in own} == {0}


def test_the_sigchld_handler_of_the_program_is_kept(image_folder: Path) -> None:
    def own(number: int, frame: FrameType | None) -> None: ...

    before = signal.signal(signal.SIGCHLD, own)
    try:
        epoch(load(image_folder, 1), 0)
        assert signal.getsignal(signal.SIGCHLD) is own
    finally:
        signal.signal(signal.SIGCHLD, before)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_training_image_that_cannot_be_decoded_is_named(image_folder: Path, workers: int) -> None:
    broken = image_folder / "train/cat/2.jpg"
    broken.write_bytes(broken.read_bytes()[:200])
    with pytest.raises(CompressError, match=str(broken)) as caught:
        epoch(load(image_folder, workers), 0)
    assert (caught.value.code, caught.value.exit) == ("data-unreadable", Exit.MISSING)


@pytest.mark.parametrize(
    ("mode", "suffix"),
    [("RGB", "jpg"), ("L", "jpg"), ("CMYK", "jpg"), ("RGB", "png"), ("L", "png"), ("RGB", "webp")],
)
def test_both_decoders_give_the_same_pixels(mode: str, suffix: str, tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    small = Image.fromarray(draw.integers(0, 256, (9, 12, 3), dtype=np.uint8))
    path = tmp_path / f"image.{suffix}"
    small.resize((97, 71), Image.Resampling.BICUBIC).convert(mode).save(path)
    expected = torch.from_numpy(np.array(pillow_rgb(str(path)))).permute(2, 0, 1)
    assert pixels_rgb(str(path)).dtype == torch.uint8
    assert (pixels_rgb(str(path)).int() - expected.int()).abs().max() <= (1 if mode == "CMYK" else 0)


def test_a_png_with_the_suffix_jpg_is_read(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (8, 9, 3), dtype=np.uint8)
    path = tmp_path / "really-png.jpg"
    Image.fromarray(pixels).save(path, format="PNG")
    assert torch.equal(pixels_rgb(str(path)), torch.from_numpy(pixels).permute(2, 0, 1))


def test_paths_with_any_characters_are_kept() -> None:
    samples = [("/a/ü b.jpg", 1), ("/c", 0), ("/d\udcff.png", 2)]
    images = FolderImages(samples)
    assert [(images.path(i), images.label(i)) for i in range(len(images))] == samples


def test_crops_have_the_expected_area_ratio_and_positions() -> None:
    height, width = 300, 400
    crops = [random_crop(height, width, seed) for seed in range(4000)]
    assert all(0 <= c.top <= height - c.height and 0 <= c.left <= width - c.width for c in crops)
    shares = np.array([c.height * c.width / (height * width) for c in crops])
    ratios = np.array([c.width / c.height for c in crops])
    assert AREA[0] * 0.97 < shares.min() < 0.1 and 0.9 < shares.max() <= 1
    assert RATIO[0] * 0.97 < ratios.min() < 0.77 and 1.3 < ratios.max() < RATIO[1] * 1.03
    assert np.mean([c.flipped for c in crops]) == pytest.approx(0.5, abs=0.03)
    assert np.mean([(c.top + c.height / 2) / height for c in crops]) == pytest.approx(0.5, abs=0.02)
    assert np.mean([(c.left + c.width / 2) / width for c in crops]) == pytest.approx(0.5, abs=0.02)


@pytest.mark.parametrize(("height", "width"), [(10, 1000), (1000, 10), (1, 1)])
def test_an_image_of_extreme_shape_has_a_crop_inside(height: int, width: int) -> None:
    for seed in range(50):
        crop = random_crop(height, width, seed)
        assert crop.height >= 1 and crop.width >= 1
        assert crop.top >= 0 and crop.top + crop.height <= height
        assert crop.left >= 0 and crop.left + crop.width <= width


def test_crops_are_distributed_as_torchvisions() -> None:
    from torchvision.transforms import RandomResizedCrop

    torch.manual_seed(0)
    image = torch.empty(3, 60, 500)  # so wide that most draws do not fit
    theirs = np.array([RandomResizedCrop.get_params(image, list(AREA), list(RATIO)) for _ in range(3000)])
    crops = [random_crop(60, 500, seed) for seed in range(3000)]
    ours = np.array([(c.top, c.left, c.height, c.width) for c in crops])
    np.testing.assert_allclose(ours.mean(0), theirs.mean(0), rtol=0.04, atol=0.5)
    np.testing.assert_allclose(ours.std(0), theirs.std(0), rtol=0.06, atol=0.5)


def test_missing_dali_gives_the_command_that_installs_it(image_folder: Path) -> None:
    if _has_dali():
        pytest.skip("DALI is installed")
    with pytest.raises(CompressError, match="needs NVIDIA DALI") as caught:
        data.load(f"folder:{image_folder}", SIZE, dali=True)
    assert (caught.value.code, caught.value.exit) == ("missing-package", Exit.MISSING)
    assert caught.value.hint.startswith("pip install nvidia-dali-cuda1")


def test_dali_is_refused_for_data_without_image_files() -> None:
    with pytest.raises(CompressError, match="'digits' has none") as caught:
        data.load("digits", dali=True)
    assert caught.value.exit is Exit.USAGE


def _has_dali() -> bool:
    try:
        import nvidia.dali  # noqa: F401
    except ImportError:
        return False
    return True
