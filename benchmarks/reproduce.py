"""Train published recipes and compare with the papers' rows, in as many pieces as it takes.

`python -m benchmarks.reproduce --recipe NAME [--budget-minutes 9] [--data npz:cifar10.npz]`. A training ends
at the end of the epoch after which another would not fit into the budget; the same command goes on with it.
`--recipe` takes several names with commas between, and patterns such as 'short-*'. Finished trainings are
written to `reproduce.json` of the results, and to what `compress recipes` shows as ours; the folder `--out`
is all that has to be carried to go on elsewhere. With `--epochs` a recipe is only tried: nothing is compared.
"""

from __future__ import annotations

import argparse
import fnmatch
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.budget import Budget
from benchmarks.common import RESULTS
from benchmarks.reproduced import merge
from benchmarks.reproducing import How, Reproduction, Unfinished
from compress import recipes
from compress.core import console
from compress.core.errors import CompressError
from compress.training import Progress, progress_for

MEASURED = Path(recipes.__file__).with_name("measured.json")
"""What `compress recipes` shows, in a checkout."""


def chosen(text: str) -> list[str]:
    """Return the recipes that names and patterns mean, each once, in the order given.

    Raises:
        CompressError: (exit 2) a pattern that matches none. An unknown name is found when it is loaded.
    """
    found: list[str] = []
    for word in text.split(","):
        if any(letter in word for letter in "*?["):
            matching = fnmatch.filter(recipes.list_recipes(), word)
            if not matching:
                raise CompressError(
                    f"no recipe matches {word!r}", hint=f"the recipes are {', '.join(recipes.list_recipes())}"
                )
            found += matching
        else:
            found.append(word)
    return list(dict.fromkeys(found))


def reproduce(
    names: Sequence[str],
    seeds: Sequence[int],
    how: How,
    *,
    out: Path,
    budget_minutes: float | None = None,
    results: Path = RESULTS,
    measured: Path = MEASURED,
    command: Sequence[str] = (),
    progress: Progress | None = None,
) -> list[dict[str, Any] | Unfinished]:
    """Train recipes one after the other, as far as the budget goes; record those that get finished.

    Args:
        names: recipes. seeds: each is trained with every one.
        out: folder of the trainings, ``NAME-seedN`` each.
        budget_minutes: for all together; None: to the end.
        results, measured: see `benchmarks.reproduced.merge`.
        progress: who draws it; None: as at the command line.

    Returns:
        An entry for each finished training, then how far the last one is if the time was up.
    """
    if budget_minutes is not None and int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise CompressError(
            "--budget-minutes is for one process: several would not stop at the same epoch",
            hint="leave it out under torchrun; a training that is stopped goes on by the same command",
        )
    if budget_minutes is not None and not budget_minutes >= 0:
        raise CompressError(f"a budget of {budget_minutes:g} minutes is not possible", hint="give 0 or more")
    seconds = None if budget_minutes is None else 60 * budget_minutes
    budget = Budget(progress if progress is not None else progress_for(), seconds)
    found: list[dict[str, Any] | Unfinished] = []
    for name in names:
        for seed in seeds:
            if budget.is_used:
                console.print_message(
                    f"the time is up before {name}, seed {seed}: run the same command again"
                )
                return found
            place = out / f"{Path(name).stem if name.endswith('.toml') else name}-seed{seed}"
            outcome = Reproduction(name, seed, place, how, command).go(budget)
            if outcome is None:
                continue
            found.append(outcome)
            if isinstance(outcome, Unfinished):
                console.print_message(
                    f"not finished, run again: {name}, seed {seed}, has {outcome.finished} of "
                    f"{outcome.epochs} epochs in {outcome.out}"
                )
                return found
            path = merge(outcome, results, measured)
            console.print_message(f"{name}, seed {seed}: written to {path}")
    return found


def table(entries: Sequence[dict[str, Any]]) -> Table:
    """Finished trainings beside the published rows."""
    shown = Table(title="recipes, trained: differences to the published row", title_justify="left")
    for column in ("recipe", "form"):
        shown.add_column(column, no_wrap=True)
    for column in ("seed", "epochs", "minutes", "MACs", "parameters", "top-1", "best", "published",
                   "difference", "reaches it"):  # fmt: skip
        shown.add_column(column, justify="right")
    for entry in entries:
        numbers = (f"{entry[name]:,}" for name in ("seed", "epochs"))
        costs = (f"{entry[name]:,}" for name in ("macs", "params"))
        accuracies = (f"{entry[name]:.2f}" for name in ("top1", "best_top1"))
        minutes = f"{entry['minutes']:.1f}"
        shown.add_row(
            entry["recipe"],
            entry["form"],
            *numbers,
            minutes,
            *costs,
            *accuracies,
            *_compared(entry["against"]),
        )
    return shown


def _compared(found: dict[str, Any]) -> tuple[str, str, str]:
    if "why" in found:
        return "-", "-", found["why"]
    reaches = "yes" if found["reaches"] else "best epoch does" if found["best_reaches"] else "no"
    kind = "" if found["reproduction"] else f" ({found['row']})"
    return f"{found['published']['top1']:.2f}", f"{found['top1_points']:+.2f}", reaches + kind


def _how(asked: argparse.Namespace) -> How:
    settings: dict[str, Any] = {"tensorboard": False}
    for item in asked.set:
        key, equals, value = item.partition("=")
        if not equals or not key:
            raise CompressError(f"--set {item!r} is not understood", hint="write KEY=VALUE")
        try:
            settings[key.replace("-", "_")] = json.loads(value)
        except json.JSONDecodeError:
            settings[key.replace("-", "_")] = value
    for name in ("epochs", "device", "precision"):
        if getattr(asked, name) is not None:
            settings[name] = getattr(asked, name)
    return How(
        data=asked.data,
        weights=asked.weights,
        teacher=asked.teacher,
        mean=_floats("--mean", asked.mean),
        std=_floats("--std", asked.std),
        settings=settings,
        workers=asked.workers,
    )


def _floats(flag: str, text: str | None) -> tuple[float, ...] | None:
    try:
        return None if text is None else tuple(float(part) for part in text.split(","))
    except ValueError as error:
        hint = "such as 0.485,0.456,0.406"
        raise CompressError(f"{flag} {text!r} is not a list of numbers", hint=hint) from error


def _seeds(text: str) -> list[int]:
    try:
        return [int(part) for part in text.split(",")]
    except ValueError as error:
        raise CompressError(f"--seeds {text!r} is not a list of numbers", hint="such as 0,1,2") from error


def main(arguments: Sequence[str] | None = None) -> int:
    """Train, print, write; return the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--recipe", required=True, help="names or TOML files, or patterns: 'short-*'")
    parser.add_argument("--seeds", default="0", help="such as 0,1,2; each recipe is trained with each")
    parser.add_argument("--budget-minutes", type=float, help="stop at an epoch's end; default: never")
    parser.add_argument("--out", type=Path, default=Path("runs/reproduce"), help="folder of the trainings")
    parser.add_argument("--data", help="the recipe's images from elsewhere, such as npz:cifar10.npz")
    parser.add_argument("--weights", help="weights of the dense network to start from")
    parser.add_argument("--teacher", help="run or weights that kdfs learns from")
    parser.add_argument("--mean", help="normalisation that the weights want, such as 0.485,0.456,0.406")
    parser.add_argument("--std", help="the same for the deviation")
    parser.add_argument("--precision", help="fp32, bf16 or fp16")
    parser.add_argument("--device", help="auto, cpu, cuda or mps")
    parser.add_argument("--workers", type=int, default=2, help="processes that decode images")
    parser.add_argument("--epochs", type=int, help="another number: only to try a recipe, never compared")
    parser.add_argument("--set", action="append", default=[], help="KEY=VALUE: any other training setting")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of reproduce.json")
    asked = parser.parse_args(arguments)
    words = list(sys.argv[1:] if arguments is None else arguments)

    def work(_: list[str]) -> int:
        own = asked.results.resolve() == RESULTS.resolve()
        found = reproduce(
            chosen(asked.recipe),
            _seeds(asked.seeds),
            _how(asked),
            out=asked.out,
            budget_minutes=asked.budget_minutes,
            results=asked.results,
            measured=MEASURED if own else asked.results / MEASURED.name,
            command=["python", "-m", "benchmarks.reproduce", *words],
        )
        finished = [entry for entry in found if not isinstance(entry, Unfinished)]
        if finished:
            Console(width=None if sys.stdout.isatty() else 180).print(table(finished))
        return 0

    return console.run_command(work, words)


if __name__ == "__main__":
    console.set_up_process(sys.argv[1:])
    sys.exit(main())
