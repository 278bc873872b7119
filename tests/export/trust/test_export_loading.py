from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
from records import A10, LINUX, machine, rtx, trt

from compress.core.errors import CompressError, Exit
from compress.export.trust import manifest
from compress.export.trust.compatibility import export_command, mismatches
from compress.export.trust.device import DeviceRecord
from compress.export.trust.loading import check_loadable
from compress.export.trust.manifest import FileRecord, Manifest


@pytest.fixture(scope="session")
def record(exported_run: Path) -> FileRecord:
    return manifest.read(exported_run / "export").files[0]


def differing(record: FileRecord, here: DeviceRecord, platform: str = LINUX) -> dict[str, tuple[str, str]]:
    return {result.what: (result.built, result.here) for result in mismatches(record, here, platform)}


def test_an_engine_fits_the_machine_it_was_built_on(record: FileRecord) -> None:
    assert mismatches(trt(record), A10, LINUX) == ()


def test_a_file_that_is_no_engine_fits_anywhere(record: FileRecord) -> None:
    assert mismatches(record, DeviceRecord()) == ()


@pytest.mark.parametrize(
    ("change", "differs"),
    [
        ({"gpu": "NVIDIA RTX A6000"}, {"GPU": ("NVIDIA A10", "NVIDIA RTX A6000")}),
        (
            {"gpu": "NVIDIA L4", "compute_capability": "8.9"},
            {"GPU": ("NVIDIA A10", "NVIDIA L4"), "compute capability": ("8.6", "8.9")},
        ),
        ({"tensorrt": "10.13.2.6"}, {"TensorRT": ("10.13.3.9", "10.13.2.6")}),
        ({"tensorrt": "10.14.1.48"}, {"TensorRT": ("10.13.3.9", "10.14.1.48")}),
        ({"tensorrt": None}, {"TensorRT": ("10.13.3.9", "not installed")}),
        ({"cuda": "12.8"}, {"CUDA": ("13.0", "12.8")}),
        ({"cuda": "13.3"}, {}),
        ({"driver": "590.1"}, {}),
        ({"tensorrt": "10.13.3.9.post1"}, {}),
        (dict.fromkeys(("gpu", "compute_capability", "driver", "cuda")), {"GPU": ("NVIDIA A10", "none")}),
    ],
)
def test_differing_properties_are_listed_with_both_values(
    record: FileRecord, change: dict[str, str | None], differs: dict[str, tuple[str, str]]
) -> None:
    assert differing(trt(record), machine(**change)) == differs


@pytest.mark.parametrize(
    ("platform", "differs"),
    [
        ("Windows-11-10.0.22631-AMD64", {"system": ("Linux x86_64", "Windows x86_64")}),
        ("Linux-5.15.0-tegra-aarch64-with-glibc2.35", {"system": ("Linux x86_64", "Linux aarch64")}),
        ("Linux-6.12.1-x86_64-with-glibc2.41", {}),
    ],
)
def test_an_engine_is_for_its_operating_system(record: FileRecord, platform: str, differs: Any) -> None:
    assert differing(trt(record), A10, platform) == differs
    assert mismatches(rtx(record), machine(tensorrt_rtx="1.7.1.116"), platform) == ()


@pytest.mark.parametrize(
    ("capability", "fits"), [("8.0", True), ("8.9", True), ("12.0", True), ("7.5", False)]
)
def test_hardware_compatibility_is_for_ampere_and_later(
    record: FileRecord, capability: str, fits: bool
) -> None:
    here = machine(gpu="another", compute_capability=capability)
    assert (differing(trt(record, hardware_compat=True), here) == {}) is fits
    assert "GPU" in differing(trt(record), here)


@pytest.mark.parametrize(
    ("version", "fits"),
    [
        ("10.13.3.9", True),
        ("10.14.0.1", True),
        ("11.2.0.1", True),
        ("10.12.0.36", False),
        ("12.0.0.1", False),
    ],
)
def test_version_compatibility_is_for_later_versions(record: FileRecord, version: str, fits: bool) -> None:
    here = machine(tensorrt=version)
    assert (differing(trt(record, version_compat=True), here) == {}) is fits
    assert (differing(trt(record), here) == {}) is (version == "10.13.3.9")


@pytest.mark.parametrize(
    ("targets", "capability", "fits"),
    [
        ((86, 89), "8.9", True),
        ((86, 89), "8.0", False),
        ((86, 89), "12.0", False),
        ((75,), "7.5", True),
        (None, "7.5", False),
        (None, "8.6", True),
        (None, "9.0", False),
        (None, "12.1", True),
    ],
)
def test_an_rtx_engine_is_for_its_targets(
    record: FileRecord, targets: tuple[int, ...] | None, capability: str, fits: bool
) -> None:
    here = machine(gpu="a GPU", compute_capability=capability, tensorrt_rtx="1.7.1.116")
    assert (differing(rtx(record, targets), here) == {}) is fits


def test_an_rtx_engine_is_for_its_release_only(record: FileRecord) -> None:
    here = machine(tensorrt_rtx="1.8.0.1")
    assert differing(rtx(record), here) == {"TensorRT-RTX": ("1.7.1.116", "1.8.0.1")}


def test_an_engine_whose_manifest_names_no_gpu_fits_nowhere(record: FileRecord) -> None:
    unknown = trt(record).model_copy(update={"device": None})
    assert differing(unknown, A10) == {
        "GPU": ("not recorded", "NVIDIA A10"),
        "compute capability": ("not recorded", "8.6"),
    }


def test_the_export_command_repeats_the_options_of_the_file(record: FileRecord) -> None:
    built = trt(
        record.model_copy(update={"precision": "int8"}),
        profile={"min": 1, "opt": 8, "max": 32},
        workspace_mb=512,
        hardware_compat=True,
    )
    assert export_command(built, "runs/a b") == (
        "compress export 'runs/a b' --format trt --precision int8 --batch 1:8:32 --workspace 512 "
        "--hardware-compat"
    )


def test_the_export_command_adds_the_missing_target(record: FileRecord) -> None:
    here = machine(compute_capability="12.0")
    assert export_command(rtx(record, (86, 89)), "r", here).endswith("--target-sm 86,89,120")
    assert "--target-sm" not in export_command(rtx(record), "r", here)


@pytest.fixture
def engine(exported: Path) -> Path:
    """An engine that TensorRT-RTX builds here from the exported file, with its record in the manifest."""
    trt_rtx = pytest.importorskip("tensorrt_rtx")
    path = exported / "model.fp32.rtx.engine"
    path.write_bytes(_built(trt_rtx, exported / "model.onnx"))
    listed = manifest.read(exported)
    part = manifest.companion_record(path)
    record = rtx(listed.files[0], (86, 89)).model_copy(update=part.model_dump())
    details = {"build": {**record.details["build"], "runtime_version": trt_rtx.__version__}}
    manifest.write(exported, listed.with_file(record.model_copy(update={"details": details})))
    return path


def _built(trt_rtx: Any, source: Path) -> bytes:
    builder = trt_rtx.Builder(trt_rtx.Logger(trt_rtx.Logger.ERROR))
    network = builder.create_network(1 << int(trt_rtx.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    assert trt_rtx.OnnxParser(network, trt_rtx.Logger(trt_rtx.Logger.ERROR)).parse_from_file(str(source))
    config = builder.create_builder_config()
    profile = builder.create_optimization_profile()
    profile.set_shape("input", (1, 1, 8, 8), (4, 1, 8, 8), (8, 1, 8, 8))
    config.add_optimization_profile(profile)
    config.num_compute_capabilities = 2
    for i, target in enumerate(("SM86", "SM89")):
        config.set_compute_capability(getattr(trt_rtx.ComputeCapability, target), i)
    return bytes(builder.build_serialized_network(network, config))


def fitting(engine: Path) -> DeviceRecord:
    """A machine the engine is for."""
    record = manifest.read(engine.parent).entry(engine.name)
    assert record is not None
    return machine(compute_capability="8.9", tensorrt_rtx=record.details["build"]["runtime_version"])


def test_an_engine_built_here_is_opened_where_it_fits(engine: Path) -> None:
    record = check_loadable(engine, here=fitting(engine))
    assert record == manifest.read(engine.parent).entry(engine.name)


def test_an_engine_for_another_gpu_is_refused_with_the_command_that_fixes_it(engine: Path) -> None:
    here = fitting(engine).model_copy(update={"gpu": "NVIDIA RTX 5090", "compute_capability": "12.0"})
    with pytest.raises(CompressError, match=r"compute capability 8\.6, 8\.9 \(here 12\.0\)") as caught:
        check_loadable(engine, here=here)
    assert (caught.value.code, caught.value.exit) == ("other-machine", Exit.MISSING)
    run = engine.parent.parent
    assert f"compress export {run} --format trt-rtx --target-sm 86,89,120" in caught.value.hint
    assert caught.value.details["differs"][0]["here"] == "12.0"


def test_a_gpu_that_rtx_has_no_target_for_is_sent_to_another_format(engine: Path) -> None:
    here = fitting(engine).model_copy(update={"compute_capability": "9.0"})
    with pytest.raises(CompressError) as caught:
        check_loadable(engine, here=here)
    assert "--format trt or --format onnx" in caught.value.hint


def test_a_missing_runtime_is_to_be_installed(engine: Path) -> None:
    with pytest.raises(CompressError, match="not installed") as caught:
        check_loadable(engine, here=fitting(engine).model_copy(update={"tensorrt_rtx": None}))
    assert "pip install tensorrt-rtx" in caught.value.hint


def test_an_engine_away_from_its_run_names_the_run_in_the_command(engine: Path, tmp_path: Path) -> None:
    moved = engine.parent.rename(tmp_path / "moved") / engine.name
    with pytest.raises(CompressError) as caught:
        check_loadable(moved, here=DeviceRecord(tensorrt_rtx="1.7.1.116"))
    assert "compress export tiny-run" in caught.value.hint
    assert "NVIDIA GPU only" in caught.value.hint


@pytest.mark.parametrize("trust", [False, True])
def test_a_tampered_engine_is_never_opened(engine: Path, trust: bool) -> None:
    content = bytearray(engine.read_bytes())
    content[-1] ^= 1
    engine.write_bytes(content)
    with pytest.raises(CompressError, match="sha256") as caught:
        check_loadable(engine, trust=trust, here=fitting(engine))
    assert (caught.value.code, caught.value.exit) == ("tampered-file", Exit.PARITY)


def test_an_engine_without_a_manifest_is_opened_only_on_trust(
    engine: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (engine.parent / "manifest.json").unlink()
    with pytest.raises(CompressError, match="cannot be verified") as caught:
        check_loadable(engine)
    assert "--trust" in caught.value.hint
    with caplog.at_level(logging.WARNING, logger="compress.export.trust.loading"):
        assert check_loadable(engine, trust=True) is None
    assert "unchecked" in caplog.text


def test_an_engine_the_manifest_does_not_know_is_opened_only_on_trust(engine: Path) -> None:
    manifest.write(engine.parent, Manifest())
    with pytest.raises(CompressError, match="does not list it"):
        check_loadable(engine)
    assert check_loadable(engine, trust=True) is None


def test_an_engine_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(CompressError, match="no file"):
        check_loadable(tmp_path / "none.engine", trust=True)
