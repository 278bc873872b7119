"""Cut every network of the zoo to half of its MACs, and run Torch-Pruning on the same networks.

`python -m benchmarks.zoo [--only NAME ...] [--out FILE] [--jobs 2]`. Each network runs in a worker process
under a time limit, and the record is written after each, so one that fails or hangs does not end the run.
`--only` repeats some rows of a record. The recorded values are described in `zoo_ours.py` and
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
from .zoo_report import markdown, summary, table, verdict

LIMIT_S = 300
"""Time limit in seconds for one network in one toolchain."""


def serve(pipe: Connection) -> None:
    """Receive `(tool, network)` and send back a row, until the parent closes the pipe."""
    import torch

    from . import zoo_ours, zoo_torch_pruning

    torch.set_num_threads(1)
    tools = {"ours": zoo_ours.examine, "torch_pruning": zoo_torch_pruning.examine}
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
    """A process that runs one network after the other and is replaced when it hangs or dies."""

    def __init__(self) -> None:
        self.process: Any = None

    def ask(self, tool: str, network: Network) -> dict[str, Any]:
        """Return the row of a network, or the reason why there is none."""
        if self.process is None:
            context = multiprocessing.get_context("spawn")
            self.pipe, theirs = context.Pipe()
            self.process = context.Process(target=serve, args=(theirs,), daemon=True)
            self.process.start()
            theirs.close()
        try:
            self.pipe.send((tool, network))
            if self.pipe.poll(LIMIT_S):
                answer: dict[str, Any] = self.pipe.recv()
                return answer
            return self.end(f"not done after {LIMIT_S} s")
        except (EOFError, OSError):
            return self.end("its process died")

    def end(self, why: str = "") -> dict[str, Any]:
        """Stop the process; the next call of `ask` starts another."""
        if self.process is not None:
            self.process.kill()
            self.process.join()
            self.pipe.close()
        self.process = None
        return {"raises": why}


def begin(out: Path, jobs: int, only: list[str] | None) -> dict[str, Any]:
    """An empty record; with `only`, the record at `out` if there is one, whose other rows stay."""
    if only and out.exists():
        record: dict[str, Any] = json.loads(out.read_text(encoding="utf-8"))
        again = provenance("benchmarks.zoo", ["--only", *only, "--jobs", str(jobs)])
        record["repeated"] = [*record.get("repeated", []), again]
        return record
    asked = [*(["--only", *only] if only else []), "--jobs", str(jobs)]
    return {
        **provenance("benchmarks.zoo", asked),
        "torch_pruning": metadata.version("torch-pruning"),
        "left_out": EXCLUDED,
        "rows": [],
    }


def run(networks: list[Network], out: Path, jobs: int, record: dict[str, Any]) -> dict[str, Any]:
    """Examine the networks, writing the record to `out` after each; return it."""
    console, lock, mine = Console(stderr=True), Lock(), local()
    workers: list[Worker] = []

    def one(network: Network) -> None:
        if not hasattr(mine, "worker"):
            mine.worker = Worker()
            workers.append(mine.worker)
        start = time.perf_counter()
        row: dict[str, Any] = {"network": network.name, "pixels": network.pixels}
        row |= {tool: mine.worker.ask(tool, network) for tool in ("ours", "torch_pruning")}
        with lock:
            record["rows"] = [*(r for r in record["rows"] if r["network"] != network.name), row]
            record["rows"].sort(key=lambda r: [n.name for n in ZOO].index(r["network"]))
            record["summary"] = summary(record["rows"])
            write_json(out, record)
            console.print(
                f"{network.name} {time.perf_counter() - start:.0f} s:"
                f" {verdict(row['ours'])}; torch-pruning: {verdict(row['torch_pruning'])}"
            )

    try:
        with ThreadPoolExecutor(jobs) as pool:
            list(pool.map(one, networks))
    finally:
        for worker in workers:
            worker.end()
    return record


def main(arguments: list[str]) -> None:
    """Run, print the table and write the record."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.zoo", description=__doc__)
    parser.add_argument(
        "--only", nargs="+", metavar="NAME", help="these only; an existing record keeps its other rows"
    )
    parser.add_argument("--out", type=Path, default=RESULTS / "zoo.json", help="where the record goes")
    parser.add_argument("--jobs", type=int, default=1, help="networks at a time, one core each")
    parser.add_argument("--markdown", type=Path, help="write the table in Markdown here, too")
    given = parser.parse_args(arguments)
    networks = [find(name) for name in given.only] if given.only else list(ZOO)
    record = run(networks, given.out, given.jobs, begin(given.out, given.jobs, given.only))
    Console(width=200).print(table(record))
    print(record["summary"])
    if given.markdown:
        given.markdown.write_text(markdown(record), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
