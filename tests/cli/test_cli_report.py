"""`compress report`: output, missing parts and exit codes."""

from __future__ import annotations

from pathlib import Path

from cli_calls import Here


def test_report_writes_the_page_and_prints_where_it_is(call: Here, run: Path) -> None:
    result = call("report", run)
    assert result.code == 0, result.err
    assert result.out.splitlines() == [str(run / "bench" / name) for name in ("report.html", "report.md")]
    assert (run / "bench" / "report.html").is_file()


def test_report_lists_missing_parts_and_their_commands_on_stderr(call: Here, run: Path) -> None:
    errors = call("report", run, "--out", run / "r.html").err
    assert f"run: no file has been exported; `compress export {run}`" in errors
    assert f"run: no benchmark has been run; `compress bench {run}`" in errors


def test_report_as_json_is_the_facts(call: Here, run: Path) -> None:
    facts = call("report", run, "--json").json["facts"]
    assert facts["kind"] == "compress-report"
    assert [row["label"] for row in facts["runs"][0]["lineage"]] == ["dense", "compact"]
    assert len(facts["runs"][0]["metrics"]) == 3


def test_report_of_a_folder_without_a_run_exits_with_3(call: Here, tmp_path: Path) -> None:
    result = call("report", tmp_path)
    assert result.code == 3
    assert "no run record" in result.err
    assert list(tmp_path.iterdir()) == []


def test_report_to_a_file_without_html_suffix_exits_with_2(call: Here, run: Path) -> None:
    result = call("report", run, "--out", "report.pdf", "--json")
    assert (result.code, result.json["error"]["code"]) == (2, "bad-option")
