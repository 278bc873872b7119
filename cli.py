"""The command line: parses, calls, prints. Everything it does is a plain function of the packages."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from functools import partial
from pathlib import Path
from typing import Annotated, Any, cast

import typer

from compress import __version__
from compress.core import console
from compress.core.errors import CompressError, Exit

PRECEDENCE = (
    "An option may also come from the environment: COMPRESS_TRAIN_EPOCHS=5 for `train --epochs 5`, "
    "COMPRESS_JSON=1 for --json. A flag goes before the environment, the environment before a recipe, "
    "a recipe before the default."
)

EPILOG = f"""\b
Examples:
  compress demo
  compress train --model vgg16 --data cifar10 --target macs=0.5 --out runs/a
  compress eval runs/a
  compress export runs/a
  compress bench runs/a --batch 1,8
  compress report runs/a

{PRECEDENCE}

\b
Exit codes: 0 done, 1 internal error, 2 usage, 3 something is missing,
4 build failed, 5 parity or integrity failed, 6 gate failed, 7 inconclusive,
130 interrupted."""

TRAIN = f"""\b
Examples:
  compress train --model resnet20 --data cifar10 --target macs=0.5 --epochs 5
  compress train --recipe dcff-resnet56-cifar10 --dry-run
  compress train --model net.py:make --data folder:photos --target params=0.4
  compress train --model vgg16 --data cifar10 --drop 'features.*=0.5'
  compress train --model vgg16 --data npz:x.npz --method dense --set nesterov=true
  compress train ... --estimate
  compress train ... --out runs/a --resume

{PRECEDENCE}"""

SLICE = """\b
Example:
  compress slice --model resnet56 --weights dense.safetensors --data cifar10 \\
      --target macs=0.7 --out runs/cut"""

EVAL = """\b
Examples:
  compress eval runs/a --confusion
  compress eval runs/a --backend openvino
  compress eval runs/a/export/model.onnx --data cifar10 --json"""

EXPORT = """\b
Examples:
  compress export runs/a
  compress export runs/a --batch 8 --opset 20 --simplify
  compress export runs/a --format openvino --precision int8
  compress export runs/a --format trt-rtx --precision fp16 --batch 1:8:32 --target-sm 86,89
  compress export runs/a --script runs/a/export/infer.py --sign key.pem
  compress export runs/a --triton models"""

BENCH = """\b
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

DIFF = """\b
Example:
  compress bench diff runs/a/bench/results.json new.json

Times are compared only between results of one machine in one configuration;
else the table says what differs."""

VERIFY = """\b
Examples:
  compress verify --new-key key.pem
  compress export runs/a --sign key.pem
  compress verify runs/a/export --public-key key.pub.pem

Exit code 5 where a file is not what the manifest says."""

COMPARE = """\b
Example:
  compress compare --methods dcff,l1,random,scratch --model resnet20 --data cifar10 \\
      --target macs=0.5 --epochs 10 --seeds 3 --out runs/compare"""

REPORT = """\b
Examples:
  compress report runs/a
  compress report runs/dense runs/a --out side-by-side.html

One page that needs no network: it can be mailed, printed, and read on a phone.
What a run does not hold yet is said with the command that makes it."""

INSPECT = """\b
Examples:
  compress inspect --model resnet56
  compress inspect --model torchvision/resnet50 --input-size 3,224,224 --plot groups.png"""

app = typer.Typer(
    name="compress",
    help="Train a CNN narrow, cut it exactly, export it, and measure what that is worth.",
    epilog=EPILOG,
    pretty_exceptions_enable=False,
    context_settings={"auto_envvar_prefix": "COMPRESS", "help_option_names": ["-h", "--help"]},
)

# the epilog says once how an option is set by the environment
Option = partial(typer.Option, show_envvar=False)
HowOption = partial(Option, rich_help_panel="Training")
GateOption = partial(Option, rich_help_panel="Stored results and gates", show_default=False)
StairOption = partial(Option, rich_help_panel="Latency against width", show_default=False)
DeployOption = partial(Option, rich_help_panel="Deployment", show_default=False)
NetOption = partial(Option, rich_help_panel="Network and data")
ScenarioOption = partial(Option, rich_help_panel="Scenarios", show_default=False)

Json = Annotated[
    bool, Option("--json", envvar="COMPRESS_JSON", help="Print exactly one JSON object on stdout.")
]
Model = Annotated[
    str | None, NetOption(help="Network: resnet56, torchvision/NAME, timm/NAME, FILE.py:FACTORY.")
]
Data = Annotated[
    str | None, NetOption(help="Images: digits, cifar10, cifar100, npz:FILE, folder:DIR, hf:NAME.")
]
Size = Annotated[str | None, NetOption(help="Channels, height and width of an image, such as 3,32,32.")]
Classes = Annotated[int | None, NetOption(min=1, help="Number of classes; default: the data's.")]
Mean = Annotated[
    str | None, NetOption(help="Mean a channel that the weights want, such as 0.485,0.456,0.406.")
]
Std = Annotated[str | None, NetOption(help="Standard deviation a channel, such as 0.229,0.224,0.225.")]
Weights = Annotated[
    str | None, NetOption(help="Weights of the dense network (safetensors, or torch without pickle).")
]
Align = Annotated[str, Option(help="Widths are multiples of: auto, none, or a number.")]
Workers = Annotated[int, Option(min=0, help="Processes that decode images.")]
BACKENDS = "torch, torch-compile, ort-cpu, ort-cuda, ort-trt, trt, trt-rtx, openvino"
Trust = Annotated[bool, Option("--trust", help="Load an engine (native code) without a manifest.")]
Run = Annotated[Path, typer.Argument(help="A run folder.", show_default=False)]


# --- commands -------------------------------------------------------------------------------------------


@app.command(epilog=TRAIN)
def train(
    method: Annotated[
        str | None,
        Option(help="dcff, kdfs, abp, l1, random, scratch or dense; default: the recipe's, or dcff."),
    ] = None,
    target: Annotated[
        str | None,
        Option(help="macs=F or params=F: a fraction of the dense network, or a number such as 60M."),
    ] = None,
    recipe: Annotated[
        str | None, Option(help="A recipe's name or TOML file; `compress recipes` lists them.")
    ] = None,
    drop: Annotated[
        list[str] | None,
        Option(help="LAYER=RATE[,RATE...]: fraction dropped, instead of a target; repeatable."),
    ] = None,
    align: Align = "auto",
    out: Annotated[Path | None, Option(help="The run folder; default: runs/METHOD-MODEL-DATA.")] = None,
    resume: Annotated[bool, Option("--resume", help="Go on with the run in --out.")] = False,
    dry_run: Annotated[bool, Option("--dry-run", help="Print the plan; train and write nothing.")] = False,
    estimate: Annotated[
        bool,
        Option("--estimate", help="Run the steps for a minute, print time and memory of it all, and end."),
    ] = False,
    estimate_seconds: Annotated[float, Option(help="How long --estimate runs the steps.")] = 60.0,
    as_json: Json = False,
    model: Model = None,
    data: Data = None,
    num_classes: Classes = None,
    input_size: Size = None,
    mean: Mean = None,
    std: Std = None,
    weights: Weights = None,
    teacher: Annotated[
        str | None, NetOption(help="kdfs: run folder or weights of a trained dense network.")
    ] = None,
    residual: Annotated[
        str | None,
        HowOption(help="Residual streams: keep (not cut), tied (cut together) or, kdfs and abp, scatter."),
    ] = None,
    epochs: Annotated[int | None, HowOption(help="Passes over the training images.")] = None,
    batch_size: Annotated[int | None, HowOption(help="Images a step, over all processes.")] = None,
    lr: Annotated[float | None, HowOption(help="Learning rate after the warm-up.")] = None,
    optimizer: Annotated[str | None, HowOption(help="sgd, adamw or adamax.")] = None,
    momentum: Annotated[float | None, HowOption(help="Momentum of SGD.")] = None,
    weight_decay: Annotated[float | None, HowOption(help="Weight decay.")] = None,
    schedule: Annotated[str | None, HowOption(help="cosine, step or constant.")] = None,
    warmup_epochs: Annotated[float | None, HowOption(help="Epochs in which the learning rate rises.")] = None,
    label_smoothing: Annotated[float | None, HowOption(help="Label smoothing.")] = None,
    clip_grad: Annotated[float | None, HowOption(help="Largest norm of the gradients.")] = None,
    ema: Annotated[
        float | None, HowOption(help="Decay of a moving average of the weights, such as 0.999.")
    ] = None,
    seed: Annotated[int | None, HowOption(help="Seed of everything random.")] = None,
    device: Annotated[str | None, HowOption(help="auto, cpu, cuda or mps.")] = None,
    precision: Annotated[str | None, HowOption(help="fp32, bf16 or fp16 (mixed).")] = None,
    data_on_device: Annotated[
        str | None, HowOption(help="Images on the device that trains: auto (if they fit), on or off.")
    ] = None,
    compile: Annotated[
        str | None,
        HowOption(help="auto (measured; off on a CPU), on, cuda-graphs or off: torch.compile of the steps."),
    ] = None,
    profile: Annotated[
        bool, HowOption("--profile", help="Trace some steps; table of where their time goes.")
    ] = False,
    setting: Annotated[
        list[str] | None,
        HowOption(
            "--set",
            envvar="COMPRESS_TRAIN_SET",
            help="KEY=VALUE: any other setting of training or method; repeatable.",
        ),
    ] = None,
    workers: Workers = 2,
    dali: Annotated[bool, HowOption("--dali", help="folder: decode on the GPU (needs NVIDIA DALI).")] = False,
) -> None:
    """Train a network narrow and leave it in a run folder."""
    from compress import pipeline, training
    from compress import tables as show

    flags = {
        "epochs": epochs,
        "batch_size": batch_size,
        "lr": lr,
        "optimizer": optimizer,
        "momentum": momentum,
        "weight_decay": weight_decay,
        "schedule": schedule,
        "warmup_epochs": warmup_epochs,
        "label_smoothing": label_smoothing,
        "clip_grad": clip_grad,
        "ema": ema,
        "seed": seed,
        "device": device,
        "precision": precision,
        "data_on_device": data_on_device,
        "compile": compile,
    }
    more = _pairs(setting or []) | ({"residual": residual} if residual is not None else {})
    known = set(training.TrainConfig.model_fields)
    request = pipeline.TrainRequest(
        method=method,
        model=model,
        data=data,
        recipe=recipe,
        target=target,
        drop=_rates(drop or []),
        num_classes=num_classes,
        input_size=_size(input_size),
        mean=_floats("--mean", mean),
        std=_floats("--std", std),
        weights=weights,
        teacher=teacher,
        align=align,
        settings={
            **{key: value for key, value in flags.items() if value is not None},
            **{key: value for key, value in more.items() if key in known},
        },
        options={key: value for key, value in more.items() if key not in known},
        out=out,
        resume=resume,
        workers=workers,
        profile=profile,
        dali=dali,
    )
    if dry_run:
        _print_plan(request, as_json)
        return
    if estimate:
        _print_estimate(pipeline.estimate(request, estimate_seconds, say=console.note), as_json)
        return
    result = pipeline.train(request, progress=training.progress_for(), command=_command(), say=console.note)
    if not result.is_first:
        return
    if as_json:
        console.emit("train", _plain(result))
        return
    console.show(*show.training(result))


@app.command("slice", epilog=SLICE)
def slice_(
    model: Annotated[str, NetOption(help="Network, as for train.")],
    data: Annotated[str, NetOption(help="Images, as for train: for verifying and accuracy.")],
    target: Annotated[str, Option(help="macs=F or params=F.")],
    out: Annotated[Path, Option(help="The run folder.")],
    weights: Weights = None,
    criterion: Annotated[str, Option(help="l1, l2, bn-scale or random.")] = "l1",
    num_classes: Classes = None,
    input_size: Size = None,
    mean: Mean = None,
    std: Std = None,
    align: Align = "auto",
    seed: Annotated[int, Option(help="Seed of random.")] = 0,
    as_json: Json = False,
) -> None:
    """Cut a trained network by a criterion, without training."""
    from compress import pipeline
    from compress import tables as show

    result = pipeline.slice_to_run(
        model,
        data,
        target,
        out,
        weights=weights,
        input_size=_size(input_size),
        num_classes=num_classes,
        mean=_floats("--mean", mean),
        std=_floats("--std", std),
        criterion=criterion,  # type: ignore[arg-type]
        align=align,
        seed=seed,
        command=_command(),
    )
    if as_json:
        console.emit("slice", result)
        return
    console.show(*show.slicing(result))


@app.command("eval", epilog=EVAL)
def eval_(
    what: Annotated[
        Path,
        typer.Argument(metavar="RUN|FILE", help="A run folder or an exported file.", show_default=False),
    ],
    data: Data = None,
    backend: Annotated[
        str | None,
        Option(help=f"{BACKENDS}. Default: torch for a run, ort-cpu for .onnx, openvino for .xml."),
    ] = None,
    device: Annotated[str, Option(help="Where torch evaluates a run: auto, cpu, cuda or mps.")] = "cpu",
    batch_size: Annotated[
        int | None, Option(min=1, help="Images at once; default: 256 for a run in torch, 64 for a file.")
    ] = None,
    threads: Annotated[int | None, Option(min=1, help="Threads; default: physical cores.")] = None,
    trust: Trust = False,
    confusion: Annotated[bool, Option("--confusion", help="Print the confusion matrix too.")] = False,
    workers: Workers = 2,
    as_json: Json = False,
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
        console.emit("eval", result.to_json(confusion=confusion))
        return
    console.show(*result.lines(confusion=confusion))


@app.command("export", epilog=EXPORT)
def export_(
    run: Run,
    format: Annotated[str, Option("--format", help="onnx, openvino, trt or trt-rtx.")] = "onnx",
    precision: Annotated[str, Option(help="fp32, fp16, bf16 or int8.")] = "fp32",
    opset: Annotated[int | None, Option(help="ONNX operator set, from 18; default: the exporter's.")] = None,
    batch: Annotated[str, Option(help="dynamic, a fixed number, or MIN:OPT:MAX.")] = "dynamic",
    simplify: Annotated[
        bool, Option("--simplify", help="Try onnxsim; kept only if smaller and equal.")
    ] = False,
    sign: Annotated[
        Path | None, DeployOption(help="Sign the manifest with this Ed25519 private key (PEM).")
    ] = None,
    script: Annotated[
        Path | None, DeployOption(help="Write an inference script that needs no torch to this file.")
    ] = None,
    triton: Annotated[Path | None, DeployOption(help="Add the file to this Triton model repository.")] = None,
    data: Data = None,
    samples: Annotated[int, Option(min=1, help="Test images that are compared.")] = 256,
    calib_images: Annotated[int, Option(help="Training images that ranges are taken from.")] = 256,
    quantize_ends: Annotated[
        bool, Option("--quantize-ends", help="INT8 for the first and the last layer too.")
    ] = False,
    target_sm: Annotated[
        str | None, Option(help="trt-rtx: GPUs to compile for, such as 86,89; default: when loaded.")
    ] = None,
    timing_cache: Annotated[
        Path | None, Option(metavar="FILE", help="trt: keep its measurements for the next build.")
    ] = None,
    workspace: Annotated[int | None, Option(metavar="MIB", help="Scratch memory a layer may use.")] = None,
    hardware_compat: Annotated[
        bool, Option("--hardware-compat", help="trt: run on other GPUs from Ampere on too.")
    ] = False,
    version_compat: Annotated[
        bool, Option("--version-compat", help="trt: run in later versions of TensorRT too.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Write a file for a runtime, after proving that it computes the same."""
    from compress.export import export
    from compress.export.deploy import deployment as deploy
    from compress.export.options import parse_batch, parse_targets
    from compress.export.parity.text import chain_lines

    deployment = deploy.prepare(run, format, sign=sign, script=script, triton_repository=triton)
    result = export(
        run,
        format,
        opset,
        parse_batch(batch),
        simplify,
        data,
        samples,
        precision=cast(Any, precision),  # `export` refuses other words
        target_sm=parse_targets(target_sm),
        timing_cache=timing_cache,
        workspace_mb=workspace,
        hardware_compat=hardware_compat,
        version_compat=version_compat,
        calib_images=calib_images,
        quantize_ends=quantize_ends,
    )
    delivered = deployment.deliver(result).to_json()
    record = result.record
    if as_json:
        console.emit("export", {"path": str(result.path), **record.model_dump(mode="json"), **delivered})
        return
    console.show(str(result.path))
    size = record.bytes + sum(companion.bytes for companion in record.companions)
    console.note(f"opset {record.opset}, {size:,} bytes, sha256 {record.sha256[:16]}...")
    for line in chain_lines(record):
        console.note(line)
    for what, path in delivered.items():
        console.note(f"{what}: {path}")


@app.command("bench", epilog=BENCH)
def bench_(
    context: typer.Context,
    what: Annotated[
        list[Path] | None,
        typer.Argument(metavar="RUN|FILE...", help="Run folders and exported files.", show_default=False),
    ] = None,
    batch: Annotated[str, Option(help="Batch sizes, such as 1,8.")] = "1",
    threads: Annotated[int | None, Option(min=1, help="Threads; default: physical cores.")] = None,
    pairs: Annotated[int, Option(min=10, help="Pairs of measurements.")] = 30,
    budget: Annotated[float | None, Option(help="Seconds for all comparisons, instead of --pairs.")] = None,
    sessions: Annotated[
        int | None, Option(min=1, help="Processes that share the pairs or seconds; default: 9.")
    ] = None,
    backend: Annotated[str, Option(help=f"Back ends, with commas between: {BACKENDS}.")] = "ort-cpu",
    device: Annotated[str, Option(help="Where torch and torch-compile run: cpu or cuda.")] = "cpu",
    channels_last: Annotated[
        bool, Option("--channels-last", help="torch: lay weights and input out as NHWC.")
    ] = False,
    cuda_graph: Annotated[
        bool, Option("--cuda-graph", help="On a GPU: replay the inference as a CUDA graph.")
    ] = False,
    transfers: Annotated[
        bool, Option("--transfers", help="On a GPU: count the copies to and from it in the host's time.")
    ] = False,
    trust: Trust = False,
    explain: Annotated[
        bool, Option("--explain", help="Say layer by layer where a run's speed-up was lost, and why.")
    ] = False,
    out: Annotated[
        Path | None, Option(help="File of the result; default: bench/results.json of the first run.")
    ] = None,
    replay: Annotated[
        Path | None, GateOption(help="Measure nothing: show this result (results.json or a run folder).")
    ] = None,
    gate: Annotated[Path | None, GateOption(help="Constraints the result must hold (TOML).")] = None,
    junit: Annotated[Path | None, GateOption(help="With --gate: write JUnit XML to this file.")] = None,
    staircase: Annotated[
        str | None,
        StairOption(
            metavar="LAYER|all",
            help="Measure the latency of the run's layers against their width: names or patterns with "
            "commas between, or all.",
        ),
    ] = None,
    staircase_widths: Annotated[
        str | None, StairOption(help="Widths to measure besides the full one, such as 31,32,33.")
    ] = None,
    scenario: Annotated[
        str | None, ScenarioOption(help="MLPerf's scenarios instead: single-stream, offline, server.")
    ] = None,
    qps: Annotated[
        str | None, ScenarioOption(help="server: rates such as 50,100; default: search the largest.")
    ] = None,
    p99_bound_ms: Annotated[
        float | None,
        ScenarioOption(help="server: bound on the p99; default: 10 times the baseline's median."),
    ] = None,
    queries: Annotated[
        int | None, ScenarioOption(help="server: queries of a round, from 1,000 (the default).")
    ] = None,
    max_server_batch: Annotated[
        int | None, ScenarioOption(help="server: most queries of one inference; default: 1.")
    ] = None,
    max_batch: Annotated[
        int | None, ScenarioOption(help="offline: largest batch size; default: up to memory.")
    ] = None,
    max_batch_seconds: Annotated[
        float | None, ScenarioOption(help="offline: longest time of a batch; default: 1.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Measure in pairs: a run's compact network against its dense one, or several artefacts."""
    from compress.bench import Choices, bench, read, scenarios
    from compress.bench import gate as gates
    from compress.bench.results.table import table

    choices, sizes = Choices(device, channels_last, cuda_graph, transfers, trust), _numbers(batch)
    if staircase is not None or staircase_widths is not None:
        _alone(
            context, "--staircase", ("pairs", "sessions", "explain", "scenario", "replay", "gate", "junit")
        )
        _staircase(what, staircase, staircase_widths, backend, threads, sizes, budget, choices, out, as_json)
        return
    _check_replay(context, what, replay)
    if explain:
        _alone(context, "--explain", ("budget", "sessions", "out", "scenario", "replay", "gate", "junit"))
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
        _alone(context, "--scenario", ("sessions",))
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
                command=_command(),
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
        console.emit("bench", {"result": result.model_dump(mode="json"), **values})
    else:
        console.show(table(result), *([] if judged is None else [gates.table(judged)]))
    if judged is not None:
        if not as_json:
            console.note("\n".join(gates.verdict(judged)))
        raise typer.Exit(int(judged.exit))


@app.command("bench diff", epilog=DIFF)
def bench_diff(
    first: Annotated[Path, typer.Argument(metavar="A", help="The older result.", show_default=False)],
    second: Annotated[Path, typer.Argument(metavar="B", help="The newer one.", show_default=False)],
    as_json: Json = False,
) -> None:
    """Two stored results side by side; never calls another machine a regression."""
    from compress.bench import read
    from compress.bench.results import diff

    found = diff.diff(read(first), read(second), (str(first), str(second)))
    if as_json:
        console.emit("bench diff", found.model_dump(mode="json"))
        return
    console.show(diff.table(found))


@app.command("report", epilog=REPORT)
def report_(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Run folders.", show_default=False)],
    out: Annotated[
        Path | None,
        Option(help="The page, ending in .html; default: bench/report.html of the first run."),
    ] = None,
    as_json: Json = False,
) -> None:
    """One page on what a run is worth: lineage, speed, layers, training, proof, environment."""
    from compress.bench.report import report

    found = report(*runs, out=out)
    if as_json:
        console.emit("report", found.to_json())
        return
    console.show(str(found.html), str(found.markdown))
    for run in found.facts.runs:
        for entry in run.missing:
            console.note(f"{run.name}: {entry.why}" + (f"; `{entry.command}`" if entry.command else ""))


@app.command(epilog=INSPECT)
def inspect(
    model: Annotated[str, NetOption(help="Network, as for train.", show_default=False)],
    input_size: Size = None,
    num_classes: Classes = None,
    weights: Weights = None,
    plot: Annotated[Path | None, Option(help="Draw the MACs of each group (PNG, SVG or PDF).")] = None,
    as_json: Json = False,
) -> None:
    """What can be cut of a network: its channel groups, what ties them, what is protected and why."""
    from compress import tables as show
    from compress.pipeline import inspect as inspection

    found = inspection.inspect(model, num_classes=num_classes, input_size=_size(input_size), weights=weights)
    if plot is not None:
        inspection.plot(found, plot)
    if as_json:
        console.emit("inspect", found.model_dump(mode="json"))
        return
    console.show(*show.inspection(found))


@app.command()
def demo(
    out: Annotated[Path | None, Option(help="Folder for the two runs; default: runs/demo.")] = None,
    as_json: Json = False,
) -> None:
    """The whole way on built-in data: train, export, measure. About a minute on two cores."""
    from compress.bench.demo import demo
    from compress.training import progress_for

    with console.progress_bar() as progress:
        result = demo(
            out, progress=progress_for(), say=lambda line: console.note(f"\n$ {line}"), measuring=progress
        )
    if as_json:
        console.emit("demo", result.to_json())
        return
    console.show(*result.parts())


@app.command(epilog=COMPARE)
def compare(
    methods: Annotated[
        str, Option(help="Names with commas between, such as dcff,l1,random,scratch.", show_default=False)
    ],
    model: Annotated[str, NetOption(help="Network, as for train.", show_default=False)],
    data: Annotated[str, NetOption(help="Images, as for train.", show_default=False)],
    target: Annotated[str, Option(help="macs=F or params=F.", show_default=False)],
    epochs: Annotated[
        int,
        Option(min=1, help="Epochs of every method, those of a dense network included.", show_default=False),
    ],
    seeds: Annotated[int, Option(min=1, help="Number of seeds.")] = 3,
    out: Annotated[Path, Option(help="Folder of the runs; a comparison that is in it goes on.")] = Path(
        "runs/compare"
    ),
    align: Align = "auto",
    latency: Annotated[
        bool, Option("--latency/--no-latency", help="Measure the first seed's networks.")
    ] = True,
    as_json: Json = False,
    input_size: Size = None,
    mean: Mean = None,
    std: Std = None,
    weights: Weights = None,
    batch_size: Annotated[int | None, HowOption(help="Images a step.")] = None,
    lr: Annotated[float | None, HowOption(help="Learning rate (kdfs: --set kdfs.lr=0.01).")] = None,
    setting: Annotated[
        list[str] | None,
        HowOption(
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
    for key, value in _pairs(setting or []).items():
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
        input_size=_size(input_size),
        mean=_floats("--mean", mean),
        std=_floats("--std", std),
        weights=weights,
        align=align,
        latency=latency,
        progress=progress_for(),
        say=console.note,
    )
    if as_json:
        console.emit("compare", result.model_dump(mode="json"))
        return
    console.show(*result.parts())


@app.command(epilog=VERIFY)
def verify(
    folder: Annotated[
        Path | None, typer.Argument(metavar="DIR", help="An export folder.", show_default=False)
    ] = None,
    public_key: Annotated[
        Path | None, Option(help="Ed25519 key (PEM) that must have signed the manifest.")
    ] = None,
    new_key: Annotated[
        Path | None, Option(help="Make a key pair in this file, and check nothing.", show_default=False)
    ] = None,
    as_json: Json = False,
) -> None:
    """Whether an export folder is what its manifest says, and nothing else."""
    from compress.export.trust import signing
    from compress.export.trust.verify import verify
    from compress.export.trust.verify_table import table, verdict

    if new_key is not None:
        public = signing.new_key(new_key)
        if as_json:
            console.emit("verify", {"private_key": str(new_key), "public_key": str(public)})
            return
        console.show(str(public))
        console.note(f"{new_key} signs and stays secret; {public} checks and goes to whoever loads the files")
        return
    if folder is None:
        raise CompressError("no folder is given", hint="such as `compress verify runs/a/export`")
    found = verify(folder, public_key)
    if as_json:
        values = found.model_dump(mode="json")
        console.emit("verify", {"passed": found.passed, **values})
    else:
        console.show(table(found))
        console.note(verdict(found))
    if not found.passed:
        raise typer.Exit(int(Exit.PARITY))


@app.command()
def doctor(as_json: Json = False) -> None:
    """What works on this machine, and the command that mends what does not."""
    from compress.doctor import examine, show

    report = examine()
    if as_json:
        console.emit("doctor", {"works": report.works, **report.model_dump(mode="json")})
    else:
        console.show(*show.parts(report))
        console.note(show.verdict(report))
    if not report.works:
        raise typer.Exit(int(Exit.MISSING))


@app.command()
def recipes(
    name: Annotated[
        str | None, typer.Argument(help="One of them: its settings and commands.", show_default=False)
    ] = None,
    as_json: Json = False,
) -> None:
    """List the recipes: settings of the papers and ours, published numbers and measured ones."""
    from compress import recipes as book
    from compress import tables as show

    every = [book.load(word) for word in ([name] if name else book.names())]
    ours = book.measured()
    if as_json:
        rows = [book.listed(recipe, ours.get(recipe.name)) for recipe in every]
        console.emit("recipes", {"recipes": rows})
        return
    console.show(*(show.recipe(every[0], ours.get(every[0].name)) if name else [show.recipes(every, ours)]))


@app.callback(invoke_without_command=True)
def _options(
    context: typer.Context,
    version: Annotated[bool, Option("--version", help="Print the version.")] = False,
    debug: Annotated[
        bool, Option("--debug", help="Show tracebacks and warnings; allowed anywhere on the line.")
    ] = False,
    as_json: Annotated[bool, Option("--json", help="With --version: print a JSON object.")] = False,
) -> None:
    if version:
        if as_json:
            console.emit("version", {"version": __version__})
        else:
            console.show(f"compress {__version__}")
        raise typer.Exit
    if context.invoked_subcommand is None:
        if as_json:
            raise CompressError("no command is given", hint="`compress --help` lists the commands")
        with contextlib.redirect_stdout(sys.stderr):
            context.get_help()
        raise typer.Exit(int(Exit.USAGE))
    if as_json:
        raise CompressError(
            "--json stands before the command", hint=f"write compress {context.invoked_subcommand} ... --json"
        )


# --- reading flags, printing ----------------------------------------------------------------------------


def _print_plan(request: Any, as_json: bool) -> None:
    from compress import pipeline
    from compress import tables as show
    from compress.pipeline.training import load_data, shapes

    resolved = pipeline.resolve(request)
    planned = pipeline.plan_training(resolved, *shapes(resolved, load_data(resolved, needed=False)))
    summary = planned.summary(resolved)
    if not console.is_first_process():
        return
    if as_json:
        values = {"dry_run": True, **summary, "out": str(resolved.out), "settings": resolved.settings()}
        console.emit("train", values)
        return
    console.show(*show.plan(summary))


def _print_estimate(found: Any, as_json: bool) -> None:
    from compress import tables as show

    if not found.is_first:
        return
    if as_json:
        console.emit("train", found.to_json())
        return
    console.show(*show.estimate(found))


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
            command=_command(),
        )
    if as_json:
        console.emit("bench", {"explanations": [entry.model_dump(mode="json") for entry in found]})
        return
    console.show(*(table(entry) for entry in found))


def _alone(context: typer.Context, flag: str, others: tuple[str, ...]) -> None:
    """Refuse options that say nothing beside a flag."""
    for name in others:
        source = context.get_parameter_source(name)
        if source is not None and source.name == "COMMANDLINE":
            raise CompressError(
                f"{flag} has no --{name.replace('_', '-')}", hint="leave it out", code="bad-option"
            )


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
            asked=None if widths is None else _numbers(widths),
            budget_s=budget,
            choices=choices,
            out=out,
            progress=progress,
            tell=console.note,
            command=_command(),
        )
    if as_json:
        console.emit("bench", {"staircase": found.to_json()})
        return
    console.show(table(found))
    console.note(f"{found.path}\n{found.figure}")


def _size(text: str | None) -> tuple[int, int, int] | None:
    if text is None:
        return None
    parts = text.replace("x", ",").split(",")
    if len(parts) != 3 or not all(part.strip().isdecimal() and int(part) for part in parts):
        raise CompressError(
            f"the input size {text!r} is not understood",
            hint="channels, height and width, such as 3,32,32",
            code="input-size",
        )
    c, h, w = (int(part) for part in parts)
    return c, h, w


def _numbers(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError as error:
        raise CompressError(
            f"{text!r} is not a list of numbers", hint="such as 1,8,32", code="bad-option"
        ) from error


def _floats(flag: str, text: str | None) -> tuple[float, ...] | None:
    if text is None:
        return None
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError as error:
        raise CompressError(
            f"{flag} {text!r} is not a list of numbers", hint="such as 0.485,0.456,0.406", code="bad-option"
        ) from error


def _pairs(items: list[str]) -> dict[str, Any]:
    out: dict[str, Any] = {}
    for item in items:
        key, equals, value = item.partition("=")
        if not equals or not key:
            raise CompressError(
                f"--set {item!r} is not understood",
                hint="write KEY=VALUE, such as min_lr=0.001",
                code="bad-setting",
            )
        try:
            out[key.replace("-", "_")] = json.loads(value)
        except json.JSONDecodeError:
            out[key.replace("-", "_")] = value
    return out


def _rates(items: list[str]) -> dict[str, list[float]]:
    out: dict[str, list[float]] = {}
    for item in items:
        name, _, rates = item.partition("=")
        try:
            out[name] = [float(rate) for rate in rates.split(",")]
        except ValueError as error:
            raise CompressError(
                f"--drop {item!r} is not understood",
                hint="write LAYER=RATE, such as 'layer1.*=0.5'",
                code="bad-drop",
            ) from error
    return out


def _plain(result: Any) -> dict[str, Any]:
    """A result dataclass as JSON types, without what only the program needs."""
    from dataclasses import asdict

    values = {key: v.model_dump() if hasattr(v, "model_dump") else v for key, v in asdict(result).items()}
    values.pop("is_first", None)
    return values


def _command() -> list[str]:
    return ["compress", *sys.argv[1:]]


# --- entry ----------------------------------------------------------------------------------------------


def _invoke(arguments: list[str]) -> int:
    if "_COMPRESS_COMPLETE" in os.environ:  # a shell asks for completions
        app(arguments, prog_name="compress")
    if arguments[:2] == ["bench", "diff"]:  # a run folder of that name is ./diff
        arguments = ["bench diff", *arguments[2:]]
    command = typer.main.get_command(app)
    try:
        with command.make_context("compress", arguments) as context:
            command.invoke(context)
    except typer.Exit as error:
        return error.exit_code
    return int(Exit.OK)


def run(arguments: list[str]) -> int:
    """Do what the arguments say, print the outcome, and return the exit code."""
    return console.guarded(_invoke, arguments)


def main() -> None:
    """Entry point of the console script."""
    console.prepare(sys.argv[1:])
    sys.exit(run(sys.argv[1:]))


if __name__ == "__main__":
    main()
