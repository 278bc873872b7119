"""Slice every network of the zoo to half of its MACs, and prune the same networks with Torch-Pruning.

`python -m benchmarks.zoo [--only NAME ...] [--out FILE] [--jobs 2]`. Each network runs in a worker process
with a time limit, and the record is written after each network, so a network that fails or hangs does not end
the run. `--only` repeats some rows of a record. The recorded values are described in `zoo_ours.py` and
`zoo_torch_pruning.py`.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from importlib import metadata
from multiprocessing.connection import Connection
from pathlib import Path
from threading import Lock, local
from typing import Any

from rich.console import Console

from compress.core.files import write_json

from .common import RESULTS, provenance
from .networks import EXCLUDED, ZOO, Network, find
from .zoo_report import count_results, outcome, render_zoo_markdown, render_zoo_table

LIMIT_S = 300
"""Time limit in seconds of one network in one toolchain."""


def run_worker(pipe: Connection) -> None:
    """Receive pairs `(tool, network)` and send back one row for each, until the parent closes the pipe."""
    import torch

    from . import zoo_ours, zoo_torch_pruning

    torch.set_num_threads(1)
    tools = {"ours": zoo_ours.evaluate_network, "torch_pruning": zoo_torch_pruning.evaluate_network}
    while True:
        try:
            tool, network = pipe.recv()
        except EOFError:
            return
        try:
            row = tools[tool](network)
        except Exception as error:
            text = str(error).strip().splitlines()
            row = {"raises": f"{type(error).__name__}: {text[0][:300] if text else ''}"}
        pipe.send(row)


class Worker:
    """Worker process that evaluates networks one by one and is restarted after it hangs or dies."""

    def __init__(self) -> None:
        self.process: Any = None

    def evaluate(self, tool: str, network: Network) -> dict[str, Any]:
        """Return the row of a network, or ``{"raises": reason}`` if the worker hung or died."""
        if self.process is None:
            context = multiprocessing.get_context("spawn")
            self.pipe, child_pipe = context.Pipe()
            self.process = context.Process(target=run_worker, args=(child_pipe,), daemon=True)
            self.process.start()
            child_pipe.close()
        try:
            self.pipe.send((tool, network))
            if self.pipe.poll(LIMIT_S):
                row: dict[str, Any] = self.pipe.recv()
                return row
            return self.stop(f"not done after {LIMIT_S} s")
        except (EOFError, OSError):
            return self.stop("its process died")

    def stop(self, reason: str = "") -> dict[str, Any]:
        """Kill the process and return ``{"raises": reason}``; the next call of `evaluate` starts another."""
        if self.process is not None:
            self.process.kill()
            self.process.join()
            self.pipe.close()
        self.process = None
        return {"raises": reason}


def load_or_new_record(out: Path, jobs: int, only: list[str] | None) -> dict[str, Any]:
    """Return a new record or, with `only`, the existing record at `out`, whose other rows are kept."""
    if only and out.exists():
        record: dict[str, Any] = json.loads(out.read_text(encoding="utf-8"))
        repeated = provenance("benchmarks.zoo", ["--only", *only, "--jobs", str(jobs)])
        record["repeated"] = [*record.get("repeated", []), repeated]
        return record
    arguments = [*(["--only", *only] if only else []), "--jobs", str(jobs)]
    return {
        **provenance("benchmarks.zoo", arguments),
        "torch_pruning": metadata.version("torch-pruning"),
        "left_out": EXCLUDED,
        "rows": [],
    }


def evaluate_zoo(networks: list[Network], out: Path, jobs: int, record: dict[str, Any]) -> dict[str, Any]:
    """Evaluate the networks, writing the record to `out` after each; return it."""
    console, lock, thread = Console(stderr=True), Lock(), local()
    workers: list[Worker] = []

    def evaluate_one(network: Network) -> None:
        if not hasattr(thread, "worker"):
            thread.worker = Worker()
            workers.append(thread.worker)
        start = time.perf_counter()
        row: dict[str, Any] = {"network": network.name, "pixels": network.pixels}
        row |= {tool: thread.worker.evaluate(tool, network) for tool in ("ours", "torch_pruning")}
        with lock:
            record["rows"] = [*(r for r in record["rows"] if r["network"] != network.name), row]
            record["rows"].sort(key=lambda r: [n.name for n in ZOO].index(r["network"]))
            record["summary"] = count_results(record["rows"])
            write_json(out, record)
            console.print(
                f"{network.name} {time.perf_counter() - start:.0f} s:"
                f" {outcome(row['ours'])}; torch-pruning: {outcome(row['torch_pruning'])}"
            )

    try:
        with ThreadPoolExecutor(jobs) as pool:
            list(pool.map(evaluate_one, networks))
    finally:
        for worker in workers:
            worker.stop()
    return record


def main(arguments: list[str]) -> None:
    """Evaluate the networks, print the table and write the record."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.zoo", description=__doc__)
    parser.add_argument(
        "--only",
        nargs="+",
        metavar="NAME",
        help="evaluate only these networks and keep the other rows of an existing record",
    )
    parser.add_argument("--out", type=Path, default=RESULTS / "zoo.json", help="file of the record")
    parser.add_argument(
        "--jobs", type=int, default=1, help="networks evaluated at the same time, one core each"
    )
    parser.add_argument("--markdown", type=Path, help="also write the table as Markdown to this file")
    args = parser.parse_args(arguments)
    networks = [find(name) for name in args.only] if args.only else list(ZOO)
    record = evaluate_zoo(networks, args.out, args.jobs, load_or_new_record(args.out, args.jobs, args.only))
    Console(width=200).print(render_zoo_table(record))
    print(record["summary"])
    if args.markdown:
        args.markdown.write_text(render_zoo_markdown(record), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
