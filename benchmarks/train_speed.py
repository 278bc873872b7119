"""Training speed: images per second, and the share of the device's peak matrix-product rate.

`python -m benchmarks.train_speed` measures VGG-16 and ResNet-56 for CIFAR-10 and ResNet-50 at 224x224 pixels
on random images: dense, compact from scratch, and with DCFF, KDFS and ABP. Each is compared with the dense
network in ABBA blocks, with an A/A comparison. A GPU uses bf16; a CPU uses fp32 and the small form (few and
small images). MACs are those of `compress.cost` for the forward pass of one image. A step counts as three
forward passes, plus one of the teacher for KDFS. The peak is that of a large matrix product in the same
precision, measured in the same run.
"""

from __future__ import annotations

import argparse
import gc
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from benchmarks.common import RESULTS, provenance, write_result
from benchmarks.matmul_peak import Peak, matmul_peak
from benchmarks.train_variants import FORWARDS, VARIANTS, Variant, variant
from compress.bench.protocol.machine import OthersLoad, default_threads
from compress.bench.protocol.paired import PairedComparison, compare_in_pairs, warm_up

SCHEMA_VERSION = 1
GPU_MEASURE_NS = 300_000_000
"""Duration of one measurement on a GPU; long enough that its queue is almost always full."""


@dataclass(frozen=True)
class Network:
    """A network that is measured.

    Attributes:
        recipe: gives the model and the widths. batch: images per step.
        small_batch, small_size: batch and image size of the small form; None: the recipe's size.
    """

    recipe: str
    batch: int
    small_batch: int
    small_size: tuple[int, int, int] | None = None


NETWORKS = {
    "vgg16": Network("dcff-vgg16-cifar10", 512, 2),
    "resnet56": Network("dcff-resnet56-cifar10", 512, 2),
    "resnet50": Network("dcff-resnet50-imagenet-step-63.8", 256, 2, (3, 32, 32)),
}


@dataclass(frozen=True)
class Form:
    """Form of the measurement: size, device, precision and number of pairs."""

    small: bool
    device: str
    precision: str
    pairs: int
    measure_ns: int

    @classmethod
    def of(cls, small: bool | None, device: str, precision: str | None, pairs: int | None) -> Form:
        """Return a form with defaults that depend on the device and the size."""
        gpu = device == "cuda"
        is_small = not gpu if small is None else small
        return cls(
            small=is_small,
            device=device,
            precision=precision or ("bf16" if gpu else "fp32"),
            pairs=pairs or (6 if is_small else 30),
            measure_ns=GPU_MEASURE_NS if gpu else 20_000_000,
        )


def measure_variants(
    name: str,
    network: Network,
    variants: Sequence[str],
    form: Form,
    peak: Peak,
    batch: int | None = None,
) -> dict[str, Any]:
    """Compare the variants of a network with the dense one in pairs, and the dense one with itself."""
    images = batch or (network.small_batch if form.small else network.batch)
    size = network.small_size if form.small else None

    def build(which: str) -> Variant:
        where = {"device": form.device, "precision": form.precision, "size": size}
        return variant(which, network.recipe, images, **where)  # type: ignore[arg-type]

    load = OthersLoad()
    dense = build("dense")
    typical = warm_up(dense.steps).typical_ns
    rows = []
    for which in ("dense", *(v for v in variants if v != "dense")):
        if form.device == "cuda":
            torch.cuda.reset_peak_memory_stats()
        other = build(which)
        own = warm_up(other.steps).typical_ns
        memory = torch.cuda.max_memory_allocated() if form.device == "cuda" else None
        comparison = compare_in_pairs(
            dense.steps,
            other.steps,
            typical_ns=(typical, own),
            pairs=form.pairs,
            measure_ns=form.measure_ns,
        )
        rows.append({**_row(other, dense, comparison, images, peak), "peak_device_bytes": memory})
        del other
        gc.collect()
    return {
        "network": name,
        "recipe": network.recipe,
        "input": [images, *_shape(dense)],
        "dense_macs": dense.macs,
        "others_load": load.share(),
        "variants": rows,
    }


def _shape(variant: Variant) -> list[int]:
    return list(variant.steps.x.shape[1:])


def _row(
    other: Variant, dense: Variant, comparison: PairedComparison, images: int, peak: Peak
) -> dict[str, Any]:
    """Return the record of one variant; that of the dense network is the A/A comparison."""
    seconds = float(np.median(comparison.b_ns)) / 1e9
    ratio = comparison.ratio
    speedup = math.exp(ratio.median)
    reduction = dense.step_macs / other.step_macs
    return {
        "variant": other.name,
        "what": VARIANTS[other.name],
        "forward_macs": other.macs,
        "teacher_macs": other.teacher_macs,
        "step_macs": other.step_macs,
        "deployed_macs": other.deployed_macs,
        "trained_params": other.params,
        "ms_per_step": 1e3 * seconds,
        "images_per_s": images / seconds,
        "dense_ms_per_step": float(np.median(comparison.a_ns)) / 1e6,
        "share_of_peak": images * other.step_macs / seconds / peak.macs_per_s,
        "speedup": {"ratio": speedup, "low": math.exp(ratio.low), "high": math.exp(ratio.high)},
        "pairs": ratio.pairs,
        "mac_reduction": reduction,
        "efficiency": speedup / reduction,
    }


def render_tables(record: dict[str, Any]) -> list[Table]:
    """Return one table per network."""
    return [_table(network, record) for network in record["networks"]]


def _table(network: dict[str, Any], record: dict[str, Any]) -> Table:
    size = " x ".join(map(str, network["input"]))
    table = Table(
        "trained", "images/s", "ms per step", "speed-up over dense", "95% interval", "MAC reduction per step",
        "efficiency", "share of peak",
        title=f"{network['network']}, {size}, {record['precision']}, {record['form']}", title_justify="left",
    )  # fmt: skip
    for row in network["variants"]:
        ratio = row["speedup"]
        table.add_row(
            row["variant"] + (" (against itself)" if row["variant"] == "dense" else ""),
            f"{row['images_per_s']:,.1f}", f"{row['ms_per_step']:,.1f}", f"{ratio['ratio']:.2f}x",
            f"{ratio['low']:.2f} to {ratio['high']:.2f}", f"{row['mac_reduction']:.2f}x",
            f"{row['efficiency']:.2f}", f"{row['share_of_peak']:.1%}",
        )  # fmt: skip
    return table


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--networks", default=",".join(NETWORKS))
    parser.add_argument("--variants", default=",".join(VARIANTS))
    parser.add_argument("--small", action=argparse.BooleanOptionalAction, help="default: on a CPU")
    parser.add_argument("--device", choices=("cpu", "cuda"), help="default: cuda if available")
    parser.add_argument("--precision", choices=("fp32", "bf16", "fp16"))
    parser.add_argument("--batch", type=int, help="images per step, for every network")
    parser.add_argument("--pairs", type=int)
    parser.add_argument("--threads", type=int, default=default_threads())
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the result")
    options = parser.parse_args(arguments)
    device = options.device or ("cuda" if torch.cuda.is_available() else "cpu")
    form = Form.of(options.small, device, options.precision, options.pairs)
    torch.set_num_threads(options.threads)
    torch.backends.cudnn.benchmark = True
    peak = matmul_peak(form.device, form.precision)
    record: dict[str, Any] = {
        "schema_version": SCHEMA_VERSION,
        **provenance("benchmarks.train_speed", None if arguments is None else list(arguments)),
        "form": ("small form, " if form.small else "")
        + form.device.replace("cuda", "GPU").replace("cpu", "CPU"),
        "device": form.device,
        "precision": form.precision,
        "threads": options.threads,
        "convention": f"a step is {FORWARDS} forward passes of what is trained, and one of a teacher",
        "peak": asdict(peak),
        "networks": [],
    }
    name = "train_speed" if form.device == "cuda" else "train_speed_cpu"
    for which in options.networks.split(","):
        result = measure_variants(
            which, NETWORKS[which], options.variants.split(","), form, peak, options.batch
        )
        record["networks"].append(result)
        write_result(name, record, options.out)
        Console(width=140).print(_table(result, record))


if __name__ == "__main__":
    main()
