"""Images normalized with a model's statistics instead of their own."""

from __future__ import annotations

import pytest
import torch
from image_arrays import SaveNpz, arrays

from compress import data
from compress.core.errors import CompressError, Exit
from compress.core.spec import Preprocess
from compress.data import ImageData, with_normalization, with_preprocess


@pytest.fixture
def images(save_npz: SaveNpz) -> ImageData:
    return data.load(save_npz(**arrays()))


@pytest.fixture
def wanted(images: ImageData) -> Preprocess:
    return images.info.preprocess.model_copy(update={"mean": (0.1, 0.2, 0.3), "std": (0.5, 0.25, 1.0)})


def pixels(normalized: torch.Tensor, preprocess: Preprocess) -> torch.Tensor:
    mean, std = (torch.tensor(values)[:, None, None] for values in (preprocess.mean, preprocess.std))
    return (normalized * std + mean) * 255


def test_data_with_the_models_preprocessing_is_returned_unchanged(images: ImageData) -> None:
    assert with_preprocess(images, images.info.preprocess) is images


def test_test_images_have_the_same_pixels_under_the_models_statistics(
    images: ImageData, wanted: Preprocess
) -> None:
    own, labels = images.test_arrays(9, offset=2)
    result, same = with_preprocess(images, wanted).test_arrays(9, offset=2)
    assert not torch.allclose(result, own, atol=0.1)
    torch.testing.assert_close(pixels(result, wanted), pixels(own, images.info.preprocess), rtol=0, atol=1e-3)
    assert torch.equal(same, labels)


def test_batches_are_the_test_images_in_order(images: ImageData, wanted: Preprocess) -> None:
    fitted = with_preprocess(images, wanted)
    batches = fitted.test_batches(batch_size=10)
    assert len(batches) == len(list(batches)) == 3
    x, y = (torch.cat(parts) for parts in zip(*batches, strict=True))
    every = fitted.test_arrays()
    torch.testing.assert_close(x, every[0])
    assert torch.equal(y, every[1])


def test_training_batches_have_the_same_augmentation(images: ImageData, wanted: Preprocess) -> None:
    own = images.train_batches(epoch=1, batch_size=25, seed=3)
    result = with_preprocess(images, wanted).train_batches(epoch=1, batch_size=25, seed=3)
    assert len(result) == len(own)
    for (x, y), (x_own, y_own) in zip(result, own, strict=True):
        torch.testing.assert_close(
            pixels(x, wanted), pixels(x_own, images.info.preprocess), rtol=0, atol=1e-3
        )
        assert torch.equal(y, y_own)


def test_samples_for_calibration_are_converted_too(images: ImageData, wanted: Preprocess) -> None:
    result, own = with_preprocess(images, wanted).train_samples(5, 1), images.train_samples(5, 1)
    torch.testing.assert_close(pixels(result, wanted), pixels(own, images.info.preprocess), rtol=0, atol=1e-3)


def test_the_record_holds_the_models_preprocessing_and_the_datas_name(
    images: ImageData, wanted: Preprocess
) -> None:
    result = with_preprocess(images, wanted).info
    assert result.preprocess == wanted
    assert (result.name, result.classes) == (images.info.name, images.info.classes)


def test_another_shape_is_refused_with_both_shapes(images: ImageData, wanted: Preprocess) -> None:
    with pytest.raises(CompressError, match=r"\[3, 8, 8\].*\[3, 16, 16\]") as caught:
        with_preprocess(images, wanted.model_copy(update={"input_size": (3, 8, 8)}))
    assert (caught.value.exit, caught.value.code) == (Exit.USAGE, "input-shape")


def test_a_mean_alone_leaves_the_deviation_as_it_is(images: ImageData) -> None:
    result = with_normalization(images, mean=(0.1, 0.2, 0.3)).info.preprocess
    assert result == images.info.preprocess.model_copy(update={"mean": (0.1, 0.2, 0.3)})


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"mean": (0.5,)}, "--mean has 1 values, the images have 3 channels"),
        ({"std": (0.2, 0.0, 0.2)}, "--std 0.2,0.0,0.2: a standard deviation must be greater"),
    ],
)
def test_an_invalid_normalization_is_refused_with_its_values(
    images: ImageData, values: dict[str, tuple[float, ...]], said: str
) -> None:
    with pytest.raises(CompressError, match=said) as caught:
        with_normalization(images, **values)
    assert (caught.value.exit, caught.value.code) == (Exit.USAGE, "normalisation")
