"""Trainings that are killed at random moments and resumed, as a program: `... FOLDER SEED METHOD=KILLS ...`.

For each method it trains once undisturbed into FOLDER/METHOD/whole and then into FOLDER/METHOD/cut0 and on.
It kills (SIGKILL) and resumes until the given number of kills is reached and the last run is complete. Of
the kills, a third come from outside after a random time, a third strike at one of the run's own writes, when
it opens, renames or removes a file in its folder, and a third at one of a checkpoint's. Every attempt is a
forked child of this process, which has imported torch; FOLDER/kills.json says what was hit.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from compress import pipeline
from compress.training import NoProgress

SETTINGS: dict[str, Any] = {
    "epochs": 4,
    "batch_size": 192,
    "lr": 0.05,
    "device": "cpu",
    "ema": 0.9,
    "tensorboard": False,
}
NETWORK = f"{Path(__file__).with_name('tiny_network.py')}:make"
KINDS = ("time", "write", "checkpoint")
CHECKPOINT = 10
"""Events of an epoch's best and last checkpoint, and two of the next."""

WRITES = ("open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate", "shutil.rmtree")


def request(method: str, out: Path, resume: bool) -> pipeline.TrainRequest:
    return pipeline.TrainRequest(
        method=method, model=NETWORK, data="digits", target="macs=0.5", input_size=(1, 8, 8),
        settings=SETTINGS, out=out, resume=resume,
    )  # fmt: skip


class Writes:
    """Counts what a training does to its folder, and kills this process at one of these events.

    Args:
        out: the run folder; that of its dense network begins with the same name.
        where: count only events whose path has this in it.
        kill_at: number of the event, from 1, that is not done any more; None: none.
    """

    def __init__(self, out: Path, where: str, kill_at: int | None) -> None:
        self.names: list[str] = []
        self._folder, self._where, self._kill_at = str(out), where, kill_at
        sys.addaudithook(self._hook)

    def _hook(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event not in WRITES or not arguments or len(self.names) == self._kill_at:
            return
        path = os.fspath(arguments[0]) if isinstance(arguments[0], str | os.PathLike) else ""
        if not path.startswith(self._folder) or "/.lock" in path or self._where not in path:
            return
        if event == "open" and not arguments[2] & (os.O_WRONLY | os.O_RDWR):
            return
        self.names.append(f"{event} {path.removeprefix(self._folder)}")
        if len(self.names) == self._kill_at:
            Path(f"{self._folder}.killed").write_text(self.names[-1])
            os.kill(os.getpid(), signal.SIGKILL)


def child(method: str, out: Path, where: str = "", kill_at: int | None = None) -> int:
    """Train in a forked child; return its process id."""
    pid = os.fork()
    if pid:
        return pid
    torch.set_num_threads(1)  # renews torch's pool of threads while this child has only one
    code = 1
    try:
        begun = any(Path(f"{out}{end}", "run.json").is_file() for end in ("", "-dense"))
        writes = Writes(out, where, kill_at)
        pipeline.run_training(request(method, out, begun), progress=NoProgress(), say=lambda line: None)
        Path(f"{out}.writes").write_text("\n".join(writes.names))
        code = 0
    except BaseException as error:
        print(f"{method} {out.name}: {type(error).__name__}: {error}", file=sys.stderr, flush=True)
    finally:
        os._exit(code)


def ended(pid: int, within: float | None = None) -> int:
    """Wait for a child, kill it after `within` seconds; return how it ended (negative: by a signal)."""
    deadline = None if within is None else time.monotonic() + within
    while True:
        result, status = os.waitpid(pid, 0 if deadline is None else os.WNOHANG)
        if result:
            return os.waitstatus_to_exitcode(status)
        if deadline is not None and time.monotonic() >= deadline:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            deadline = None
        else:
            time.sleep(0.002)


def kills(method: str, folder: Path, expected: int, draw: random.Random) -> Iterator[dict[str, Any]]:
    """Kill and resume; yield what each kill hit."""
    began = time.monotonic()
    if ended(child(method, folder / "whole")):
        sys.exit(f"{method}: the undisturbed training failed")
    whole_s = time.monotonic() - began
    events = len((folder / "whole.writes").read_text().splitlines())
    done, runs, finished = 0, 0, True
    while done < expected or not finished:
        out = folder / f"cut{runs}"
        where, kill_at, within = "", None, None
        kind = KINDS[done % len(KINDS)] if done < expected else ""  # again where it did not strike
        if kind == "time":
            within = draw.uniform(0.1, 0.8) * whole_s
        elif kind == "write":
            kill_at = draw.randint(1, events // 2)
        elif kind == "checkpoint":
            where, kill_at = "/checkpoints/", draw.randint(1, CHECKPOINT)
        code = ended(child(method, out, where, kill_at), within)
        finished = code == 0
        if finished:
            runs += 1
        elif code == -signal.SIGKILL:
            done += 1
            note = Path(f"{out}.killed")
            yield {"method": method, "run": out.name, "hit": note.read_text() if kill_at else "time"}
            note.unlink(missing_ok=True)
        else:
            sys.exit(f"{method}: an attempt ended with {code}")


def main(folder: Path, seed: int, *plan: str) -> None:
    torch.set_num_threads(1)
    # what torch imports at its first export is imported here, once, and not by every child
    pipeline.plan_training(pipeline.resolve(request("dcff", folder, False)), 10, (1, 8, 8))
    results: list[dict[str, Any]] = []
    for entry in plan:
        method, _, expected = entry.partition("=")
        (folder / method).mkdir(parents=True)
        results += kills(method, folder / method, int(expected), random.Random(f"{seed} {method}"))
    (folder / "kills.json").write_text(json.dumps(results))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), *sys.argv[3:])
