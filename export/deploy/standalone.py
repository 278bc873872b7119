"""Classify images with an exported network. Needs numpy, Pillow and the runtime of the file, nothing else.

    python infer.py IMAGE... [--file NAME] [--manifest FILE] [--json]

The manifest says how an image is preprocessed, and is checked against the file. In a program:
`Classifier(Path("manifest.json")).logits(["cat.jpg"])`. Exit code 2: wrong arguments; 3: something is missing
or not as it should be.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

MANIFEST = "manifest.json"  # relative to this script
FILE = ""  # the file to run; may stay empty if the manifest lists only one

Array = Any
Run = Callable[[Array], Array]


class InferenceError(Exception):
    """An error to report in one line."""


class Classifier:
    """A file of an export folder on the CPU.

    Args:
        manifest: the manifest of the folder.
        file: name of the file; may stay empty if only one can run here.
    """

    def __init__(self, manifest: Path, file: str = "") -> None:
        try:
            listed = json.loads(manifest.read_text(encoding="utf-8"))["files"]
        except FileNotFoundError as error:
            raise InferenceError(f"there is no manifest {manifest}; keep the files together") from error
        except (OSError, ValueError, KeyError) as error:
            raise InferenceError(f"the manifest {manifest} cannot be read: {error!r}") from error
        runnable = [record for record in listed if record["format"] in RUNTIMES]
        chosen = [record for record in runnable if file in ("", record["file"])]
        if len(chosen) != 1:
            names = ", ".join(record["file"] for record in runnable) or "no file"
            raise InferenceError(f"{manifest} lists {names}; choose one with --file")
        self.record = chosen[0]
        for part in (self.record, *self.record.get("companions", ())):
            check_content(manifest.parent / part["file"], part)
        self.classes: list[str] = self.record["classes"]
        self._batch = self.record["inputs"][0]["shape"][0]
        open_file = RUNTIMES[self.record["format"]]
        self._run = open_file(manifest.parent / self.record["file"], self.record["precision"])

    def logits(self, images: Sequence[Path | str]) -> Array:
        """Return float32 `[N, classes]` for image files."""
        return self.run(np.stack([read_image(Path(image), self.record["preprocess"]) for image in images]))

    def run(self, inputs: Array) -> Array:
        """Return float32 `[N, classes]` for float32 `[N, C, H, W]`."""
        size = self._batch
        if not isinstance(size, int):
            return self._run(inputs)
        parts = []
        for start in range(0, len(inputs), size):  # a fixed batch size: the last batch is padded with zeros
            part = inputs[start : start + size]
            padded = np.zeros((size, *part.shape[1:]), np.float32)
            padded[: len(part)] = part
            parts.append(self._run(padded)[: len(part)])
        return np.concatenate(parts)


def check_content(path: Path, record: dict[str, Any]) -> None:
    """Refuse a file whose hash differs from its record in the manifest."""
    if not path.is_file():
        raise InferenceError(f"{path} is missing")
    if hashlib.sha256(path.read_bytes()).hexdigest() != record["sha256"]:
        raise InferenceError(f"{path} is not the file of the manifest: its SHA-256 differs")


def open_onnxruntime(path: Path, precision: str) -> Run:
    """Open an ONNX file in ONNX Runtime on the CPU; its precision is in the file."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    source, result = session.get_inputs()[0].name, session.get_outputs()[0].name
    return lambda inputs: session.run([result], {source: inputs})[0]


def open_openvino(path: Path, precision: str) -> Run:
    """Open an OpenVINO file on the CPU; the hint stops a float32 file from computing in BF16."""
    import openvino

    hint = {"INFERENCE_PRECISION_HINT": "bf16" if precision == "bf16" else "f32"}
    model = openvino.Core().compile_model(str(path), "CPU", hint)
    return lambda inputs: np.asarray(model(inputs)[0], np.float32)


RUNTIMES: dict[str, Callable[[Path, str], Run]] = {"onnx": open_onnxruntime, "openvino": open_openvino}


def read_image(path: Path, preprocess: dict[str, Any]) -> Array:
    """Return an image file as the network's input, float32 `[C, H, W]`.

    Args:
        path: the image.
        preprocess: how to preprocess it, from the manifest.
    """
    from PIL import Image

    channels, height, width = preprocess["input_size"]
    try:
        with Image.open(path) as file:
            image = file.convert(preprocess["color"])
    except OSError as error:  # missing, unreadable, or no image
        reason = "there is no such file" if isinstance(error, FileNotFoundError) else str(error)
        raise InferenceError(f"the image {path} cannot be read: {reason}") from error
    if preprocess["resize"] is not None:
        image = resize_image(image, preprocess)
    pixels = np.asarray(image).reshape(image.height, image.width, -1)
    top, left = (
        (size - target) // 2 if preprocess["resampling"] == "float32" else round((size - target) / 2)
        for size, target in ((image.height, height), (image.width, width))
    )
    if image.height < height or image.width < width or pixels.shape[2] != channels:
        raise InferenceError(
            f"the image {path} has height, width and channels {pixels.shape}, "
            f"the network takes {(height, width, channels)}"
        )
    pixels = pixels[top : top + height, left : left + width].transpose(2, 0, 1)
    low, high = preprocess["value_range"]
    values = pixels.astype(np.float32) / np.float32(255) * np.float32(high - low) + np.float32(low)
    mean, std = (np.array(preprocess[key], np.float32)[:, None, None] for key in ("mean", "std"))
    return (values - mean) / std


def resize_image(image: Any, preprocess: dict[str, Any]) -> Any:
    """Resize a Pillow image to the shorter side of `preprocess`."""
    from PIL import Image

    method = getattr(Image.Resampling, preprocess["interpolation"].upper())
    short, side = min(image.size), preprocess["resize"]
    if preprocess["resampling"] == "pillow":
        sizes = [side if size == short else int(side * size / short) for size in image.size]
        return image.resize((sizes[0], sizes[1]), method)
    _, height, width = preprocess["input_size"]
    scale = side / short
    new = tuple(max(round(n * scale), least) for n, least in zip(image.size, (width, height), strict=True))
    bands = [np.asarray(band.convert("F").resize(new, method)) for band in image.split()]
    pixels = np.clip(np.rint(np.stack(bands, -1)), 0, 255).astype(np.uint8)
    return Image.fromarray(pixels if len(bands) > 1 else pixels[..., 0])


def main() -> None:
    """Print the class of each image."""
    parser = argparse.ArgumentParser(description="Classify images with an exported network.")
    parser.add_argument("images", nargs="+", metavar="IMAGE")
    parser.add_argument("--manifest", type=Path, default=Path(__file__).resolve().parent / MANIFEST)
    parser.add_argument("--file", default=FILE, help="which file of the manifest to run")
    parser.add_argument("--json", action="store_true", help="also print the logits, as JSON")
    options = parser.parse_args()
    model = Classifier(options.manifest, options.file)
    results = []
    for name in options.images:
        logits = model.logits([name])[0]
        exponentials = np.exp(logits - logits.max())
        best, probability = int(logits.argmax()), float(exponentials.max() / exponentials.sum())
        result = {"image": name, "class": model.classes[best], "probability": probability}
        results.append({**result, "logits": logits.tolist()})
        if not options.json:
            print(f"{name}: {model.classes[best]} ({probability:.1%})")
    if options.json:
        print(json.dumps(results))


if __name__ == "__main__":
    try:
        main()
    except InferenceError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(3)
