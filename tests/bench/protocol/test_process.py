"""Back ends in processes of their own: several in one run, errors that arrive, and nobody left behind."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from compress import cli
from compress.bench import BenchResult, bench, read, summary_rows
from compress.bench.backends import RunConfig
from compress.bench.protocol import process
from compress.bench.protocol.child import FORKS
from compress.bench.protocol.worker import ComparisonMeasurements, Job, Side
from compress.core.errors import CompressError, Exit

PRINTING = """
from torch import nn
print("built")

class Net(nn.Module):
    def __init__(self, classes):
        super().__init__()
        self.body = nn.Sequential(nn.Flatten(), nn.Linear(64, classes))

    def forward(self, x):
        print("forward")
        return self.body(x)

def tiny(num_classes=10, in_channels=1):
    return Net(num_classes)
"""


@pytest.fixture(scope="session")
def two(
    untouched_run: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, BenchResult, list[float]]:
    """A run measured on two back ends, and the shares of the progress."""
    path = Path(shutil.copytree(untouched_run, tmp_path_factory.mktemp("two") / "tiny-run"))
    shares: list[float] = []
    result = bench(
        path,
        threads=1,
        pairs=10,
        sessions=2,
        backend="openvino,torch",
        progress=lambda what, done: shares.append(done),
    )
    return path, result, shares


def job(path: Path, *, backend: str = "ort-cpu") -> Job:
    side = Side(label="a", path=path)
    return Job(backend=backend, configs=(RunConfig(1, 1),), comparisons=((side, side),), pairs=10)


def children_of(process_id: int) -> list[psutil.Process]:
    result = psutil.Process(process_id).children(recursive=True)
    return [child for child in result if "child.py" in " ".join(child.cmdline())]


def wait_until_gone(child: psutil.Process) -> None:
    until = time.monotonic() + 60
    while child.is_running() and child.status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < until, child
        time.sleep(0.05)


@pytest.mark.slow
def test_each_back_end_asked_for_is_in_the_result_that_is_written(
    two: tuple[Path, BenchResult, list[float]],
) -> None:
    path, result, _ = two
    assert [comparison.backend for comparison in result.comparisons] == ["openvino", "torch"]
    assert [row.backend for row in summary_rows(result)] == ["openvino", "torch"]
    assert read(path / "bench" / "results.json") == result


def test_each_back_end_says_what_it_times_and_with_what(two: tuple[Path, BenchResult, list[float]]) -> None:
    first, second = two[1].comparisons
    assert "OpenVINO" in first.timed
    assert "PyTorch" in second.timed
    assert first.session["inference_num_threads"] == second.session["threads"] == "1"


def test_modules_are_described_by_the_weights_they_hold(two: tuple[Path, BenchResult, list[float]]) -> None:
    comparison = two[1].comparisons[1]
    assert (comparison.baseline.file, comparison.baseline.sha256) == (None, None)
    assert comparison.candidate.file == "weights.safetensors"


def test_the_progress_grows_from_0_to_1(two: tuple[Path, BenchResult, list[float]]) -> None:
    shares = two[2]
    assert shares == sorted(shares)
    assert (shares[0], shares[-1]) == (0.0, 1.0)
    assert len(shares) > 20


def test_an_error_in_the_process_arrives_as_it_was_raised(tmp_path: Path) -> None:
    path = tmp_path / "bad.onnx"
    path.write_bytes(b"no model")
    with pytest.raises(CompressError, match=r"bad\.onnx") as caught:
        process.run_comparisons(job(path), lambda what, done: None)
    assert (caught.value.code, caught.value.exit) == ("bad-onnx", Exit.MISSING)
    assert "export it again" in caught.value.hint


def test_a_process_that_dies_is_an_error_that_says_how(narrow: Path) -> None:
    def kill(what: str, done: float) -> None:
        for child in children_of(os.getpid()):
            child.kill()

    with pytest.raises(CompressError, match="SIGKILL") as caught:
        process.run_comparisons(job(narrow), kill)
    assert (caught.value.code, caught.value.exit) == ("backend-died", Exit.BUILD)


@pytest.mark.skipif(not FORKS, reason="there one process does one job")
def test_a_fork_that_dies_is_an_error_too(narrow: Path) -> None:
    def kill(what: str, done: float) -> None:
        parent = children_of(os.getpid())[0]
        for fork in children_of(parent.pid):
            fork.kill()

    with pytest.raises(CompressError, match="SIGKILL") as caught:
        process.run_comparisons(job(narrow), kill)
    assert caught.value.code == "backend-died"


def test_each_job_is_measured_in_another_process(narrow: Path) -> None:
    seen: list[set[int]] = []

    def look(what: str, done: float) -> None:
        seen[-1].update(child.pid for child in children_of(os.getpid()))

    with process.WorkerProcesses() as processes:
        for _ in range(2):
            seen.append(set())
            result = processes.run(job(narrow), process.COMPARISON_WORKER, ComparisonMeasurements, look)
            assert len(result[0].batches[0].other.ratios) == 10
    assert seen[0] != seen[1]
    assert len(seen[0] & seen[1]) == (1 if FORKS else 0)  # who only imports, and forks
    assert not children_of(os.getpid())


def test_after_an_error_the_next_job_is_measured(narrow: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.onnx").write_bytes(b"no model")
    with process.WorkerProcesses() as processes:
        with pytest.raises(CompressError, match=r"bad\.onnx"):
            processes.run(
                job(tmp_path / "bad.onnx"),
                process.COMPARISON_WORKER,
                ComparisonMeasurements,
                lambda what, done: None,
            )
        assert processes.run(
            job(narrow), process.COMPARISON_WORKER, ComparisonMeasurements, lambda what, done: None
        )


def test_an_interrupt_of_this_process_ends_that_one(narrow: Path) -> None:
    results: list[psutil.Process] = []

    def interrupt(what: str, done: float) -> None:
        results.extend(children_of(os.getpid()))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        process.run_comparisons(job(narrow), interrupt)
    assert results
    for child in results:
        wait_until_gone(child)


@pytest.mark.skipif(os.name == "nt", reason="signals are otherwise there")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_no_process_is_left_when_the_command_is_ended(run: Path, number: signal.Signals) -> None:
    command = subprocess.Popen(
        [sys.executable, "-m", "compress", "bench", str(run), "--budget", "600", "--threads", "1"],
        cwd=Path(cli.__file__).parent,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    until = time.monotonic() + 120
    while len(children := children_of(command.pid)) < (2 if FORKS else 1):
        assert command.poll() is None, command.communicate()
        assert time.monotonic() < until
        time.sleep(0.05)
    command.send_signal(number)
    _, output = command.communicate(timeout=60)
    for child in children:
        wait_until_gone(child)
    if number is signal.SIGINT:
        assert command.returncode == int(Exit.INTERRUPTED)
        assert "error: interrupted" in output
    assert not (run / "bench" / "results.json").exists()


def test_what_a_network_prints_does_not_disturb_the_measurement(tmp_path: Path) -> None:
    from compress import artifact, data, models
    from compress.artifact import RunFolder
    from compress.core.spec import Costs

    (tmp_path / "loud.py").write_text(PRINTING)
    name = f"{tmp_path / 'loud.py'}:tiny"
    spec, info = models.model_spec(name, 10, (1, 8, 8)), data.load("digits", input_size=(1, 8, 8)).info
    costs = Costs(macs=640, params=650)
    record = artifact.new_record(
        model=spec, data=info, dense=costs, target="macs=1", seed=0, method="scratch", settings={}
    )
    with RunFolder.create(tmp_path / "loud", record) as folder:
        artifact.save_compact(folder, models.build(name, 10, (1, 8, 8)), spec, None, {}, compact=costs)
    config = RunConfig(1, 1)
    side = Side(label="loud", path=tmp_path / "loud")
    loud = Job(backend="torch", configs=(config,), comparisons=((side, side),), pairs=10, budget_s=0.1)
    result = process.run_comparisons(loud, lambda what, done: None)
    assert isinstance(result[0], ComparisonMeasurements)
