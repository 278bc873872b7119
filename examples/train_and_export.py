"""Train a compact network on the built-in digits, export it to ONNX, and run the file in ONNX Runtime.

python examples/train_and_export.py --epochs 8
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import onnxruntime

import compress
from compress.data import load as load_data
from compress.export import export


def main(arguments: Sequence[str] | None = None) -> float:
    """Train, export and evaluate; return the accuracy of the exported file."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--out", type=Path, default=Path("runs/train_and_export"))
    options = parser.parse_args(arguments)

    # dcff trains at the compact size from the first step and needs no trained network
    result = compress.train(
        "vgg_small",
        "digits",
        compress.DCFF(),
        target="macs=0.5",
        epochs=options.epochs,
        batch_size=32,
        lr=0.05,
        out=options.out,
    )
    print(result)

    # the file is compared with the compact model on test images before it is released
    exported = export(result.run, "onnx")
    print(exported)

    # the exported file needs ONNX Runtime only: no torch, no compress
    session = onnxruntime.InferenceSession(str(exported.path), providers=["CPUExecutionProvider"])
    images, labels = load_data("digits").test_arrays(360)
    (logits,) = session.run(None, {session.get_inputs()[0].name: images.numpy()})
    accuracy = float((logits.argmax(1) == labels.numpy()).mean())
    print(f"top-1 of {exported.path.name} on {len(labels)} test images: {accuracy:.2%}")
    return accuracy


if __name__ == "__main__":
    main()
