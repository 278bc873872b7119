"""`--profile`: the parts of a step add up to it, and the trace is valid."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import training_job

from compress.training.probe import REST, StepClock

PARTS = ["data", "forward", "loss of the method", "backward", "optimizer", "metrics", REST]


def test_profile_of_a_training_is_a_trace_and_a_table_whose_parts_are_the_step(tmp_path: Path) -> None:
    result = training_job.train(tmp_path / "run", epochs=3, profile=True)
    actual = result.profile
    assert actual is not None
    assert json.loads((tmp_path / "run" / "profile" / "table.json").read_text()) == actual
    assert [part["name"] for part in actual["parts"]] == PARTS
    assert sum(part["ms"] for part in actual["parts"]) == pytest.approx(actual["step_ms"])
    assert sum(part["share"] for part in actual["parts"]) == pytest.approx(1)
    assert any("convolution" in operator["name"] for operator in actual["operators"])
    trace = json.loads((tmp_path / "run" / "profile" / "trace.json").read_text())
    named = [e["name"] for e in trace["traceEvents"] if e.get("name", "").startswith("step: ")]
    assert named.count("step: backward") >= actual["traced_steps"]
    assert set(PARTS) <= {name.removeprefix("step: ") for name in named}


def test_profile_does_not_change_the_training(tmp_path: Path) -> None:
    with_it, without = (
        training_job.train(tmp_path / str(flag), epochs=1, profile=flag).model.state_dict()
        for flag in (True, False)
    )
    assert all(torch.equal(with_it[name], without[name]) for name in without)


def test_a_training_of_one_step_can_be_profiled(tmp_path: Path) -> None:
    result = training_job.train(tmp_path / "run", epochs=1, batch_size=1437, profile=True)
    assert result.profile is not None and result.profile["steps"] == 1


def test_parts_of_a_step_add_up_and_a_step_that_did_not_end_does_not_count() -> None:
    clock = StepClock(torch.device("cpu"))
    clock.begin(1)
    for name in ("a", "b", "a"):
        clock.part(name)
    clock.end()
    clock.begin(2)
    (parts,) = clock.parts_ms()
    assert list(parts) == ["a", "b", REST]
    assert all(ms >= 0 for ms in parts.values())


def test_the_tracer_prints_no_warning_about_a_missing_gpu(tmp_path: Path) -> None:
    code = (
        "import sys, torch; from pathlib import Path; from compress.training.profiling import StepProfiler\n"
        "steps = StepProfiler(Path(sys.argv[1]), torch.device('cpu'), 1, 1)\n"
        "steps.begin(1); steps.part('forward'); torch.ones(3).sum(); steps.end(); assert steps.result"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert (tmp_path / "trace.json").is_file()
