"""Commands that evaluate, measure and report."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from compress.core import console
from compress.core.errors import CompressError
from compress.core.options import (
    BACKENDS,
    AlignOption,
    DataOption,
    InputSizeOption,
    JsonOption,
    MeanOption,
    StdOption,
    TrustOption,
    WeightsOption,
    WorkersOption,
    command_line,
    gate_option,
    network_option,
    option,
    parse_floats,
    parse_numbers,
    parse_settings,
    parse_size,
    refuse_options,
    scenario_option,
    staircase_option,
    training_option,
)

EVAL_EXAMPLES = """\b
Examples:
  compress eval runs/a --confusion
  compress eval runs/a --backend openvino
  compress eval runs/a/export/model.onnx --data cifar10 --json"""


BENCH_EXAMPLES = """\b
Examples:
  compress bench runs/a
  compress bench runs/a --batch 1,8 --threads 2 --json
  compress bench runs/a --backend ort-cpu,openvino,torch
  compress bench runs/a runs/b runs/a/export/model.int8.onnx
  compress bench runs/a --gate gate.toml --junit gate.xml
  compress bench --replay runs/a/bench/results.json --gate gate.toml
  compress bench diff old.json new.json
  compress bench runs/a --explain --threads 1
  compress bench runs/a --staircase all --backend ort-cpu --threads 1
  compress bench runs/a --staircase 'layer1.*' --staircase-widths 31,32,33,48
  compress bench runs/a --scenario single-stream,offline,server
  compress bench runs/a --scenario server --qps 50,100 --p99-bound-ms 20

A run is compared with its own dense network, a file with the first artefact
named (of a run, its compact network). Each back end measures in a process of
its own. With --gate, exit code 6 where a constraint fails and 7 where the
measurement cannot decide one. --explain says layer by layer what a run's
compact network lost against its MACs, and why."""


DIFF_EXAMPLES = """\b
Example:
  compress bench diff runs/a/bench/results.json new.json

Times are compared only between results of one machine in one configuration;
else the table says what differs."""


COMPARE_EXAMPLES = """\b
Example:
  compress compare --methods dcff,l1,random,scratch --model resnet20 --data cifar10 \\
      --target macs=0.5 --epochs 10 --seeds 3 --out runs/compare"""


REPORT_EXAMPLES = """\b
Examples:
  compress report runs/a
  compress report runs/dense runs/a --out side-by-side.html

One page that needs no network: it can be mailed, printed, and read on a phone.
What a run does not hold yet is said with the command that makes it."""


app = typer.Typer()


@app.command("eval", epilog=EVAL_EXAMPLES)
def eval_(
    what: Annotated[
        Path,
        typer.Argument(metavar="RUN|FILE", help="A run folder or an exported file.", show_default=False),
    ],
    data: DataOption = None,
    backend: Annotated[
        str | None,
        option(help=f"{BACKENDS}. Default: torch for a run, ort-cpu for .onnx, openvino for .xml."),
    ] = None,
    device: Annotated[str, option(help="Where torch evaluates a run: auto, cpu, cuda or mps.")] = "cpu",
    batch_size: Annotated[
        int | None, option(min=1, help="Images at once; default: 256 for a run in torch, 64 for a file.")
    ] = None,
    threads: Annotated[int | None, option(min=1, help="Threads; default: physical cores.")] = None,
    trust: TrustOption = False,
    confusion: Annotated[bool, option("--confusion", help="Print the confusion matrix too.")] = False,
    workers: WorkersOption = 2,
    as_json: JsonOption = False,
) -> None:
    """Accuracy of a run's compact model or of an exported file."""
    from compress.bench.evaluate import evaluate_any

    result = evaluate_any(
        what,
        data,
        backend=backend,
        device=device,
        batch_size=batch_size,
        threads=threads,
        workers=workers,
        trust=trust,
    )
    if as_json:
        console.print_json("eval", result.to_json(confusion=confusion))
        return
    console.print_result(*result.lines(confusion=confusion))


@app.command("bench", epilog=BENCH_EXAMPLES)
def bench_(
    context: typer.Context,
    what: Annotated[
        list[Path] | None,
        typer.Argument(metavar="RUN|FILE...", help="Run folders and exported files.", show_default=False),
    ] = None,
    batch: Annotated[str, option(help="Batch sizes, such as 1,8.")] = "1",
    threads: Annotated[int | None, option(min=1, help="Threads; default: physical cores.")] = None,
    pairs: Annotated[int, option(min=10, help="Pairs of measurements.")] = 30,
    budget: Annotated[float | None, option(help="Seconds for all comparisons, instead of --pairs.")] = None,
    sessions: Annotated[
        int | None, option(min=1, help="Processes that share the pairs or seconds; default: 9.")
    ] = None,
    backend: Annotated[str, option(help=f"Back ends, with commas between: {BACKENDS}.")] = "ort-cpu",
    device: Annotated[str, option(help="Where torch and torch-compile run: cpu or cuda.")] = "cpu",
    channels_last: Annotated[
        bool, option("--channels-last", help="torch: lay weights and input out as NHWC.")
    ] = False,
    cuda_graph: Annotated[
        bool, option("--cuda-graph", help="On a GPU: replay the inference as a CUDA graph.")
    ] = False,
    transfers: Annotated[
        bool, option("--transfers", help="On a GPU: count the copies to and from it in the host's time.")
    ] = False,
    trust: TrustOption = False,
    explain: Annotated[
        bool, option("--explain", help="Say layer by layer where a run's speed-up was lost, and why.")
    ] = False,
    out: Annotated[
        Path | None, option(help="File of the result; default: bench/results.json of the first run.")
    ] = None,
    replay: Annotated[
        Path | None, gate_option(help="Measure nothing: show this result (results.json or a run folder).")
    ] = None,
    gate: Annotated[Path | None, gate_option(help="Constraints the result must hold (TOML).")] = None,
    junit: Annotated[Path | None, gate_option(help="With --gate: write JUnit XML to this file.")] = None,
    staircase: Annotated[
        str | None,
        staircase_option(
            metavar="LAYER|all",
            help="Measure the latency of the run's layers against their width: names or patterns with "
            "commas between, or all.",
        ),
    ] = None,
    staircase_widths: Annotated[
        str | None, staircase_option(help="Widths to measure besides the full one, such as 31,32,33.")
    ] = None,
    scenario: Annotated[
        str | None, scenario_option(help="MLPerf's scenarios instead: single-stream, offline, server.")
    ] = None,
    qps: Annotated[
        str | None, scenario_option(help="server: rates such as 50,100; default: search the largest.")
    ] = None,
    p99_bound_ms: Annotated[
        float | None,
        scenario_option(help="server: bound on the p99; default: 10 times the baseline's median."),
    ] = None,
    queries: Annotated[
        int | None, scenario_option(help="server: queries of a round, from 1,000 (the default).")
    ] = None,
    max_server_batch: Annotated[
        int | None, scenario_option(help="server: most queries of one inference; default: 1.")
    ] = None,
    max_batch: Annotated[
        int | None, scenario_option(help="offline: largest batch size; default: up to memory.")
    ] = None,
    max_batch_seconds: Annotated[
        float | None, scenario_option(help="offline: longest time of a batch; default: 1.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Measure in pairs: a run's compact network against its dense one, or several artefacts."""
    from compress.bench import Choices, bench, read, scenarios
    from compress.bench import gate as gates
    from compress.bench.results.table import table

    choices, sizes = Choices(device, channels_last, cuda_graph, transfers, trust), parse_numbers(batch)
    if staircase is not None or staircase_widths is not None:
        refuse_options(
            context, "--staircase", ("pairs", "sessions", "explain", "scenario", "replay", "gate", "junit")
        )
        _staircase(what, staircase, staircase_widths, backend, threads, sizes, budget, choices, out, as_json)
        return
    _check_replay(context, what, replay)
    if explain:
        refuse_options(
            context, "--explain", ("budget", "sessions", "out", "scenario", "replay", "gate", "junit")
        )
        _explain(what or [], (sizes, threads, pairs, backend, choices), as_json)
        return
    if junit is not None and gate is None:
        raise CompressError("--junit is the report of a gate", hint="give --gate FILE too", code="bad-option")
    rules = None if gate is None else gates.read(gate)
    options = scenarios.asked(
        scenario,
        sizes,
        pairs=pairs,
        budget_s=budget,
        qps=qps,
        p99_bound_ms=p99_bound_ms,
        queries=queries,
        max_server_batch=max_server_batch,
        max_batch=max_batch,
        max_batch_s=max_batch_seconds,
    )
    if rules is not None and replay is None:
        gates.foresee(rules, what or (), backend, sizes)
    measure: Any = partial(bench, batches=sizes, pairs=pairs, budget_s=budget, sessions=sessions)
    if options is not None:
        refuse_options(context, "--scenario", ("sessions",))
    if options is not None or scenarios.is_stored(replay):
        read, table = scenarios.read, scenarios.table  # type: ignore[assignment]
        measure = partial(scenarios.run_scenarios, options=options)  # type: ignore[arg-type]
    with console.progress_bar() as progress:
        result = (
            read(replay)
            if replay is not None
            else measure(
                *(what or ()),
                threads=threads,
                backend=backend,
                choices=choices,
                out=out,
                progress=progress,
                command=command_line(),
            )
        )
    judged = None
    if gate is not None and rules is not None:
        beside = gates.beside(result, replay if replay is not None else (what or [Path()])[0])
        judged = gates.judge(result, rules, gate.name, beside)
    if judged is not None and junit is not None:
        gates.write_junit(judged, junit)
    if as_json:
        values = {} if judged is None else gates.to_json(judged)
        console.print_json("bench", {"result": result.model_dump(mode="json"), **values})
    else:
        console.print_result(table(result), *([] if judged is None else [gates.table(judged)]))
    if judged is not None:
        if not as_json:
            console.print_message("\n".join(gates.verdict(judged)))
        raise typer.Exit(int(judged.exit))


@app.command("bench diff", epilog=DIFF_EXAMPLES)
def bench_diff(
    first: Annotated[Path, typer.Argument(metavar="A", help="The older result.", show_default=False)],
    second: Annotated[Path, typer.Argument(metavar="B", help="The newer one.", show_default=False)],
    as_json: JsonOption = False,
) -> None:
    """Two stored results side by side; never calls another machine a regression."""
    from compress.bench import read
    from compress.bench.results import diff

    found = diff.diff(read(first), read(second), (str(first), str(second)))
    if as_json:
        console.print_json("bench diff", found.model_dump(mode="json"))
        return
    console.print_result(diff.table(found))


@app.command("report", epilog=REPORT_EXAMPLES)
def report_(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Run folders.", show_default=False)],
    out: Annotated[
        Path | None,
        option(help="The page, ending in .html; default: bench/report.html of the first run."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """One page on what a run is worth: lineage, speed, layers, training, proof, environment."""
    from compress.bench.report import report

    found = report(*runs, out=out)
    if as_json:
        console.print_json("report", found.to_json())
        return
    console.print_result(str(found.html), str(found.markdown))
    for run in found.facts.runs:
        for entry in run.missing:
            console.print_message(
                f"{run.name}: {entry.why}" + (f"; `{entry.command}`" if entry.command else "")
            )


@app.command()
def demo(
    out: Annotated[Path | None, option(help="Folder for the two runs; default: runs/demo.")] = None,
    as_json: JsonOption = False,
) -> None:
    """The whole way on built-in data: train, export, measure. About a minute on two cores."""
    from compress.bench.demo import demo
    from compress.training import progress_for

    with console.progress_bar() as progress:
        result = demo(
            out,
            progress=progress_for(),
            say=lambda line: console.print_message(f"\n$ {line}"),
            measuring=progress,
        )
    if as_json:
        console.print_json("demo", result.to_json())
        return
    console.print_result(*result.parts())


@app.command(epilog=COMPARE_EXAMPLES)
def compare(
    methods: Annotated[
        str, option(help="Names with commas between, such as dcff,l1,random,scratch.", show_default=False)
    ],
    model: Annotated[str, network_option(help="Network, as for train.", show_default=False)],
    data: Annotated[str, network_option(help="Images, as for train.", show_default=False)],
    target: Annotated[str, option(help="macs=F or params=F.", show_default=False)],
    epochs: Annotated[
        int,
        option(min=1, help="Epochs of every method, those of a dense network included.", show_default=False),
    ],
    seeds: Annotated[int, option(min=1, help="Number of seeds.")] = 3,
    out: Annotated[Path, option(help="Folder of the runs; a comparison that is in it goes on.")] = Path(
        "runs/compare"
    ),
    align: AlignOption = "auto",
    latency: Annotated[
        bool, option("--latency/--no-latency", help="Measure the first seed's networks.")
    ] = True,
    as_json: JsonOption = False,
    input_size: InputSizeOption = None,
    mean: MeanOption = None,
    std: StdOption = None,
    weights: WeightsOption = None,
    batch_size: Annotated[int | None, training_option(help="Images a step.")] = None,
    lr: Annotated[float | None, training_option(help="Learning rate (kdfs: --set kdfs.lr=0.01).")] = None,
    setting: Annotated[
        list[str] | None,
        training_option(
            "--set",
            envvar="COMPRESS_COMPARE_SET",
            help="KEY=VALUE of every training, or METHOD.KEY=VALUE; repeatable.",
        ),
    ] = None,
) -> None:
    """Methods side by side: same network, data, target and epochs, several seeds."""
    from compress.bench.compare.compare import compare
    from compress.training import progress_for

    flags = {"batch_size": batch_size, "lr": lr}
    settings: dict[str, Any] = {key: value for key, value in flags.items() if value is not None}
    options: dict[str, dict[str, Any]] = {}
    for key, value in parse_settings(setting or []).items():
        method, dot, name = key.partition(".")
        if dot:
            options.setdefault(method, {})[name] = value
        else:
            settings[key] = value
    result = compare(
        methods.split(","),
        model,
        data,
        target,
        epochs=epochs,
        seeds=seeds,
        out=out,
        settings=settings,
        options=options,
        input_size=parse_size(input_size),
        mean=parse_floats("--mean", mean),
        std=parse_floats("--std", std),
        weights=weights,
        align=align,
        latency=latency,
        progress=progress_for(),
        say=console.print_message,
    )
    if as_json:
        console.print_json("compare", result.model_dump(mode="json"))
        return
    console.print_result(*result.parts())


def _check_replay(context: typer.Context, what: list[Path] | None, replay: Path | None) -> None:
    """Refuse to measure nothing, and options of a measurement beside a stored result."""
    if replay is None:
        if not what:
            raise CompressError(
                "nothing is given to measure",
                hint="such as `compress bench runs/a`; see `compress bench --help`",
            )
        return
    free = ("replay", "gate", "junit", "as_json")
    given = [
        parameter.opts[0]
        for parameter in context.command.params
        if parameter.name is not None and parameter.name not in (*free, "what")
        if getattr(context.get_parameter_source(parameter.name), "name", "") == "COMMANDLINE"
    ]
    too_much = [*map(str, what or ()), *given]
    if too_much:
        raise CompressError(
            f"--replay measures nothing, but {', '.join(too_much)} is given",
            hint="leave it out, or leave out --replay to measure",
            code="bad-option",
        )


def _explain(
    what: list[Path], options: tuple[tuple[int, ...], int | None, int, str, Any], as_json: bool
) -> None:
    from compress.bench.explain import explain, table

    sizes, threads, pairs, backend, choices = options
    if len(sizes) != 1:
        raise CompressError(
            f"--explain looks at one batch size, not at {', '.join(map(str, sizes))}",
            hint="such as --batch 1",
            code="bad-option",
        )
    with console.progress_bar() as progress:
        found = explain(
            *what,
            batch=sizes[0],
            threads=threads,
            blocks=pairs,
            backend=backend,
            choices=choices,
            progress=progress,
            command=command_line(),
        )
    if as_json:
        console.print_json("bench", {"explanations": [entry.model_dump(mode="json") for entry in found]})
        return
    console.print_result(*(table(entry) for entry in found))


def _staircase(
    what: list[Path] | None,
    layers: str | None,
    widths: str | None,
    backend: str,
    threads: int | None,
    batches: tuple[int, ...],
    budget: float | None,
    choices: Any,
    out: Path | None,
    as_json: bool,
) -> None:
    from compress.bench.staircase import staircase, table

    problem = None
    if layers is None:
        problem = "--staircase-widths are the widths of a staircase", "give --staircase LAYER|all too"
    elif what is None or len(what) != 1:
        problem = "a staircase is measured of one run", "name one run folder"
    elif len(batches) != 1:
        problem = "a staircase is measured at one batch size", "give --batch one number"
    if problem is not None:
        raise CompressError(problem[0], hint=problem[1], code="bad-option")
    assert what is not None
    assert layers is not None
    with console.progress_bar() as progress:
        found = staircase(
            what[0],
            layers,
            backend=backend,
            threads=threads,
            batch=batches[0],
            asked=None if widths is None else parse_numbers(widths),
            budget_s=budget,
            choices=choices,
            out=out,
            progress=progress,
            tell=console.print_message,
            command=command_line(),
        )
    if as_json:
        console.print_json("bench", {"staircase": found.to_json()})
        return
    console.print_result(table(found))
    console.print_message(f"{found.path}\n{found.figure}")
