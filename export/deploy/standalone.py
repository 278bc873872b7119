"""Classify images with an exported network. Needs numpy, Pillow and the file's runtime, nothing else.

    python infer.py IMAGE... [--file NAME] [--manifest FILE] [--json]

What an image must become before it goes in is read from the manifest, which is checked against the file.
`Classifier` does the same from a program: `Classifier(Path("manifest.json")).logits(["cat.jpg"])`.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

MANIFEST = "manifest.json"  # relative to this script
FILE = ""  # the file to run; empty where the manifest has only one

Array = Any
Run = Callable[[Array], Array]


class Classifier:
    """A file of an export folder on the CPU.

    Args:
        manifest: the folder's manifest.
        file: which of its files; empty where there is only one that runs here.
    """

    def __init__(self, manifest: Path, file: str = "") -> None:
        listed = json.loads(manifest.read_text(encoding="utf-8"))["files"]
        known = [record for record in listed if record["format"] in RUNTIMES]
        chosen = [record for record in known if file in ("", record["file"])]
        if len(chosen) != 1:
            names = ", ".join(record["file"] for record in known) or "nothing"
            raise SystemExit(f"error: {manifest} offers {names}; choose one with --file")
        self.record = chosen[0]
        for part in (self.record, *self.record.get("companions", ())):
            check(manifest.parent / part["file"], part)
        self.classes: list[str] = self.record["classes"]
        self._batch = self.record["inputs"][0]["shape"][0]
        open_file = RUNTIMES[self.record["format"]]
        self._run = open_file(manifest.parent / self.record["file"], self.record["precision"])

    def logits(self, images: Sequence[Path | str]) -> Array:
        """Return float32 `[N, classes]` for image files."""
        return self.run(np.stack([read(Path(image), self.record["preprocess"]) for image in images]))

    def run(self, inputs: Array) -> Array:
        """Return float32 `[N, classes]` for float32 `[N, C, H, W]`."""
        size = self._batch
        if not isinstance(size, int):
            return self._run(inputs)
        parts = []
        for start in range(0, len(inputs), size):  # a fixed batch size: the last one is filled with zeros
            part = inputs[start : start + size]
            full = np.zeros((size, *part.shape[1:]), np.float32)
            full[: len(part)] = part
            parts.append(self._run(full)[: len(part)])
        return np.concatenate(parts)


def check(path: Path, record: dict[str, Any]) -> None:
    """Refuse a file whose content is not the manifest's."""
    if not path.is_file():
        raise SystemExit(f"error: {path} is missing")
    if hashlib.sha256(path.read_bytes()).hexdigest() != record["sha256"]:
        raise SystemExit(f"error: {path} is not the file of the manifest: its SHA-256 is another")


def onnxruntime_cpu(path: Path, precision: str) -> Run:
    """Open an ONNX file in ONNX Runtime; its precision is in the file."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    source, result = session.get_inputs()[0].name, session.get_outputs()[0].name
    return lambda inputs: session.run([result], {source: inputs})[0]


def openvino_cpu(path: Path, precision: str) -> Run:
    """Open an OpenVINO file; unless told otherwise it computes in BF16 where the CPU can."""
    import openvino

    hint = {"INFERENCE_PRECISION_HINT": "bf16" if precision == "bf16" else "f32"}
    model = openvino.Core().compile_model(str(path), "CPU", hint)
    return lambda inputs: np.asarray(model(inputs)[0], np.float32)


RUNTIMES: dict[str, Callable[[Path, str], Run]] = {"onnx": onnxruntime_cpu, "openvino": openvino_cpu}


def read(path: Path, contract: dict[str, Any]) -> Array:
    """Return an image file as the network's input, float32 `[C, H, W]`."""
    from PIL import Image

    channels, height, width = contract["input_size"]
    with Image.open(path) as file:
        image = file.convert(contract["color"])
    if contract["resize"] is not None:
        image = resize(image, contract)
    pixels = np.asarray(image).reshape(image.height, image.width, -1)
    top, left = (
        (size - wanted) // 2 if contract["resampling"] == "float32" else round((size - wanted) / 2)
        for size, wanted in ((image.height, height), (image.width, width))
    )
    if image.height < height or image.width < width or pixels.shape[2] != channels:
        raise SystemExit(f"error: {path} is {pixels.shape}, the network takes {(height, width, channels)}")
    pixels = pixels[top : top + height, left : left + width].transpose(2, 0, 1)
    low, high = contract["value_range"]
    values = pixels.astype(np.float32) / np.float32(255) * np.float32(high - low) + np.float32(low)
    mean, std = (np.array(contract[key], np.float32)[:, None, None] for key in ("mean", "std"))
    return (values - mean) / std


def resize(image: Any, contract: dict[str, Any]) -> Any:
    """Resize a Pillow image so that its shorter side is the contract's."""
    from PIL import Image

    how = getattr(Image.Resampling, contract["interpolation"].upper())
    short, side = min(image.size), contract["resize"]
    if contract["resampling"] == "pillow":
        sizes = [side if size == short else int(side * size / short) for size in image.size]
        return image.resize((sizes[0], sizes[1]), how)
    _, height, width = contract["input_size"]
    scale = side / short
    new = tuple(max(round(n * scale), least) for n, least in zip(image.size, (width, height), strict=True))
    bands = [np.asarray(band.convert("F").resize(new, how)) for band in image.split()]
    pixels = np.clip(np.rint(np.stack(bands, -1)), 0, 255).astype(np.uint8)
    return Image.fromarray(pixels if len(bands) > 1 else pixels[..., 0])


def main() -> None:
    """Print the class of each image."""
    parser = argparse.ArgumentParser(description="Classify images with an exported network.")
    parser.add_argument("images", nargs="+", metavar="IMAGE")
    parser.add_argument("--manifest", type=Path, default=Path(__file__).resolve().parent / MANIFEST)
    parser.add_argument("--file", default=FILE, help="which file of the manifest is run")
    parser.add_argument("--json", action="store_true", help="print the logits too, as JSON")
    options = parser.parse_args()
    model = Classifier(options.manifest, options.file)
    results = []
    for name in options.images:
        logits = model.logits([name])[0]
        shares = np.exp(logits - logits.max())
        best, share = int(logits.argmax()), float(shares.max() / shares.sum())
        found = {"image": name, "class": model.classes[best], "probability": share}
        results.append({**found, "logits": logits.tolist()})
        if not options.json:
            print(f"{name}: {model.classes[best]} ({share:.1%})")
    if options.json:
        print(json.dumps(results))


if __name__ == "__main__":
    main()
