"""Train two methods, measure each compact model against its dense network, and read the verdicts.

python examples/benchmark_two_runs.py --budget 60
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import compress
from compress.bench import bench


def main(arguments: Sequence[str] | None = None) -> dict[str, str]:
    """Train, measure and print; return the verdict of each run."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--budget", type=float, default=20.0, help="seconds for the measurement of each run")
    parser.add_argument("--sessions", type=int, default=3, help="processes that share the measurement")
    parser.add_argument("--out", type=Path, default=Path("runs/benchmark_two_runs"))
    options = parser.parse_args(arguments)

    verdicts = {}
    for name, method in (("dcff", compress.DCFF()), ("scratch", compress.Scratch())):
        run = options.out / name
        compress.train(
            "vgg_small",
            "digits",
            method,
            target="macs=0.3",
            epochs=options.epochs,
            batch_size=32,
            lr=0.05,
            out=run,
        )
        result = bench(run, threads=1, budget_s=options.budget, sessions=options.sessions)
        (comparison,) = result.comparisons
        (batch,) = comparison.batches
        ratio = batch.speedup
        print(
            f"{name}: {ratio.ratio:.2f}x (95%: {ratio.low:.2f} to {ratio.high:.2f}), {batch.verdict}; "
            f"speed-up efficiency {batch.efficiency:.2f}"
        )
        verdicts[name] = batch.verdict
    return verdicts


if __name__ == "__main__":
    main()
