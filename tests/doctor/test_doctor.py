"""The diagnosis of a machine, also with broken packages."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import onnxruntime
import pytest

import compress
from compress.bench.backends import all_backends
from compress.doctor import Report, examine
from compress.doctor.packages import _missing_requirements, probe
from compress.doctor.record import Check
from compress.doctor.render import render_report
from compress.export.formats import FORMATS

ROOT = Path(compress.__file__).parents[1]


@pytest.fixture(scope="module")
def report() -> Report:
    return examine()


def diagnosed(tmp_path: Path, **broken: str) -> tuple[int, Any]:
    """Exit code and report of the command in a process where packages are broken in these ways."""
    for name, content in broken.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text(content)
    done = subprocess.run(
        [sys.executable, "-m", "compress", "doctor", "--json"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": os.pathsep.join((str(tmp_path), str(ROOT)))},
        text=True,
        capture_output=True,
        timeout=300,
        check=False,
    )
    assert done.stdout.count("\n") == 1, done.stdout + done.stderr
    return done.returncode, json.loads(done.stdout)


def by_name(checks: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {check["name"]: check for check in checks}


def test_the_default_path_works_where_the_tests_run(report: Report) -> None:
    assert report.works
    assert [check.name for check in report.path] == [
        "train",
        "export --format onnx",
        "bench --backend ort-cpu",
    ]


def test_every_format_and_back_end_is_in_the_report(report: Report) -> None:
    assert [check.name for check in report.formats] == list(FORMATS)
    assert [check.name for check in report.backends] == list(all_backends())


def test_every_provider_of_the_build_is_tried(report: Report) -> None:
    assert [check.name for check in report.providers] == onnxruntime.get_available_providers()
    assert {check.name for check in report.providers if check.works} >= {"CPUExecutionProvider"}


def test_a_provider_that_falls_back_does_not_work(report: Report) -> None:
    if report.machine.gpus or "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
        pytest.skip("needs a build with CUDA on a machine without a GPU")
    result = next(check for check in report.providers if check.name == "CUDAExecutionProvider")
    assert (result.works, "silently" in result.detail) == (False, True)
    assert "GPU" in result.fix


def test_each_failed_check_has_a_fix(report: Report) -> None:
    every = (*report.path, *report.packages, *report.providers, *report.formats, *report.backends)
    assert all(bool(check.fix) is not check.works for check in every)


def test_the_machine_is_known(report: Report) -> None:
    machine = report.machine
    assert machine.python == ".".join(map(str, sys.version_info[:3]))
    assert machine.memory_bytes and machine.memory_free_bytes and machine.disk_free_bytes
    assert machine.memory_free_bytes < machine.memory_bytes


def test_a_missing_package_is_fixed_by_installing_it() -> None:
    assert probe("no_such_package_at_all", "no-such") == Check(
        name="no_such_package_at_all", works=False, detail="not installed", fix="pip install no-such"
    )


def test_the_table_names_every_check(report: Report) -> None:
    from rich.console import Console

    console = Console(width=200, no_color=True)
    with console.capture() as captured:
        console.print(*render_report(report))
    text = captured.get()
    for check in (*report.path, *report.packages, *report.formats, *report.backends):
        assert check.name in text


def test_a_broken_torch_is_reported_and_the_exit_code_is_3(tmp_path: Path) -> None:
    code, result = diagnosed(tmp_path, torch="raise ImportError('libtorch.so: no such file')")
    assert (code, result["works"]) == (3, False)
    torch = by_name(result["packages"])["torch"]
    assert torch["said"] == "cannot be imported: ImportError: libtorch.so: no such file"
    assert torch["mend"] == "pip install --force-reinstall torch"
    assert not any(check["works"] for check in result["path"])
    assert by_name(result["providers"])["CPUExecutionProvider"]["works"]


def test_broken_optional_packages_do_not_break_the_default_path(tmp_path: Path) -> None:
    code, result = diagnosed(
        tmp_path,
        tensorrt="raise OSError('libnvinfer.so.10: cannot open')",
        openvino="import sys\nprint('noise')\nsys.exit(4)",
        pynvml="raise ImportError('libnvidia-ml.so')",
    )
    assert (code, result["works"]) == (0, True)
    packages = by_name(result["packages"])
    assert "libnvinfer.so.10" in packages["tensorrt"]["said"]
    assert packages["openvino"]["said"] == "cannot be imported: SystemExit: 4"
    assert "libnvidia-ml.so" in packages["pynvml"]["said"]
    assert result["machine"]["driver"] is None


def test_a_broken_export_package_breaks_only_that_step(tmp_path: Path) -> None:
    code, result = diagnosed(tmp_path, onnxscript="raise RuntimeError('old')")
    steps = by_name(result["path"])
    assert code == 3
    assert steps["train"]["works"] and not steps["export --format onnx"]["works"]
    assert steps["export --format onnx"]["mend"] == "pip install --force-reinstall onnxscript"
    assert not by_name(result["formats"])["onnx"]["works"]


def test_a_package_that_crashes_the_interpreter_is_named(tmp_path: Path) -> None:
    code, result = diagnosed(tmp_path, torchvision="import os, signal\nos.kill(os.getpid(), signal.SIGKILL)")
    assert (code, result["works"]) == (3, False)
    crashed = by_name(result["packages"])["torchvision"]
    assert crashed["said"] == "crashes the interpreter (signal 9)"
    assert crashed["mend"] == "pip install --force-reinstall torchvision"


def test_requirements_of_torch_are_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    requirements = ["no-such-package>=1", "numpy", "other ; extra == 'x'"]
    monkeypatch.setattr("importlib.metadata.requires", lambda name: requirements)
    assert _missing_requirements("torch") == ["no-such-package"]


def test_torchvision_is_probed_without_importing_the_compiler_of_torch() -> None:
    code = (
        "from compress.doctor.packages import probe\nimport sys\n"
        "print(probe('torchvision', 'torchvision').works, 'torch._dynamo' in sys.modules)\n"
        "from torchvision.ops import roi_align\nimport torch\n"
        "print(roi_align(torch.ones(1, 1, 4, 4), [torch.tensor([[0., 0., 2., 2.]])], 1).shape)"
    )
    done = subprocess.run([sys.executable, "-c", code], text=True, capture_output=True, check=True)
    assert done.stdout.splitlines() == ["True False", "torch.Size([1, 1, 1, 1])"]
