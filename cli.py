"""The command line: parses, calls, prints. Everything it does is a plain function of the packages."""

from __future__ import annotations

import json
import logging
import sys
import warnings
from pathlib import Path
from typing import Annotated, Any

import typer

from compress import __version__
from compress.errors import CompressError, Exit
from compress.spec import SCHEMA_VERSION

app = typer.Typer(
    name="compress",
    help="Train a CNN narrow, cut it exactly, export it, and measure what that is worth.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"auto_envvar_prefix": "COMPRESS", "help_option_names": ["-h", "--help"]},
)

Json = Annotated[bool, typer.Option("--json", help="Print exactly one JSON object on stdout.")]
Model = Annotated[str | None, typer.Option(help="Network: resnet56, torchvision/NAME, timm/NAME, FILE.py:FACTORY.")]
Data = Annotated[str | None, typer.Option(help="Images: digits, cifar10, cifar100, npz:FILE, folder:DIR, hf:NAME.")]
Size = Annotated[str | None, typer.Option(help="Channels, height and width of an image, such as 3,32,32.")]
Classes = Annotated[int | None, typer.Option(min=1, help="Number of classes; default: the data's.")]
Weights = Annotated[str | None, typer.Option(help="Weights of the dense network (safetensors, or torch without pickle).")]
Align = Annotated[str, typer.Option(help="Widths are multiples of: auto, none, or a number.")]
Run = Annotated[Path, typer.Argument(help="A run folder.")]


# --- commands -------------------------------------------------------------------------------------------


@app.command()
def train(
    method: Annotated[str | None, typer.Option(help="dcff, kdfs, abp, l1, random, scratch or dense.")] = None,
    model: Model = None,
    data: Data = None,
    target: Annotated[str | None, typer.Option(help="macs=F or params=F: a fraction of the dense network, or a number.")] = None,
    recipe: Annotated[str | None, typer.Option(help="A recipe's name or TOML file; `compress recipes` lists them.")] = None,
    drop: Annotated[list[str] | None, typer.Option(help="LAYER=RATE[,RATE...]: fraction dropped, instead of a target.")] = None,
    epochs: Annotated[int | None, typer.Option(help="Passes over the training images.")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Images a step, over all processes.")] = None,
    lr: Annotated[float | None, typer.Option(help="Learning rate after the warm-up.")] = None,
    optimizer: Annotated[str | None, typer.Option(help="sgd, adamw or adamax.")] = None,
    momentum: Annotated[float | None, typer.Option(help="Momentum of SGD.")] = None,
    weight_decay: Annotated[float | None, typer.Option(help="Weight decay.")] = None,
    schedule: Annotated[str | None, typer.Option(help="cosine, step or constant.")] = None,
    warmup_epochs: Annotated[float | None, typer.Option(help="Epochs in which the learning rate rises.")] = None,
    label_smoothing: Annotated[float | None, typer.Option(help="Label smoothing.")] = None,
    clip_grad: Annotated[float | None, typer.Option(help="Largest norm of the gradients.")] = None,
    ema: Annotated[float | None, typer.Option(help="Decay of a moving average of the weights, such as 0.999.")] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of everything random.")] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu, cuda or mps.")] = None,
    precision: Annotated[str | None, typer.Option(help="fp32, bf16 or fp16 (mixed).")] = None,
    setting: Annotated[list[str] | None, typer.Option("--set", help="KEY=VALUE: any other setting of training or method.")] = None,
    num_classes: Classes = None,
    input_size: Size = None,
    weights: Weights = None,
    teacher: Annotated[str | None, typer.Option(help="kdfs: run folder or weights of a trained dense network.")] = None,
    residual: Annotated[str | None, typer.Option(help="kdfs: how residual streams are cut: tied, keep or scatter.")] = None,
    align: Align = "auto",
    workers: Annotated[int, typer.Option(min=0, help="Processes that decode images.")] = 2,
    out: Annotated[Path | None, typer.Option(help="The run folder; default: runs/METHOD-MODEL-DATA.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in --out.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the plan; train nothing.")] = False,
    as_json: Json = False,
) -> None:
    """Train a network narrow and leave it in a run folder."""
    from compress import pipeline, training

    flags = {"epochs": epochs, "batch_size": batch_size, "lr": lr, "optimizer": optimizer, "momentum": momentum,
             "weight_decay": weight_decay, "schedule": schedule, "warmup_epochs": warmup_epochs,
             "label_smoothing": label_smoothing, "clip_grad": clip_grad, "ema": ema, "seed": seed,
             "device": device, "precision": precision}
    more = _pairs(setting or []) | ({"residual": residual} if residual is not None else {})
    known = set(training.TrainConfig.model_fields)
    request = pipeline.TrainRequest(
        method=method, model=model, data=data, recipe=recipe, target=target, drop=_rates(drop or []),
        num_classes=num_classes, input_size=_size(input_size), weights=weights, teacher=teacher, align=align,
        settings={**{k: v for k, v in flags.items() if v is not None}, **{k: v for k, v in more.items() if k in known}},
        options={k: v for k, v in more.items() if k not in known},
        out=out, resume=resume, workers=workers,
    )
    if dry_run:
        _print_plan(request, as_json)
        return
    result = pipeline.train(request, progress=training.progress_for(), command=_command(), say=_note)
    if not result.is_first:
        return
    if as_json:
        _emit({"command": "train", **_plain(result)})
        return
    from rich.table import Table

    table = Table(title=f"{result.method}: {result.run}", title_justify="left")
    for column in ("", "MACs", "parameters"):
        table.add_column(column, justify="left" if not column else "right")
    for name, costs in (("dense", result.dense), ("compact", result.compact)):
        table.add_row(name, f"{costs.macs:,}", f"{costs.params:,}")
    _console().print(table)
    typer.echo(f"top-1 {result.top1:.2%} after {result.epochs} epochs (best {result.best_top1:.2%} in epoch "
               f"{result.best_epoch})")
    gate = result.verify.get("compact_vs_trained")
    if gate:
        typer.echo(f"compact = trained: largest relative difference {gate['max_rel']:.1e} on {gate['samples']} images")


@app.command("slice")
def slice_(
    model: Annotated[str, typer.Option(help="Network, as for train.")],
    data: Annotated[str, typer.Option(help="Images, as for train: for verifying and accuracy.")],
    target: Annotated[str, typer.Option(help="macs=F or params=F.")],
    out: Annotated[Path, typer.Option(help="The run folder.")],
    weights: Weights = None,
    criterion: Annotated[str, typer.Option(help="l1, l2, bn-scale or random.")] = "l1",
    num_classes: Classes = None,
    input_size: Size = None,
    align: Align = "auto",
    seed: Annotated[int, typer.Option(help="Seed of random.")] = 0,
    as_json: Json = False,
) -> None:
    """Cut a trained network by a criterion, without training."""
    from compress.pipeline import slice_to_run

    result = slice_to_run(model, data, target, out, weights=weights, input_size=_size(input_size),
                          num_classes=num_classes, criterion=criterion, align=align, seed=seed,  # type: ignore[arg-type]
                          command=_command())
    if as_json:
        _emit({"command": "slice", **result})
        return
    for name in ("dense", "compact"):
        typer.echo(f"{name:8} {result[name]['macs']:>15,} MACs {result[name]['params']:>13,} parameters")
    typer.echo(f"top-1 {result['dense_top1']:.2%} before, {result['top1']:.2%} after; {result['run']}")


@app.command("eval")
def eval_(
    what: Annotated[Path, typer.Argument(metavar="RUN|MODEL.onnx", help="A run folder or an ONNX file.")],
    data: Data = None,
    device: Annotated[str, typer.Option(help="Where a run's model is evaluated.")] = "cpu",
    batch_size: Annotated[int, typer.Option(min=1)] = 256,
    confusion: Annotated[bool, typer.Option("--confusion", help="Print the confusion matrix too.")] = False,
    as_json: Json = False,
) -> None:
    """Accuracy of a run's compact model or of an exported file."""
    from bench.evaluate import evaluate_any

    result, name = evaluate_any(what, data, device=device, batch_size=batch_size)
    if as_json:
        row = _plain(result)
        if not confusion:
            row.pop("confusion")
        _emit({"command": "eval", "data": name, **row})
        return
    typer.echo(f"top-1 {result.top1:.2%}  top-5 {result.top5:.2%}  loss {result.loss:.4f}  on {result.count} images of {name}")
    if confusion and result.confusion:
        for label, row in enumerate(result.confusion):
            typer.echo(f"{label:>5}: " + " ".join(f"{n:>5}" for n in row) + f"   {row[label] / max(1, sum(row)):.1%}")


@app.command("export")
def export_(
    run: Run,
    format: Annotated[str, typer.Option("--format", help="onnx.")] = "onnx",
    opset: Annotated[int | None, typer.Option(help="ONNX operator set, from 18; default: the exporter's.")] = None,
    batch: Annotated[str, typer.Option(help="dynamic, or a fixed number.")] = "dynamic",
    simplify: Annotated[bool, typer.Option("--simplify", help="Try onnxsim; kept only if smaller and equal.")] = False,
    data: Data = None,
    samples: Annotated[int, typer.Option(min=1, help="Test images that are compared.")] = 256,
    as_json: Json = False,
) -> None:
    """Write a file for a runtime, after proving that it computes the same."""
    from export import export

    if batch != "dynamic" and not batch.isdecimal():
        raise CompressError(f"the batch {batch!r} is not understood", hint="dynamic, or a number such as 1")
    result = export(run, format, opset, "dynamic" if batch == "dynamic" else int(batch), simplify, data, samples)
    record = result.record
    if as_json:
        _emit({"command": "export", "path": str(result.path), **record.model_dump(mode="json")})
        return
    parity = record.parity
    typer.echo(str(result.path))
    _note(f"opset {record.opset}, {record.bytes:,} bytes, sha256 {record.sha256[:16]}...")
    _note(f"parity on {parity.images} images: largest difference {parity.max_abs:.2e}, same class "
          f"{parity.agreement:.2%}, top-1 {parity.top1_reference:.2%} and {parity.top1_exported:.2%}")


@app.command("bench")
def bench_(
    run: Run,
    batch: Annotated[str, typer.Option(help="Batch sizes, such as 1,8.")] = "1",
    threads: Annotated[int | None, typer.Option(min=1, help="Threads; default: physical cores.")] = None,
    pairs: Annotated[int, typer.Option(min=10, help="Pairs of measurements.")] = 30,
    budget: Annotated[float | None, typer.Option(help="Seconds for all comparisons, instead of --pairs.")] = None,
    backend: Annotated[str, typer.Option(help="ort-cpu.")] = "ort-cpu",
    as_json: Json = False,
) -> None:
    """Measure a run's compact network against its dense one, in pairs."""
    from bench import bench, table

    sizes = _numbers(batch)
    result = bench(run, batches=sizes, threads=threads, pairs=pairs, budget_s=budget, backend=backend,
                   progress=lambda what, done: _note(f"{done:4.0%} {what}"), command=_command())
    if as_json:
        _emit({"command": "bench", "result": result.model_dump(mode="json")})
        return
    _console().print(table(result))


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="Folder for the two runs.")] = Path("runs/demo"),
    as_json: Json = False,
) -> None:
    """The whole way on built-in data: train, export, measure. About two minutes on two cores."""
    from bench.demo import demo
    from bench.table import summary_row
    from compress.training import progress_for

    result = demo(out, progress=progress_for(), say=lambda line: _note(f"\n$ {line}"))
    row = summary_row(result.result)
    if as_json:
        _emit({"command": "demo", "rows": list(result.rows), "speedup": row.speedup, "interval": [row.low, row.high],
               "mac_reduction": row.mac_reduction, "efficiency": row.efficiency, "verdict": str(row.verdict)})
        return
    from rich.table import Table

    table = Table(title="digits, small VGG, ONNX Runtime on this CPU", title_justify="left")
    for column in ("", "MACs", "parameters", "top-1", "size", "latency"):
        table.add_column(column, justify="right" if column else "left")
    for r in result.rows:
        table.add_row(r["network"], f"{r['macs']:,}", f"{r['params']:,}", f"{r['top1']:.2%}",
                      f"{r['bytes'] / 1e3:,.0f} kB", f"{r['latency_ms']:.3f} ms")
    _console().print(table)
    typer.echo(f"speed-up {row.speedup:.2f}x (95%: {row.low:.2f} to {row.high:.2f}), {row.verdict}; MACs "
               f"{row.mac_reduction:.2f}x fewer; speed-up efficiency {row.efficiency:.2f}")


@app.command("compare")
def compare_(
    methods: Annotated[str, typer.Option(help="Names with commas between, such as dcff,kdfs,abp,l1,random,scratch.")],
    model: Annotated[str, typer.Option(help="Network, as for train.")],
    data: Annotated[str, typer.Option(help="Images, as for train.")],
    target: Annotated[str, typer.Option(help="macs=F or params=F.")],
    epochs: Annotated[int, typer.Option(min=1, help="Epochs of every method, those of a dense network included.")],
    seeds: Annotated[int, typer.Option(min=1, help="Number of seeds.")] = 3,
    out: Annotated[Path, typer.Option(help="Folder of the runs; a comparison in it goes on.")] = Path("runs/compare"),
    batch_size: Annotated[int | None, typer.Option(help="Images a step.")] = None,
    lr: Annotated[float | None, typer.Option(help="Learning rate (kdfs has its own, kdfs.rate).")] = None,
    setting: Annotated[list[str] | None, typer.Option("--set", help="KEY=VALUE of every training, or METHOD.KEY=VALUE.")] = None,
    input_size: Size = None,
    weights: Weights = None,
    align: Align = "auto",
    latency: Annotated[bool, typer.Option("--latency/--no-latency", help="Measure the first seed's networks.")] = True,
    as_json: Json = False,
) -> None:
    """Methods side by side: same network, data, target and epochs, several seeds."""
    from bench.compare import compare
    from compress.training import progress_for

    settings: dict[str, Any] = {k: v for k, v in (("batch_size", batch_size), ("lr", lr)) if v is not None}
    options: dict[str, dict[str, Any]] = {}
    for key, value in _pairs(setting or []).items():
        method, dot, name = key.partition(".")
        if dot:
            options.setdefault(method, {})[name] = value
        else:
            settings[key] = value
    result = compare(methods.split(","), model, data, target, epochs=epochs, seeds=seeds, out=out, settings=settings,
                     options=options, input_size=_size(input_size), weights=weights, align=align, latency=latency,
                     progress=progress_for(), say=_note)
    if as_json:
        _emit({"command": "compare", **result.model_dump(mode="json")})
        return
    from rich.table import Table

    table = Table(title=f"{model} on {data}, {target}, {epochs} epochs, {seeds} seeds (dense: {result.dense_macs:,} MACs)",
                  title_justify="left")
    for column in ("method", "top-1", "spread", "MACs", "parameters", "epochs", "seconds", "latency", "speed-up"):
        table.add_column(column, justify="left" if column == "method" else "right")
    for r in result.rows:
        own = f"{r.dense_epochs} dense + {r.epochs}" if r.dense_epochs else str(r.epochs)
        t = r.latency
        table.add_row(r.method, f"{r.top1_mean:.2%}", f"± {r.top1_spread:.2%}", f"{r.macs:,.0f}", f"{r.params:,.0f}",
                      own, f"{r.seconds:.0f}", f"{t.compact_ms:.3f} ms" if t else "",
                      f"{t.speedup:.2f}x ({t.low:.2f} to {t.high:.2f})" if t else "")
    _console().print(table)
    for name, by in result.beaten_by.items():
        typer.echo(f"{name} is not better than {' and '.join(by)} here")


@app.command()
def recipes(as_json: Json = False) -> None:
    """List the recipes: settings of the papers, with their numbers."""
    from compress import recipes as book

    every = [book.load(name) for name in book.names()]
    if as_json:
        _emit({"command": "recipes", "recipes": [r.model_dump(mode="json", exclude_none=True) for r in every]})
        return
    from rich.table import Table

    table = Table(title="published numbers (the papers count with thop, norms included)", title_justify="left")
    for column in ("recipe", "model", "data", "MACs", "parameters", "top-1"):
        table.add_column(column, justify="left" if column in ("recipe", "model", "data") else "right",
                         no_wrap=column == "recipe")
    for r in every:
        p = r.published
        table.add_row(r.name, r.model or "", r.data or "", f"{p.macs / 1e6:,.1f}M" if p else "",
                      f"{p.params / 1e6:.2f}M" if p else "", f"{p.top1:.2f}" if p and p.top1 else "")
    _console().print(table)


@app.callback(invoke_without_command=True)
def _options(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks and warnings.")] = False,
) -> None:
    if version:
        typer.echo(f"compress {__version__}")
        raise typer.Exit


# --- reading flags, printing ----------------------------------------------------------------------------


def _print_plan(request: Any, as_json: bool) -> None:
    from compress import pipeline
    from compress.pipeline.train import load_data, shapes

    resolved = pipeline.resolve(request)
    planned = pipeline.plan_training(resolved, *shapes(resolved, load_data(resolved, needed=False)))
    summary = planned.summary(resolved)
    if as_json:
        _emit({"command": "train", "dry_run": True, **summary})
        return
    typer.echo(f"{summary['model']}: {summary['dense']['macs']:,} MACs, {summary['dense']['params']:,} parameters")
    typer.echo(f"narrow: {summary['macs']:,} MACs, {summary['params']:,} parameters, "
               f"{summary['mac_reduction']:.2f}x fewer MACs, widths in multiples of {summary['align']}")
    if "published" in summary:
        p = summary["published"]
        typer.echo(f"published: {p['macs']:,} MACs, {p['params']:,} parameters (counted with thop, norms included)")
    for name, (kept, dense) in summary["widths"].items():
        typer.echo(f"  {name:40} {kept:>5} of {dense}")


def _size(text: str | None) -> tuple[int, int, int] | None:
    if text is None:
        return None
    parts = text.replace("x", ",").split(",")
    if len(parts) != 3 or not all(p.strip().isdecimal() and int(p) for p in parts):
        raise CompressError(f"the input size {text!r} is not understood",
                            hint="channels, height and width, such as 3,32,32", code="input-size")
    c, h, w = (int(p) for p in parts)
    return c, h, w


def _numbers(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError as error:
        raise CompressError(f"{text!r} is not a list of numbers", hint="such as 1,8,32") from error


def _pairs(items: list[str]) -> dict[str, Any]:
    out: dict[str, Any] = {}
    for item in items:
        key, equals, value = item.partition("=")
        if not equals or not key:
            raise CompressError(f"--set {item!r} is not understood", hint="write KEY=VALUE, such as min_lr=0.001")
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
            out[name] = [float(r) for r in rates.split(",")]
        except ValueError as error:
            raise CompressError(f"--drop {item!r} is not understood",
                                hint="write LAYER=RATE, such as 'layer1.*=0.5'") from error
    return out


def _plain(result: Any) -> dict[str, Any]:
    """A result dataclass as JSON types."""
    from dataclasses import asdict

    return {k: v.model_dump() if hasattr(v, "model_dump") else v for k, v in asdict(result).items()}


def _emit(value: dict[str, Any]) -> None:
    typer.echo(json.dumps({"schema_version": SCHEMA_VERSION, **value}))


def _note(text: str) -> None:
    typer.echo(text, err=True)


def _console() -> Any:
    from rich.console import Console

    return Console()


def _command() -> list[str]:
    return ["compress", *sys.argv[1:]]


# --- errors ---------------------------------------------------------------------------------------------


def _fail(message: str, hint: str, code: str, exit_code: int, details: dict[str, Any]) -> int:
    if "--json" in sys.argv:
        error = {"code": code, "message": message, "hint": hint, "details": details}
        _emit({"error": error})
    else:
        typer.echo(f"error: {message}", err=True)
        if hint:
            typer.echo(f"hint: {hint}", err=True)
    return exit_code


def _run() -> int:
    try:
        code = app(standalone_mode=False)
    except CompressError as error:
        return _fail(error.message, error.hint, error.code, int(error.exit), error.details)
    except typer.TyperException as error:
        return _fail(error.format_message(), "compress --help", "usage", int(Exit.USAGE), {})
    except (KeyboardInterrupt, typer.Abort):
        return _fail("interrupted", "", "interrupted", int(Exit.INTERRUPTED), {})
    except BrokenPipeError:
        return int(Exit.INTERNAL)
    except Exception as error:
        if "--debug" in sys.argv:
            raise
        return _fail(f"{type(error).__name__}: {error}", "this is a bug; --debug shows the traceback", "internal",
                     int(Exit.INTERNAL), {})
    return code if isinstance(code, int) else 0


def main() -> None:
    """Entry point of the console script."""
    debug = "--debug" in sys.argv
    if debug:  # allowed anywhere on the line
        sys.argv = [sys.argv[0], "--debug", *(a for a in sys.argv[1:] if a != "--debug")]
    else:
        warnings.simplefilter("ignore")
        logging.disable(logging.WARNING)
    sys.exit(_run())


if __name__ == "__main__":
    main()
