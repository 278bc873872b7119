"""The options --sign, --script and --triton of export; the commands verify and doctor."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from cli_calls import Here, content


@pytest.fixture
def key(call: Here, tmp_path: Path) -> Path:
    made = call("verify", "--new-key", "key.pem")
    assert (made.code, made.out) == (0, "key.pub.pem\n")
    return tmp_path / "key.pem"


@pytest.fixture(scope="module")
def exported_once(trained: tuple[Path, object], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The shared run with an export. Not to be changed."""
    from compress.export import export

    path = tmp_path_factory.mktemp("exported") / "run"
    shutil.copytree(trained[0], path)
    export(path, samples=32)
    return path


@pytest.fixture
def exported(exported_once: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(exported_once, tmp_path / "run"))


def test_export_signs_writes_a_script_and_a_repository(call: Here, run: Path, key: Path) -> None:
    script = run / "export" / "infer.py"
    outcome = call("export", run, "--sign", key, "--script", script, "--triton", "models", "--json").json
    assert outcome["signature"] == str(run / "export" / "manifest.json.sig")
    assert outcome["script"] == str(script)
    assert outcome["triton"] == "models/run"
    checked = call("verify", run / "export", "--public-key", "key.pub.pem", "--json")
    assert (checked.code, checked.json["passed"], checked.json["signed"]) == (0, True, True)


def test_openssl_checks_the_signature_too(call: Here, exported: Path, key: Path) -> None:
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("openssl is not installed")
    from compress.export.trust.signing import SigningKey

    SigningKey(key).sign(exported / "export")
    words = ["pkeyutl", "-verify", "-pubin", "-inkey", "key.pub.pem", "-rawin"]
    files = ["-in", exported / "export/manifest.json", "-sigfile", exported / "export/manifest.json.sig"]
    done = subprocess.run([openssl, *words, *files], capture_output=True, check=False)
    assert done.returncode == 0, done.stderr


def test_verify_prints_a_table_and_its_verdict(call: Here, exported: Path) -> None:
    outcome = call("verify", exported)
    assert outcome.code == 0
    assert "model.onnx" in outcome.out and "content" in outcome.out
    assert outcome.err == "every file matches the manifest\n"


def test_verify_exits_5_and_names_changed_files(call: Here, exported: Path) -> None:
    with (exported / "export" / "model.onnx").open("ab") as file:
        file.write(b"x")
    (exported / "export" / "other.engine").write_bytes(b"code")
    before = content(exported)
    outcome = call("verify", exported)
    assert (outcome.code, outcome.err) == (5, "not to be trusted: model.onnx, other.engine\n")
    machine = call("verify", exported, "--json")
    assert (machine.code, machine.json["passed"]) == (5, False)
    faults = [finding["file"] for finding in machine.json["findings"] if finding["status"] == "fault"]
    assert faults == ["model.onnx", "other.engine"]
    assert content(exported) == before


@pytest.mark.parametrize(
    ("words", "exit_code", "code"),
    [
        ("verify", 2, "usage"),
        ("verify none", 3, "no-manifest"),
        ("verify run/compact", 3, "no-manifest"),
        ("verify run --public-key none.pem", 3, "missing-file"),
        ("verify run --public-key key.pem", 2, "wrong-key"),
        ("verify --new-key key.pem", 2, "exists"),
        ("export run --sign key.pub.pem", 2, "wrong-key"),
        ("export run --sign none.pem", 3, "missing-file"),
        ("export run --script run/run.json", 2, "exists"),
        ("export run --triton run/export/models", 2, "triton-place"),
    ],
)
def test_invalid_arguments_are_refused_and_nothing_is_written(
    call: Here, exported: Path, key: Path, tmp_path: Path, words: str, exit_code: int, code: str
) -> None:
    before = content(tmp_path)
    outcome = call(*words.split(), "--json")
    assert (outcome.code, outcome.json["error"]["code"]) == (exit_code, code)
    assert outcome.json["error"]["hint"]
    assert content(tmp_path) == before


def test_doctor_prints_one_json_object_and_exits_0_if_the_path_works(call: Here) -> None:
    outcome = call("doctor", "--json")
    assert (outcome.code, outcome.json["works"]) == (0, True)
    assert {check["name"] for check in outcome.json["formats"]} >= {"onnx"}


def test_doctor_prints_a_table(call: Here) -> None:
    outcome = call("doctor")
    assert outcome.code == 0
    assert "ort-cpu" in outcome.out and "CPUExecutionProvider" in outcome.out
    assert outcome.err == "the default path works: train, export to ONNX, measure on the CPU\n"
