"""Commands that export a run and verify an export folder."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from compress.core import console
from compress.core.command_line import CommandApp
from compress.core.errors import CompressError, Exit
from compress.core.garbage_collection import garbage_collection_paused
from compress.core.options import (
    DataOption,
    FilePrecisionsOption,
    JsonOption,
    RunArgument,
    deployment_option,
    name_option,
    option,
)

if TYPE_CHECKING:
    from compress.export.result import ExportResult

EXPORT_EXAMPLES = """\b
Examples:
  compress export runs/a
  compress export runs/a --batch 8 --opset 20 --simplify
  compress export runs/a --format onnx,openvino --precision fp32,int8
  compress export runs/a --format trt-rtx --precision fp16 --batch 1:8:32 --target-sm 86,89
  compress export runs/a --script runs/a/export/infer.py --sign key.pem
  compress export runs/a --triton models"""


VERIFY_EXAMPLES = """\b
Examples:
  compress verify --new-key key.pem
  compress export runs/a --sign key.pem
  compress verify runs/a/export --public-key key.pub.pem

The exit code is 5 if a file differs from the manifest or is not in it."""


app = CommandApp()


@app.command("export", epilog=EXPORT_EXAMPLES, rich_help_panel="Deploy")
def export_(
    run: RunArgument,
    format: Annotated[str, name_option("formats", "File formats, separated by commas: {formats}.")] = "onnx",
    precision: FilePrecisionsOption = "fp32",
    opset: Annotated[
        int | None, option(help="ONNX operator set, at least 18; default: the exporter's.")
    ] = None,
    batch: Annotated[str, option(help="Batch size: dynamic, a fixed number, or MIN:OPT:MAX.")] = "dynamic",
    simplify: Annotated[
        bool,
        option("--simplify", help="Run onnxsim; the result is kept if smaller and equal."),
    ] = False,
    sign: Annotated[
        Path | None, deployment_option(help="Sign the manifest with this Ed25519 private key (PEM).")
    ] = None,
    script: Annotated[
        Path | None, deployment_option(help="Write an inference script to this file; it does not need torch.")
    ] = None,
    triton: Annotated[
        Path | None, deployment_option(help="Add the file to this Triton model repository.")
    ] = None,
    data: DataOption = None,
    samples: Annotated[int, option(min=1, help="Number of test images in the parity check.")] = 256,
    calib_images: Annotated[int, option(help="int8: number of training images for calibration.")] = 256,
    quantize_ends: Annotated[
        bool, option("--quantize-ends", help="int8: also quantize the first and the last layer.")
    ] = False,
    target_sm: Annotated[
        str | None,
        option(help="trt-rtx: compile for these compute capabilities, such as 86,89."),
    ] = None,
    timing_cache: Annotated[
        Path | None, option(metavar="FILE", help="trt: file that keeps kernel timings for the next build.")
    ] = None,
    workspace: Annotated[
        int | None, option(metavar="MIB", help="trt, trt-rtx: scratch memory of a layer.")
    ] = None,
    hardware_compat: Annotated[
        bool, option("--hardware-compat", help="trt: engine also runs on other GPUs, Ampere or newer.")
    ] = False,
    version_compat: Annotated[
        bool, option("--version-compat", help="trt: engine also runs with later versions of TensorRT.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Export a run to a file for a runtime, and check that it computes the same."""
    with garbage_collection_paused():
        from compress.export import export
        from compress.export.deploy.extras import prepare_extras
    from compress.export.options import parse_batch, parse_targets

    formats, precisions = _split_names(format), _split_names(precision)
    count = len(formats) * len(precisions)
    extras = prepare_extras(
        run, formats, sign=sign, script=script, triton_repository=triton, file_count=count
    )
    results = export(
        run,
        formats,
        cast(Any, precisions),  # `export` checks the names
        opset=opset,
        batch=parse_batch(batch),
        simplify=simplify,
        data=data,
        samples=samples,
        target_sm=parse_targets(target_sm),
        timing_cache=timing_cache,
        workspace_mb=workspace,
        hardware_compat=hardware_compat,
        version_compat=version_compat,
        calib_images=calib_images,
        quantize_ends=quantize_ends,
        on_result=None if as_json else _print_result,
    )
    written = extras.write(results).to_json()
    if as_json:
        files = [_to_json(result) for result in results]
        console.print_json("export", {**(files[0] if count == 1 else {"exports": files}), **written})
        return
    for name, path in written.items():
        console.print_message(f"{name}: {path}")


def _split_names(text: str) -> list[str]:
    """Return the different names of a comma-separated list."""
    return list(dict.fromkeys(name.strip() for name in text.split(",")))


def _to_json(result: ExportResult) -> dict[str, Any]:
    return {"path": str(result.path), **result.record.model_dump(mode="json")}


def _print_result(result: ExportResult) -> None:
    from compress.export.parity.report import parity_lines

    record = result.record
    console.print_result(str(result.path))
    console.print_message(f"opset {record.opset}, {result.bytes:,} bytes, sha256 {record.sha256[:16]}...")
    for line in parity_lines(record):
        console.print_message(line)


@app.command(epilog=VERIFY_EXAMPLES, rich_help_panel="Deploy")
def verify(
    folder: Annotated[
        Path | None, typer.Argument(metavar="DIR", help="Export folder.", show_default=False)
    ] = None,
    public_key: Annotated[
        Path | None, option(help="Ed25519 public key (PEM) that must have signed the manifest.")
    ] = None,
    new_key: Annotated[
        Path | None, option(help="Create a key pair in this file instead of verifying.", show_default=False)
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Verify that the files of an export folder are the ones in its manifest."""
    from compress.export.trust import signing
    from compress.export.trust.verify import render_verification, verify_folder

    if new_key is not None:
        public = signing.new_key(new_key)
        if as_json:
            console.print_json("verify", {"private_key": str(new_key), "public_key": str(public)})
            return
        console.print_result(str(public))
        console.print_message(
            f"keep {new_key} secret, it signs; give {public} to those who load the files, it verifies"
        )
        return
    if folder is None:
        raise CompressError("no folder is given", hint="such as `compress verify runs/a/export`")
    verification = verify_folder(folder, public_key)
    if as_json:
        values = verification.model_dump(mode="json")
        console.print_json("verify", {"passed": verification.passed, **values})
    else:
        console.print_result(render_verification(verification))
        console.print_message(verification.summary)
    if not verification.passed:
        raise typer.Exit(int(Exit.PARITY))
