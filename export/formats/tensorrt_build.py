"""Build engines with `tensorrt` (10.13 and later, 11) or `tensorrt_rtx`, which share one interface.

Networks are strongly typed: every layer computes in the types of the ONNX file. The messages of the parser
    and the
builder are collected and quoted in errors.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from compress.core.errors import CompressError, Exit
from compress.core.files import write_bytes
from compress.export.options import BatchRange, Options, batch_range

MIB = 2**20

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Engine:
    """A serialized engine, and its build settings for the manifest."""

    data: Any
    build: dict[str, Any]


@dataclass
class BuilderLog:
    """Messages of a runtime, errors separate."""

    errors: list[str] = field(default_factory=list)
    others: list[str] = field(default_factory=list)

    def last_error(self, default: str = "no reason was given") -> str:
        """Return the last error in one line, or `default`."""
        return " ".join(self.errors[-1].split()) if self.errors else default


def collecting_logger(module: Any) -> tuple[Any, BuilderLog]:
    """Return a logger object for `module` and the log that it fills; nothing reaches the terminal."""
    log = BuilderLog()

    class Listener(module.ILogger):  # type: ignore[misc]  # a class of a module given at run time
        """Collects messages."""

        def __init__(self) -> None:
            module.ILogger.__init__(self)

        def log(self, severity: Any, message: str) -> None:
            is_error = severity in (module.ILogger.Severity.ERROR, module.ILogger.Severity.INTERNAL_ERROR)
            (log.errors if is_error else log.others).append(message)
            _log.debug("%s: %s", module.__name__, message)

    return Listener(), log


def build_engine(module: Any, path: Path, options: Options, runtime: str) -> Engine:
    """Parse an ONNX file and build an engine for it.

    Args:
        module: `tensorrt` or `tensorrt_rtx`.
        path: an ONNX file with one input.
        options: batch, targets, timing cache and limits.
        runtime: name of the runtime for messages.

    Raises:
        CompressError: ``no-device``, the builder does not start on this machine (exit MISSING);
            ``unsupported``, the parser rejects a node; ``target-sm``; ``workspace``; ``timing-cache``;
            ``build-failed``.
    """
    logger, log = collecting_logger(module)
    try:
        builder = module.Builder(logger)
    except TypeError as error:  # raised by pybind if the factory returned nothing
        raise CompressError(
            f"{runtime} does not start on this machine: {log.last_error(str(error))}",
            hint="building needs an NVIDIA GPU and its driver; --format trt-rtx builds without a GPU",
            code="no-device",
            exit=Exit.MISSING,
        ) from error
    network = builder.create_network(1 << int(module.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = module.OnnxParser(network, logger)
    _parse(parser, path, runtime)
    config = builder.create_builder_config()
    flags = _configure(module, config, options, runtime)
    sizes = batch_range(options.batch)
    _add_profile(builder, config, network, sizes)
    cache = _open_cache(config, options.timing_cache, runtime)
    data = builder.build_serialized_network(network, config)
    if data is None:
        raise _build_error(log, options, runtime)
    if cache is not None and options.timing_cache is not None:
        write_bytes(options.timing_cache, memoryview(config.get_timing_cache().serialize()))
    return Engine(data, _build_record(module, options, flags, sizes))


def _build_record(module: Any, options: Options, flags: list[str], sizes: BatchRange) -> dict[str, Any]:
    return {
        "flags": flags,
        "runtime": module.__name__,
        "runtime_version": module.__version__,
        "target_sm": list(options.target_sm) or None,
        "workspace_mb": options.workspace_mb,
        "timing_cache": None if options.timing_cache is None else options.timing_cache.name,
        "hardware_compat": options.hardware_compat,
        "version_compat": options.version_compat,
        "profile": sizes.to_json(),
    }


def _parse(parser: Any, path: Path, runtime: str) -> None:
    if parser.parse_from_file(str(path)):
        return
    errors = [parser.get_error(i) for i in range(parser.num_errors)]
    reports = [
        {"node": e.node_name(), "operator": e.node_operator(), "code": str(e.code()), "text": e.desc()}
        for e in errors
    ]
    first = reports[0] if reports else {"node": "", "operator": "", "code": "", "text": "no reason given"}
    where = f"node {first['node']!r} ({first['operator']})" if first["operator"] else "the file"
    raise CompressError(
        f"{runtime} cannot parse {where}: {first['code']}: {' '.join(first['text'].split())}",
        hint="replace the operator in the network, try another --opset, or export with --format onnx",
        code="unsupported",
        exit=Exit.BUILD,
        details={"errors": reports},
    )


def _configure(module: Any, config: Any, options: Options, runtime: str) -> list[str]:
    """Set the options in the builder's config; return the names of the flags."""
    flags = ["STRONGLY_TYPED"]
    if options.precision == "fp32":
        config.clear_flag(module.BuilderFlag.TF32)  # TF32 has fewer digits than float32
        flags.append("TF32_OFF")
    if options.workspace_mb is not None:
        config.set_memory_pool_limit(module.MemoryPoolType.WORKSPACE, options.workspace_mb * MIB)
    if options.hardware_compat:
        config.hardware_compatibility_level = module.HardwareCompatibilityLevel.AMPERE_PLUS
        flags.append("AMPERE_PLUS")
    if options.version_compat:
        config.set_flag(module.BuilderFlag.VERSION_COMPATIBLE)
        flags.append("VERSION_COMPATIBLE")
    if options.target_sm:
        _set_targets(module, config, options.target_sm, runtime)
    return flags


def supported_targets(module: Any) -> tuple[int, ...]:
    """Return the compute capabilities, such as 86, that an engine can be compiled for without such a GPU."""
    names = module.ComputeCapability.__members__
    return tuple(sorted(int(name[2:]) for name in names if name.startswith("SM")))


def _set_targets(module: Any, config: Any, targets: tuple[int, ...], runtime: str) -> None:
    known = supported_targets(module)
    unknown = [sm for sm in targets if sm not in known]
    listing = ", ".join(map(str, known))
    if unknown:
        raise CompressError(
            f"{runtime} {module.__version__} does not compile for SM {', '.join(map(str, unknown))}",
            hint=f"give some of {listing}; without --target-sm the engine is compiled when it is loaded",
            code="target-sm",
            details={"unknown": unknown, "known": list(known)},
        )
    config.num_compute_capabilities = len(targets)
    for i, sm in enumerate(targets):
        if not config.set_compute_capability(getattr(module.ComputeCapability, f"SM{sm}"), i):
            raise CompressError(
                f"{runtime} does not accept SM {sm} together with {', '.join(map(str, targets))}",
                hint=f"give only one of {listing}",
                code="target-sm",
            )


def _add_profile(builder: Any, config: Any, network: Any, sizes: BatchRange) -> None:
    """Add an optimization profile with the batch sizes; every other size is fixed."""
    entry = network.get_input(0)
    rest = tuple(entry.shape)[1:]
    profile = builder.create_optimization_profile()
    profile.set_shape(entry.name, (sizes.min, *rest), (sizes.opt, *rest), (sizes.max, *rest))
    config.add_optimization_profile(profile)


def _open_cache(config: Any, path: Path | None, runtime: str) -> Any:
    """Load the measurements of earlier builds from the timing cache, if the file exists."""
    if path is None:
        return None
    cache = config.create_timing_cache(path.read_bytes() if path.is_file() else b"")
    if cache is None or not config.set_timing_cache(cache, False):
        raise CompressError(
            f"the timing cache {str(path)!r} was written by another version of {runtime} or for another GPU",
            hint="give another file for --timing-cache, or remove this one",
            code="timing-cache",
            exit=Exit.BUILD,
        )
    return cache


def _build_error(log: BuilderLog, options: Options, runtime: str) -> CompressError:
    text = log.last_error()
    if options.workspace_mb is not None and "workspace" in " ".join(log.errors).lower():
        return CompressError(
            f"a workspace of {options.workspace_mb} MiB is too small for {runtime}: {text}",
            hint=f"give --workspace {options.workspace_mb * 4}, or leave it out to allow all GPU memory",
            code="workspace",
            exit=Exit.BUILD,
        )
    return CompressError(
        f"{runtime} cannot build the engine: {text}",
        hint="try another --precision or --batch; --debug shows all messages of the builder",
        code="build-failed",
        exit=Exit.BUILD,
        details={"errors": log.errors},
    )
