"""Train published recipes, possibly in several pieces, and compare them with the papers.

`python -m benchmarks.reproduce --recipe NAME [--budget-minutes 9] [--data npz:cifar10.npz]`. A training stops
after the epoch after which another one would exceed the budget; the same command resumes it.
`--recipe` takes several names with commas between, and patterns such as 'short-*'. Finished trainings are
written to `reproduce.json` in the folder of results, and as the measured numbers of `compress recipes`.
Only the folder `--out` is needed to resume on another machine. With `--epochs`, nothing is compared.
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
from benchmarks.reproduction import Overrides, Reproduction, Unfinished
from benchmarks.reproduction_results import merge
from compress import recipes
from compress.core import console
from compress.core.errors import CompressError
from compress.training import Progress, progress_for

MEASURED = Path(recipes.__file__).with_name("measured.json")
"""File of the measured numbers that `compress recipes` shows, in a checkout."""


def select_recipes(text: str) -> list[str]:
    """Return the recipes that names and patterns select, each once, in the given order.

    Raises:
        CompressError: (exit 2) a pattern matches none. Unknown names are reported when they are loaded.
    """
    results: list[str] = []
    for word in text.split(","):
        if any(letter in word for letter in "*?["):
            matching = fnmatch.filter(recipes.list_recipes(), word)
            if not matching:
                raise CompressError(
                    f"no recipe matches {word!r}", hint=f"the recipes are {', '.join(recipes.list_recipes())}"
                )
            results += matching
        else:
            results.append(word)
    return list(dict.fromkeys(results))


def reproduce(
    names: Sequence[str],
    seeds: Sequence[int],
    overrides: Overrides,
    *,
    out: Path,
    budget_minutes: float | None = None,
    results: Path = RESULTS,
    measured: Path = MEASURED,
    command: Sequence[str] = (),
    progress: Progress | None = None,
) -> list[dict[str, Any] | Unfinished]:
    """Train recipes one after the other within the budget, and record the finished ones.

    Args:
        names: recipes. seeds: every recipe is trained with each.
        out: folder of the trainings, ``NAME-seedN`` each.
        budget_minutes: for all together; None: no limit.
        results, measured: see `benchmarks.reproduction_results.merge`.
        progress: receives the progress; None: table as on the command line.

    Returns:
        An entry for each finished training; if the budget was used up, the state of the last one.
    """
    if budget_minutes is not None and int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise CompressError(
            "--budget-minutes works with one process only: several would not stop at the same epoch",
            hint="leave it out with torchrun; the same command resumes a stopped training",
        )
    if budget_minutes is not None and not budget_minutes >= 0:
        raise CompressError(f"a budget of {budget_minutes:g} minutes is not possible", hint="give 0 or more")
    seconds = None if budget_minutes is None else 60 * budget_minutes
    budget = Budget(progress if progress is not None else progress_for(), seconds)
    matches: list[dict[str, Any] | Unfinished] = []
    for name in names:
        for seed in seeds:
            if budget.is_used:
                console.print_message(
                    f"the budget is used up before {name}, seed {seed}: run the same command again"
                )
                return matches
            place = out / f"{Path(name).stem if name.endswith('.toml') else name}-seed{seed}"
            outcome = Reproduction(name, seed, place, overrides, command).train(budget)
            if outcome is None:
                continue
            matches.append(outcome)
            if isinstance(outcome, Unfinished):
                console.print_message(
                    f"not finished, run again: {name}, seed {seed}, has {outcome.finished} of "
                    f"{outcome.epochs} epochs in {outcome.out}"
                )
                return matches
            path = merge(outcome, results, measured)
            console.print_message(f"{name}, seed {seed}: written to {path}")
    return matches


def render_table(entries: Sequence[dict[str, Any]]) -> Table:
    """Return finished trainings and the published rows as a table."""
    table = Table(title="trained recipes and their difference to the published row", title_justify="left")
    for column in ("recipe", "form"):
        table.add_column(column, no_wrap=True)
    for column in ("seed", "epochs", "minutes", "MACs", "parameters", "top-1", "best", "published",
                   "difference", "reached"):  # fmt: skip
        table.add_column(column, justify="right")
    for entry in entries:
        numbers = (f"{entry[name]:,}" for name in ("seed", "epochs"))
        costs = (f"{entry[name]:,}" for name in ("macs", "params"))
        accuracies = (f"{entry[name]:.2f}" for name in ("top1", "best_top1"))
        minutes = f"{entry['minutes']:.1f}"
        table.add_row(
            entry["recipe"],
            entry["form"],
            *numbers,
            minutes,
            *costs,
            *accuracies,
            *_comparison_cells(entry["against"]),
        )
    return table


def _comparison_cells(comparison: dict[str, Any]) -> tuple[str, str, str]:
    if "why" in comparison:
        return "-", "-", comparison["why"]
    reaches = "yes" if comparison["reaches"] else "in the best epoch" if comparison["best_reaches"] else "no"
    kind = "" if comparison["reproduction"] else f" ({comparison['row']})"
    return f"{comparison['published']['top1']:.2f}", f"{comparison['top1_points']:+.2f}", reaches + kind


def _overrides(options: argparse.Namespace) -> Overrides:
    settings: dict[str, Any] = {"tensorboard": False}
    for item in options.set:
        key, equals, value = item.partition("=")
        if not equals or not key:
            raise CompressError(f"--set {item!r} is not understood", hint="write KEY=VALUE")
        try:
            settings[key.replace("-", "_")] = json.loads(value)
        except json.JSONDecodeError:
            settings[key.replace("-", "_")] = value
    for name in ("epochs", "device", "precision"):
        if getattr(options, name) is not None:
            settings[name] = getattr(options, name)
    return Overrides(
        data=options.data,
        weights=options.weights,
        teacher=options.teacher,
        mean=_floats("--mean", options.mean),
        std=_floats("--std", options.std),
        settings=settings,
        workers=options.workers,
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
    parser.add_argument("--budget-minutes", type=float, help="stop after an epoch; default: never")
    parser.add_argument("--out", type=Path, default=Path("runs/reproduce"), help="folder of the trainings")
    parser.add_argument("--data", help="other source of the recipe's images, such as npz:cifar10.npz")
    parser.add_argument("--weights", help="weights of the dense network to start from")
    parser.add_argument("--teacher", help="run or weights of the teacher (kdfs)")
    parser.add_argument("--mean", help="mean that the weights were trained with, such as 0.485,0.456,0.406")
    parser.add_argument("--std", help="standard deviation that the weights were trained with")
    parser.add_argument("--precision", help="fp32, bf16 or fp16")
    parser.add_argument("--device", help="auto, cpu, cuda or mps")
    parser.add_argument("--workers", type=int, default=2, help="processes that decode images")
    parser.add_argument(
        "--epochs", type=int, help="another number of epochs, for a trial; the result is not compared"
    )
    parser.add_argument("--set", action="append", default=[], help="KEY=VALUE: any other training setting")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of reproduce.json")
    options = parser.parse_args(arguments)
    words = list(sys.argv[1:] if arguments is None else arguments)

    def run(_: list[str]) -> int:
        own = options.results.resolve() == RESULTS.resolve()
        result = reproduce(
            select_recipes(options.recipe),
            _seeds(options.seeds),
            _overrides(options),
            out=options.out,
            budget_minutes=options.budget_minutes,
            results=options.results,
            measured=MEASURED if own else options.results / MEASURED.name,
            command=["python", "-m", "benchmarks.reproduce", *words],
        )
        finished = [entry for entry in result if not isinstance(entry, Unfinished)]
        if finished:
            Console(width=None if sys.stdout.isatty() else 180).print(render_table(finished))
        return 0

    return console.run_command(run, words)


if __name__ == "__main__":
    console.set_up_process(sys.argv[1:])
    sys.exit(main())
