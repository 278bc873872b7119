"""The run folder: created once, one writer, never incomplete."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from run_records import record

from compress.artifact import RunFolder, this_machine, versions
from compress.core.errors import CompressError, Exit
from compress.core.spec import ModelSpec

ROOT = Path(__file__).resolve().parents[2]


def test_a_written_record_is_read_back(tmp_path: Path) -> None:
    written = record()
    with RunFolder.create(tmp_path / "run", written):
        pass
    read = RunFolder.open(tmp_path / "run").record
    assert read.model_dump(mode="json") == written.model_dump(mode="json")
    assert read.machine == this_machine() and read.versions == versions()


def test_a_folder_with_a_run_is_refused_with_both_options(tmp_path: Path) -> None:
    RunFolder.create(tmp_path / "run", record()).close()
    with pytest.raises(CompressError, match="already contains a run") as error:
        RunFolder.create(tmp_path / "run", record())
    assert "--resume" in error.value.hint and "--out" in error.value.hint


def test_a_folder_with_other_content_is_refused_and_unchanged(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("x")
    with pytest.raises(CompressError, match=r"thesis\.tex"):
        RunFolder.create(tmp_path, record())
    assert not (tmp_path / "run.json").exists()


def test_a_file_instead_of_a_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("x")
    with pytest.raises(CompressError, match="is a file"):
        RunFolder.create(tmp_path / "run", record())


def test_resuming_without_a_run_is_refused_and_creates_no_folder(tmp_path: Path) -> None:
    with pytest.raises(CompressError, match="no run to resume") as error:
        RunFolder.create(tmp_path / "run", record(), resume=True)
    assert error.value.exit == Exit.MISSING
    assert not (tmp_path / "run").exists()


def test_resume_keeps_the_first_record(tmp_path: Path) -> None:
    first = record(command=["first"])
    RunFolder.create(tmp_path / "run", first).close()
    with RunFolder.create(tmp_path / "run", record(command=["second"]), resume=True) as run:
        assert run.record.command == ("first",)


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ({"settings": {"lr": 0.2, "milestones": (0.5, 0.75), "device": "cpu"}}, "lr"),
        ({"settings": {"lr": 0.1, "milestones": (0.5,), "device": "cpu"}}, "milestones"),
        ({"settings": {"lr": 0.1, "milestones": (0.5, 0.75), "device": "cpu", "ema": 0.9}}, "ema"),
        ({"target": "macs=0.4"}, "target"),
        ({"method": "scratch"}, "method"),
        ({"seed": 1}, "seed"),
        ({"model": ModelSpec(name="resnet56", num_classes=10, input_size=(3, 32, 32))}, "model.name"),
        ({"data": record().data.model_copy(update={"fingerprint": "0" * 64})}, "data.fingerprint"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_resume_with_another_setting_names_it(change: dict[str, Any], name: str, tmp_path: Path) -> None:
    RunFolder.create(tmp_path / "run", record()).close()
    with pytest.raises(CompressError, match=rf"{name} \(was .* now") as error:
        RunFolder.create(tmp_path / "run", record(**change), resume=True)
    assert error.value.details == {"differing": [name]}


def test_resume_on_another_device_is_allowed(tmp_path: Path) -> None:
    RunFolder.create(tmp_path / "run", record()).close()
    settings = {"lr": 0.1, "milestones": (0.5, 0.75), "device": "cuda"}
    RunFolder.create(tmp_path / "run", record(settings=settings), resume=True).close()


def test_resuming_with_the_same_images_in_another_folder_is_allowed(tmp_path: Path) -> None:
    RunFolder.create(tmp_path / "run", record()).close()
    moved = record().data.model_copy(update={"name": "npz:/elsewhere/x.npz"})
    RunFolder.create(tmp_path / "run", record(data=moved), resume=True).close()
    other = moved.model_copy(update={"fingerprint": "0" * 64})
    with pytest.raises(CompressError, match=r"data\.name \(was 'npz:x\.npz', now 'npz:/elsewhere/x\.npz'\)"):
        RunFolder.create(tmp_path / "run", record(data=other), resume=True)


def test_second_writer_is_refused_with_the_firsts_pid(tmp_path: Path) -> None:
    holder = (
        "import sys; from compress.artifact import RunFolder;"
        "run = RunFolder.open(sys.argv[1], write=True); print('held', flush=True); sys.stdin.read()"
    )
    RunFolder.create(tmp_path / "run", record()).close()
    process = subprocess.Popen(
        [sys.executable, "-c", holder, str(tmp_path / "run")],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None and process.stdout.readline() == "held\n"
    try:
        with pytest.raises(
            CompressError, match=rf"another process.*run'.*\(process {process.pid}\)"
        ) as error:
            RunFolder.create(tmp_path / "run", record(), resume=True)
        assert error.value.code == "locked"
    finally:
        process.kill()
        process.communicate()
    with RunFolder.open(tmp_path / "run", write=True) as run:
        assert run.is_writer


def test_reading_needs_no_lock(tmp_path: Path) -> None:
    with RunFolder.create(tmp_path / "run", record()):
        assert not RunFolder.open(tmp_path / "run").is_writer


def test_the_lock_is_released_after_a_refused_resume(tmp_path: Path) -> None:
    RunFolder.create(tmp_path / "run", record()).close()
    with pytest.raises(CompressError, match="seed"):
        RunFolder.create(tmp_path / "run", record(seed=3), resume=True)
    RunFolder.open(tmp_path / "run", write=True).close()


def test_only_the_first_process_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "1")
    run = RunFolder.create(tmp_path / "run", record())
    assert not run.is_writer and not (tmp_path / "run").exists()


def test_run_of_another_version_is_refused(tmp_path: Path) -> None:
    RunFolder.create(tmp_path, record()).close()
    value = json.loads((tmp_path / "run.json").read_text())
    (tmp_path / "run.json").write_text(json.dumps(value | {"schema_version": 99, "future": True}))
    with pytest.raises(CompressError, match=r"run\.json' has schema version 99") as error:
        RunFolder.open(tmp_path)
    assert error.value.code == "schema-version"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("{", "is damaged"),
        ("[1]", "no JSON object"),
        ('{"kind": "other"}', "not the record of a run"),
        ('{"kind": "compress-run", "schema_version": 1}', "created: Field required"),
    ],
)
def test_damaged_record_is_named(content: str, words: str, tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text(content)
    with pytest.raises(CompressError, match=words) as error:
        RunFolder.open(tmp_path)
    assert error.value.exit == Exit.MISSING and "run.json" in error.value.message


def test_missing_run_is_named(tmp_path: Path) -> None:
    with pytest.raises(CompressError, match=r"no run folder .*nowhere"):
        RunFolder.open(tmp_path / "nowhere")


def test_a_run_prints_as_a_short_summary(tmp_path: Path) -> None:
    with RunFolder.create(tmp_path / "run", record()) as run:
        assert str(run).splitlines()[:3] == [
            f"run {tmp_path / 'run'}",
            "  method   dcff, target macs=0.5, seed 0",
            "  model    resnet20, 10 classes, input 3x32x32",
        ]
        assert "compact  none yet" in str(run)
        run.compact.mkdir()
        content = {"compact": {"macs": 50, "params": 5}, "extra": {"top1": 0.9}}
        (run.compact / "model.json").write_text(json.dumps(content))
        assert "2.00× fewer MACs, top-1 90.00%" in str(run)
        assert repr(run) == f"RunFolder('{tmp_path / 'run'}': dcff, resnet20, npz:x.npz)"
