"""Commands that evaluate, measure and report: eval, bench, compare, report, demo."""

from __future__ import annotations

import time
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from compress.core import console
from compress.core.command_line import CommandApp, DefaultCommandGroup
from compress.core.errors import CompressError
from compress.core.options import (
    AlignOption,
    DataOption,
    InputSizeOption,
    JsonOption,
    MeanOption,
    RequiredDataOption,
    RequiredModelOption,
    RequiredTargetOption,
    ResetHeadOption,
    StdOption,
    ThreadsOption,
    TrustOption,
    WeightsOption,
    WorkersOption,
    command_line,
    gate_option,
    given_options,
    gpu_option,
    name_option,
    option,
    parse_floats,
    parse_integers,
    parse_settings,
    parse_size,
    refuse_options,
    scenario_option,
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
  compress bench explain runs/a --threads 1
  compress bench staircase runs/a --threads 1
  compress bench scenario runs/a --scenario server --qps 50,100
  compress bench diff old.json new.json

`compress bench runs/a` is short for `compress bench run runs/a`."""

RUN_EXAMPLES = """\b
Examples:
  compress bench runs/a
  compress bench runs/a --batch 1,8 --threads 2 --json
  compress bench runs/a --backend ort-cpu,openvino,torch
  compress bench runs/a runs/b runs/a/export/model.int8.onnx
  compress bench runs/a --gate gate.toml --junit gate.xml
  compress bench --replay runs/a/bench/results.json --gate gate.toml

A run is compared with its own dense network. A file is compared with the
first artifact named (of a run: its compact model). Each back end is measured
in its own process. With --gate, the exit code is 6 if a constraint fails and
7 if the measurement is too noisy to decide. The commands explain, staircase
and scenario can also be given as flags: --explain, --staircase LAYERS,
--scenario NAMES."""

EXPLAIN_EXAMPLES = """\b
Examples:
  compress bench explain runs/a --threads 1
  compress bench explain runs/a --backend openvino --batch 8

For each layer: its time in the dense network and in the compact model, its
share of the speed-up that the MACs promise, and why it gained less."""

STAIRCASE_EXAMPLES = """\b
Examples:
  compress bench staircase runs/a --backend ort-cpu --threads 1
  compress bench staircase runs/a --layers 'layer1.*' --widths 31,32,33,48"""

SCENARIO_EXAMPLES = """\b
Examples:
  compress bench scenario runs/a
  compress bench scenario runs/a --scenario server --qps 50,100 --p99-bound-ms 20"""

DIFF_EXAMPLES = """\b
Example:
  compress bench diff runs/a/bench/results.json new.json

Times are compared only if both results were measured on the same machine in
the same configuration; otherwise the table lists what differs."""

COMPARE_EXAMPLES = """\b
Example:
  compress compare --methods dcff,l1,random,scratch --model resnet20 --data cifar10 \\
      --target macs=0.5 --epochs 10 --seeds 3 --out runs/compare"""

REPORT_EXAMPLES = """\b
Examples:
  compress report runs/a
  compress report runs/dense runs/a --out side-by-side.html

The page is one file that needs no network. For results that a run does not
have yet, it shows the command that produces them."""

app = CommandApp()
bench_app = CommandApp(cls=DefaultCommandGroup)
app.add_typer(bench_app, name="bench", epilog=BENCH_EXAMPLES)

# the commands of `bench` share their environment variables: COMPRESS_BENCH_THREADS=1 holds for all of them
bench_command = partial(bench_app.command, context_settings={"auto_envvar_prefix": "COMPRESS_BENCH"})

RunsArgument = Annotated[
    list[Path] | None,
    typer.Argument(metavar="RUN|FILE...", help="Run folders and exported files.", show_default=False),
]
BatchOption = Annotated[str, option(help="Batch sizes, such as 1,8.")]
PairsOption = Annotated[int, option(min=10, help="Number of pairs of measurements.")]
BudgetOption = Annotated[float | None, option(help="Seconds to measure, instead of a number of pairs.")]
BackendsOption = Annotated[str, name_option("backends", "Back ends, separated by commas: {backends}.")]
BackendOption = Annotated[str, name_option("backends", "Back end: {backends}.")]
DeviceOption = Annotated[str, gpu_option(help="Device of the PyTorch back ends: cpu or cuda.")]
ChannelsLastOption = Annotated[
    bool, gpu_option("--channels-last", help="PyTorch: weights and inputs in the NHWC memory format.")
]
CudaGraphOption = Annotated[
    bool, gpu_option("--cuda-graph", help="On a GPU: replay the inference as a CUDA graph.")
]
TransfersOption = Annotated[
    bool, gpu_option("--transfers", help="On a GPU: include the copies to and from it in the host's time.")
]
OutOption = Annotated[
    Path | None, option(help="File of the result; default: in the folder bench of the first run.")
]
GateOption = Annotated[Path | None, gate_option(help="Quality gate (TOML): constraints for the result.")]
JunitOption = Annotated[Path | None, gate_option(help="With --gate: write JUnit XML to this file.")]
_SCENARIOS = "single-stream,offline,server"
QpsOption = Annotated[
    str | None,
    scenario_option(help="server: queries per second, such as 50,100; default: search for the highest."),
]
P99BoundOption = Annotated[
    float | None,
    scenario_option(help="server: bound of the 99th percentile; default: 10 times the baseline's median."),
]
QueriesOption = Annotated[
    int | None, scenario_option(help="server: queries per round, at least 1,000 (the default).")
]
MaxServerBatchOption = Annotated[
    int | None, scenario_option(help="server: most queries in one inference; default: 1.")
]
MaxBatchOption = Annotated[
    int | None, scenario_option(help="offline: largest batch size; default: what fits into memory.")
]
MaxBatchSecondsOption = Annotated[
    float | None, scenario_option(help="offline: longest time of one batch; default: 1.")
]


@app.command("eval", epilog=EVAL_EXAMPLES, rich_help_panel="Measure")
def eval_(
    path: Annotated[
        Path,
        typer.Argument(metavar="RUN|FILE", help="A run folder or an exported file.", show_default=False),
    ],
    data: DataOption = None,
    backend: Annotated[
        str | None,
        name_option(
            "backends",
            "Back end: {backends}; default: torch for a run, ort-cpu for .onnx, openvino for .xml.",
        ),
    ] = None,
    device: Annotated[str, option(help="Device of the back end torch: auto, cpu, cuda or mps.")] = "cpu",
    batch_size: Annotated[
        int | None, option(min=1, help="Images per batch; default: 256 for a run in torch, 64 for a file.")
    ] = None,
    threads: ThreadsOption = None,
    trust: TrustOption = False,
    confusion: Annotated[bool, option("--confusion", help="Also print the confusion matrix.")] = False,
    workers: WorkersOption = 2,
    as_json: JsonOption = False,
) -> None:
    """Evaluate the accuracy of a run's compact model or of an exported file."""
    from compress.bench.evaluate import evaluate_any

    result = evaluate_any(
        path,
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


# --- bench ----------------------------------------------------------------------------------------------


@bench_app.callback(rich_help_panel="Measure")
def bench_group() -> None:
    """Measure latency in pairs: compact model against dense network, or several artifacts."""


@bench_command("run", epilog=RUN_EXAMPLES)
def bench_run(
    context: typer.Context,
    paths: RunsArgument = None,
    batch: BatchOption = "1",
    threads: ThreadsOption = None,
    pairs: PairsOption = 30,
    budget: BudgetOption = None,
    sessions: Annotated[
        int | None, option(min=1, help="Processes that share the pairs or seconds; default: 9.")
    ] = None,
    backend: BackendsOption = "ort-cpu",
    device: DeviceOption = "cpu",
    channels_last: ChannelsLastOption = False,
    cuda_graph: CudaGraphOption = False,
    transfers: TransfersOption = False,
    trust: TrustOption = False,
    explain: Annotated[bool, option("--explain", hidden=True, help="Same as `bench explain`.")] = False,
    out: OutOption = None,
    replay: Annotated[
        Path | None, gate_option(help="Show a stored result (a file or a run folder) instead of measuring.")
    ] = None,
    gate: GateOption = None,
    junit: JunitOption = None,
    staircase: Annotated[str | None, option(hidden=True, help="Same as `bench staircase --layers`.")] = None,
    staircase_widths: Annotated[
        str | None, option(hidden=True, help="Same as `bench staircase --widths`.")
    ] = None,
    scenario: Annotated[str | None, option(hidden=True, help="Same as `bench scenario --scenario`.")] = None,
    qps: Annotated[str | None, option(hidden=True, help="See `bench scenario`.")] = None,
    p99_bound_ms: Annotated[float | None, option(hidden=True, help="See `bench scenario`.")] = None,
    queries: Annotated[int | None, option(hidden=True, help="See `bench scenario`.")] = None,
    max_server_batch: Annotated[int | None, option(hidden=True, help="See `bench scenario`.")] = None,
    max_batch: Annotated[int | None, option(hidden=True, help="See `bench scenario`.")] = None,
    max_batch_seconds: Annotated[float | None, option(hidden=True, help="See `bench scenario`.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Measure in pairs: a run's compact model against its dense network, or several artifacts."""
    from compress.core.garbage_collection import garbage_collection_paused

    started = time.monotonic()  # imports count in the budget
    with garbage_collection_paused():
        from compress.bench import BackendOptions, bench, read, scenarios
        from compress.bench.results.table import render_bench_table as render

    choices, sizes = (
        BackendOptions(device, channels_last, cuda_graph, transfers, trust),
        parse_integers("--batch", batch),
    )
    if staircase is not None or staircase_widths is not None:
        refuse_options(
            context, "--staircase", ("pairs", "sessions", "explain", "scenario", "replay", "gate", "junit")
        )
        if staircase is None:
            raise CompressError(
                "--staircase-widths is given without --staircase",
                hint="add --staircase LAYER|all",
                code="bad-option",
            )
        _measure_staircase(
            paths or [],
            staircase,
            staircase_widths,
            backend=backend,
            threads=threads,
            batches=sizes,
            budget_s=budget,
            choices=choices,
            out=out,
            as_json=as_json,
        )
        return
    _check_replay(context, paths or [], replay)
    if explain:
        refuse_options(
            context, "--explain", ("budget", "sessions", "out", "scenario", "replay", "gate", "junit")
        )
        _explain_runs(paths or [], sizes, threads, pairs, backend, choices, as_json)
        return
    options = scenarios.options_from_flags(
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
    measurement: dict[str, Any] = {
        "threads": threads,
        "backend": backend,
        "choices": choices,
        "out": out,
        "command": command_line(),
    }
    if options is not None:
        refuse_options(context, "--scenario", ("sessions",))
    if options is not None or scenarios.is_stored(replay):
        measure: Any = partial(scenarios.run_scenarios, options=options)  # type: ignore[arg-type]
        read, render = scenarios.read, scenarios.render_scenarios  # type: ignore[assignment]
    else:
        measure = partial(
            bench, batches=sizes, pairs=pairs, budget_s=budget, sessions=sessions, started=started
        )
    _measure_and_judge(
        paths or [],
        replay,
        gate,
        junit,
        partial(measure, **measurement),
        read,
        render,
        backend,
        sizes,
        as_json,
    )


@bench_command("explain", epilog=EXPLAIN_EXAMPLES)
def bench_explain(
    paths: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Run folders.", show_default=False)],
    batch: Annotated[str, option(help="Batch size.")] = "1",
    threads: ThreadsOption = None,
    pairs: PairsOption = 30,
    backend: BackendsOption = "ort-cpu",
    device: DeviceOption = "cpu",
    channels_last: ChannelsLastOption = False,
    cuda_graph: CudaGraphOption = False,
    transfers: TransfersOption = False,
    trust: TrustOption = False,
    as_json: JsonOption = False,
) -> None:
    """Explain layer by layer where a run's speed-up was lost, and why."""
    from compress.bench import BackendOptions

    choices = BackendOptions(device, channels_last, cuda_graph, transfers, trust)
    _explain_runs(paths, parse_integers("--batch", batch), threads, pairs, backend, choices, as_json)


@bench_command("staircase", epilog=STAIRCASE_EXAMPLES)
def bench_staircase(
    path: Annotated[Path, typer.Argument(metavar="RUN", help="Run folder.", show_default=False)],
    layers: Annotated[str, option(help="Names or patterns of layers, separated by commas, or all.")] = "all",
    widths: Annotated[
        str | None, option(help="Channel counts to measure in addition to the full one, such as 31,32,33.")
    ] = None,
    batch: Annotated[str, option(help="Batch size.")] = "1",
    threads: ThreadsOption = None,
    budget: BudgetOption = None,
    backend: BackendOption = "ort-cpu",
    device: DeviceOption = "cpu",
    channels_last: ChannelsLastOption = False,
    cuda_graph: CudaGraphOption = False,
    transfers: TransfersOption = False,
    trust: TrustOption = False,
    out: Annotated[
        Path | None, option(help="File of the latency table; default: in the folder bench of the run.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Measure the latency of a run's layers against their number of channels."""
    from compress.bench import BackendOptions

    _measure_staircase(
        [path],
        layers,
        widths,
        backend=backend,
        threads=threads,
        batches=parse_integers("--batch", batch),
        budget_s=budget,
        choices=BackendOptions(device, channels_last, cuda_graph, transfers, trust),
        out=out,
        as_json=as_json,
    )


@bench_command("scenario", epilog=SCENARIO_EXAMPLES)
def bench_scenario(
    context: typer.Context,
    paths: RunsArgument = None,
    scenario: Annotated[
        str, option(help="Scenarios, separated by commas: single-stream, offline, server.")
    ] = _SCENARIOS,
    qps: QpsOption = None,
    p99_bound_ms: P99BoundOption = None,
    queries: QueriesOption = None,
    max_server_batch: MaxServerBatchOption = None,
    max_batch: MaxBatchOption = None,
    max_batch_seconds: MaxBatchSecondsOption = None,
    threads: ThreadsOption = None,
    pairs: PairsOption = 30,
    budget: BudgetOption = None,
    backend: BackendsOption = "ort-cpu",
    device: DeviceOption = "cpu",
    channels_last: ChannelsLastOption = False,
    cuda_graph: CudaGraphOption = False,
    transfers: TransfersOption = False,
    trust: TrustOption = False,
    out: OutOption = None,
    gate: GateOption = None,
    junit: JunitOption = None,
    as_json: JsonOption = False,
) -> None:
    """Measure the scenarios of MLPerf Inference: single stream, offline and server."""
    from compress.bench import BackendOptions, scenarios

    if not paths:
        _check_replay(context, [], None)
    sizes = (1,)
    options = scenarios.make_options(
        scenario,
        pairs=pairs,
        budget_s=budget,
        qps=qps,
        p99_bound_ms=p99_bound_ms,
        queries=queries,
        max_server_batch=max_server_batch,
        max_batch=max_batch,
        max_batch_s=max_batch_seconds,
    )
    measure = partial(
        scenarios.run_scenarios,
        options=options,
        threads=threads,
        backend=backend,
        choices=BackendOptions(device, channels_last, cuda_graph, transfers, trust),
        out=out,
        command=command_line(),
    )
    _measure_and_judge(
        paths or [],
        None,
        gate,
        junit,
        measure,
        scenarios.read,
        scenarios.render_scenarios,
        backend,
        sizes,
        as_json,
    )


@bench_command("diff", epilog=DIFF_EXAMPLES)
def bench_diff(
    first: Annotated[Path, typer.Argument(metavar="A", help="The older result.", show_default=False)],
    second: Annotated[Path, typer.Argument(metavar="B", help="The newer result.", show_default=False)],
    as_json: JsonOption = False,
) -> None:
    """Compare two stored results; results of different machines are never called a regression."""
    from compress.bench import read
    from compress.bench.results import diff

    difference = diff.diff(read(first), read(second), (str(first), str(second)))
    if as_json:
        console.print_json("bench diff", difference.model_dump(mode="json"))
        return
    console.print_result(diff.render_diff(difference))


def _measure_and_judge(
    paths: list[Path],
    replay: Path | None,
    gate: Path | None,
    junit: Path | None,
    measure: Any,
    read: Any,
    render: Any,
    backend: str,
    sizes: tuple[int, ...],
    as_json: bool,
) -> None:
    """Measure or read a result, print it, judge it by the quality gate, and exit with the gate's code."""
    from compress.bench import gate as gates

    if junit is not None and gate is None:
        raise CompressError("--junit is given without --gate", hint="add --gate FILE", code="bad-option")
    rules = None if gate is None else gates.read(gate)
    if rules is not None and replay is None:
        gates.check_rules_apply(rules, paths, backend, sizes)
    with console.progress_bar() as progress:
        result = read(replay) if replay is not None else measure(*paths, progress=progress)
    if gate is None or rules is None:
        if as_json:
            console.print_json("bench", {"result": result.model_dump(mode="json")})
        else:
            console.print_result(render(result))
        return
    companion = gates.find_companion_result(result, replay if replay is not None else paths[0])
    judged = gates.evaluate_gate(result, rules, gate.name, companion)
    if junit is not None:
        gates.write_junit(judged, junit)
    if as_json:
        console.print_json("bench", {"result": result.model_dump(mode="json"), **gates.to_json(judged)})
    else:
        console.print_result(render(result), gates.render_gate(judged))
        console.print_message("\n".join(gates.summary_lines(judged)))
    raise typer.Exit(int(judged.exit))


def _check_replay(context: typer.Context, paths: list[Path], replay: Path | None) -> None:
    """Refuse to measure nothing, and options of a measurement together with a stored result.

    Raises:
        CompressError: ``usage``: nothing is given; ``bad-option``: an option needs a measurement.
    """
    if replay is None:
        if not paths:
            raise CompressError(
                "no run and no file is given",
                hint="such as `compress bench runs/a`; see `compress bench --help`",
            )
        return
    allowed = ("replay", "gate", "junit", "as_json", "paths")
    refused = [flag for name, flag in given_options(context).items() if name not in allowed]
    if paths or refused:
        raise CompressError(
            f"--replay measures nothing, so {', '.join([*map(str, paths), *refused])} has no effect",
            hint="leave it out, or leave out --replay to measure",
            code="bad-option",
        )


def _explain_runs(
    paths: list[Path],
    batches: tuple[int, ...],
    threads: int | None,
    pairs: int,
    backend: str,
    choices: Any,
    as_json: bool,
) -> None:
    from compress.bench.explain import explain, render_explanation

    with console.progress_bar() as progress:
        explanations = explain(
            *paths,
            batch=_one_batch_size(batches, "explain"),
            threads=threads,
            blocks=pairs,
            backend=backend,
            choices=choices,
            progress=progress,
            command=command_line(),
        )
    if as_json:
        console.print_json(
            "bench", {"explanations": [entry.model_dump(mode="json") for entry in explanations]}
        )
        return
    console.print_result(*(render_explanation(entry) for entry in explanations))


def _measure_staircase(
    paths: list[Path],
    layers: str,
    widths: str | None,
    *,
    batches: tuple[int, ...],
    as_json: bool,
    **settings: Any,
) -> None:
    from compress.bench.staircase import measure_staircase, render_staircase

    if len(paths) != 1:
        raise CompressError(
            f"a staircase is measured for one run, but {len(paths)} are given",
            hint="name one run folder",
            code="bad-option",
        )
    with console.progress_bar() as progress:
        measured = measure_staircase(
            paths[0],
            layers,
            batch=_one_batch_size(batches, "staircase"),
            widths=None if widths is None else parse_integers("--widths", widths),
            progress=progress,
            announce=console.print_message,
            command=command_line(),
            **settings,
        )
    if as_json:
        console.print_json("bench", {"staircase": measured.to_json()})
        return
    console.print_result(render_staircase(measured))
    console.print_message(f"{measured.path}\n{measured.figure}")


def _one_batch_size(batches: tuple[int, ...], command: str) -> int:
    if len(batches) != 1:
        raise CompressError(
            f"`bench {command}` takes one batch size, not {', '.join(map(str, batches))}",
            hint="such as --batch 1",
            code="bad-option",
        )
    return batches[0]


# --- runs -----------------------------------------------------------------------------------------------


@app.command("report", epilog=REPORT_EXAMPLES, rich_help_panel="Measure")
def report_(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Run folders.", show_default=False)],
    out: Annotated[
        Path | None,
        option(help="HTML file to write; default: bench/report.html of the first run."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Write an HTML page about runs: accuracy, speed, layers, training, checks, environment."""
    from compress.bench.report import report

    pages = report(*runs, out=out)
    if as_json:
        console.print_json("report", pages.to_json())
        return
    console.print_result(str(pages.html), str(pages.markdown))
    for run in pages.facts.runs:
        for entry in run.missing:
            console.print_message(
                f"{run.name}: {entry.why}" + (f"; `{entry.command}`" if entry.command else "")
            )


@app.command(rich_help_panel="Start here")
def demo(
    out: Annotated[Path | None, option(help="Folder of the two runs; default: runs/demo.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Train, export and measure a small network on built-in data, in about a minute on two cores."""
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


@app.command(epilog=COMPARE_EXAMPLES, rich_help_panel="Compress")
def compare(
    methods: Annotated[
        str, name_option("methods", "Methods, separated by commas: {methods}.", show_default=False)
    ],
    model: RequiredModelOption,
    data: RequiredDataOption,
    target: RequiredTargetOption,
    epochs: Annotated[
        int,
        option(
            min=1, help="Epochs of each method, including those of its dense network.", show_default=False
        ),
    ],
    seeds: Annotated[int, option(min=1, help="Number of seeds.")] = 3,
    out: Annotated[Path, option(help="Folder of the runs; a comparison in it is resumed.")] = Path(
        "runs/compare"
    ),
    align: AlignOption = "auto",
    latency: Annotated[
        bool, option("--latency/--no-latency", help="Measure the latency of the first seed's networks.")
    ] = True,
    as_json: JsonOption = False,
    input_size: InputSizeOption = None,
    mean: MeanOption = None,
    std: StdOption = None,
    weights: WeightsOption = None,
    reset_head: ResetHeadOption = None,
    batch_size: Annotated[int | None, training_option(help="Images per step.")] = None,
    lr: Annotated[float | None, training_option(help="Learning rate (kdfs: --set kdfs.lr=0.01).")] = None,
    setting: Annotated[
        list[str] | None,
        training_option(
            "--set",
            envvar="COMPRESS_COMPARE_SET",
            help="KEY=VALUE for every training, or METHOD.KEY=VALUE; repeatable.",
        ),
    ] = None,
) -> None:
    """Compare methods with the same network, data, target and epochs, over several seeds."""
    from compress.bench.comparison.pipeline import ComparisonRequest, named_methods, run_comparison
    from compress.pipeline import TrainRequest
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
    training = TrainRequest(
        model=model,
        data=data,
        target=target,
        settings=settings,
        input_size=parse_size(input_size),
        mean=parse_floats("--mean", mean),
        std=parse_floats("--std", std),
        weights=weights,
        reset_head=reset_head,
        align=align,
    )
    request = ComparisonRequest(
        named_methods(methods.split(",")), training, epochs, seeds, out, options, latency
    )
    result = run_comparison(request, progress=progress_for(), say=console.print_message)
    if as_json:
        console.print_json("compare", result.model_dump(mode="json"))
        return
    console.print_result(*result.parts())
