"""Look at the channel groups of a network, plan widths, slice without training, and check exactness.

python examples/inspect_and_slice.py --model resnet56 --macs 0.5
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

import torch

import compress


def main(arguments: Sequence[str] | None = None) -> float:
    """Slice a network; return the largest relative difference from the masked dense network."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="resnet20")
    parser.add_argument("--macs", type=float, default=0.5, help="fraction of the dense network's MACs")
    options = parser.parse_args(arguments)

    model = compress.build(options.model)
    graph = compress.trace(model, torch.rand(2, 3, 32, 32))

    # a group is a set of channels that can only be removed together
    for group in graph.groups[:5]:
        print(f"{group.name}: {group.width} channels")
    for protected in graph.protected:
        print(f"protected: {protected.name} ({protected.why})")

    plan = compress.make_plan(graph, macs=options.macs, align=8, criterion="l1")
    for name, (kept, dense) in plan.widths.items():
        print(f"{name}: {kept} of {dense} channels")
    print(f"MACs: {plan.dense.macs:,} -> {plan.narrow.macs:,}")

    compact = compress.slice_model(model, plan)
    report = compress.verify(model, plan, compact, torch.rand(16, 3, 32, 32))
    print(report)
    parameters = [sum(p.numel() for p in network.parameters()) for network in (model, compact)]
    print(f"parameters: {parameters[0]:,} -> {parameters[1]:,}")
    return report.max_rel


if __name__ == "__main__":
    main()
