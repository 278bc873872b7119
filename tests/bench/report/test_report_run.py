"""The report of a run that was really trained, exported and measured, and of runs that are not so far."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import pytest
from browser import look, needs_browser, printed
from PIL import Image

from compress import artifact
from compress.bench import bench
from compress.bench.report import Report, report
from compress.core.errors import CompressError
from compress.export import export
from compress.pipeline import TrainRequest, run_training

HOSTILE = "<img src=x onerror=console.error(1)> & $x_{^"
"""Name of a run folder that is markup in HTML, in Markdown and in the labels of a figure."""

FACTORY = """
from torch import nn

def tiny(num_classes=10, in_channels=1):
    return nn.Sequential(
        nn.Conv2d(in_channels, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU(),
        nn.Conv2d(8, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU(),
        nn.AvgPool2d(2), nn.Flatten(), nn.Linear(256, num_classes),
    )
"""


@pytest.fixture(scope="module")
def untouched(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two epochs, exported and measured."""
    folder = tmp_path_factory.mktemp("reported")
    (folder / "net.py").write_text(FACTORY)
    request = TrainRequest(
        model=f"{folder / 'net.py'}:tiny",
        data="digits",
        target="macs=0.49",
        input_size=(1, 8, 8),
        settings={"epochs": 2, "batch_size": 64, "lr": 0.05, "device": "cpu", "tensorboard": False},
        out=folder / "run",
    )
    run_training(request, command=["compress", "train", "--out", "run"])
    export(folder / "run", samples=64)
    bench(folder / "run", pairs=10, sessions=2, threads=1, command=["compress", "bench", "run"])
    return folder / "run"


@pytest.fixture
def run(untouched: Path, tmp_path: Path) -> Path:
    """A copy that a test may change."""
    return Path(shutil.copytree(untouched, tmp_path / "run"))


@pytest.fixture(scope="module")
def written(untouched: Path, tmp_path_factory: pytest.TempPathFactory) -> Report:
    """Its report."""
    return report(untouched, out=tmp_path_factory.mktemp("report") / "report.html")


def page(result: Report) -> str:
    return result.html.read_text(encoding="utf-8")


class Elements(HTMLParser):
    """The tags of a page, with their attributes."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def links(self) -> Iterator[str]:
        for _, attributes in self.found:
            yield from (
                attributes[name] or "" for name in ("src", "href", "xlink:href") if name in attributes
            )


# --- the facts ------------------------------------------------------------------------------------------


def test_the_lineage_goes_from_the_dense_network_to_the_exported_file(written: Report) -> None:
    rows = written.facts.runs[0].lineage
    assert [(row.stage, row.label) for row in rows] == [
        ("dense", "dense"), ("narrow", "compact"), ("exported", "model.onnx"),
    ]  # fmt: skip


def test_the_lineage_has_the_costs_and_the_accuracy_that_the_run_recorded(
    written: Report, untouched: Path
) -> None:
    info = artifact.compact_info(untouched)
    dense, compact, exported = written.facts.runs[0].lineage
    assert (dense.macs, dense.params, dense.top1) == (info.dense.macs, info.dense.params, None)
    assert (compact.macs, compact.params) == (info.compact.macs, info.compact.params)
    assert compact.top1 == info.extra["top1"]
    assert exported.bytes == (untouched / "export" / "model.onnx").stat().st_size


def test_each_artefact_has_the_times_that_were_measured_of_it(written: Report, untouched: Path) -> None:
    entry = json.loads((untouched / "bench" / "results.json").read_text())["comparisons"][0]["batches"][0]
    dense, compact, _ = written.facts.runs[0].lineage
    assert [m.times.p50_ms for m in dense.measured] == [entry["baseline"]["p50_ms"]]
    assert dense.measured[0].speedup is None
    assert [m.times.p50_ms for m in compact.measured] == [entry["candidate"]["p50_ms"]]
    assert compact.measured[0].speedup is not None
    assert compact.measured[0].speedup.ratio == entry["speedup"]["ratio"]
    assert (compact.measured[0].against, compact.measured[0].efficiency) == ("dense", entry["efficiency"])


def test_an_exported_file_that_was_measured_as_the_compact_network_has_its_times(written: Report) -> None:
    _, compact, exported = written.facts.runs[0].lineage
    assert exported.measured == compact.measured


def test_a_run_that_was_moved_keeps_its_measurements(written: Report, run: Path, tmp_path: Path) -> None:
    result = report(run.rename(tmp_path / "moved"), out=tmp_path / "r.html")
    assert [row.measured for row in result.facts.runs[0].lineage] == [
        row.measured for row in written.facts.runs[0].lineage
    ]


def test_a_benchmark_of_several_runs_is_shown_for_each_of_them(
    untouched: Path, run: Path, tmp_path: Path
) -> None:
    other = run.rename(tmp_path / "other")
    path = other / "bench" / "results.json"
    result = json.loads(path.read_text())
    [alone] = result["comparisons"]
    named = {
        side: alone[side] | {"artefact": "run", "label": f"run {alone[side]['label']}"}
        for side in ("baseline", "candidate")
    }
    own = {
        side: alone[side] | {"artefact": "other", "label": f"other {alone[side]['label']}"}
        for side in ("baseline", "candidate")
    }
    several = {"artefacts": ["other", "run"], "comparisons": [alone | own, alone | named]}
    path.write_text(json.dumps(result | several))
    without = Path(shutil.copytree(untouched, tmp_path / "run"))
    shutil.rmtree(without / "bench")
    first, second = report(other, without, out=tmp_path / "r.html").facts.runs
    for actual in (first, second):
        compact = actual.lineage[1]
        assert [entry.against for entry in compact.measured] == ["dense"]
    assert second.lacks("bench") is None


def test_the_layers_add_up_to_the_costs_of_both_networks(written: Report, untouched: Path) -> None:
    info, result = artifact.compact_info(untouched), written.facts.runs[0]
    assert sum(layer.macs for layer in result.layers) == info.dense.macs
    assert sum(layer.narrow_macs for layer in result.layers) == info.compact.macs
    assert result.layers_complete


def test_the_widths_of_the_layers_are_those_of_the_compact_weights(written: Report, untouched: Path) -> None:
    state = artifact.load(untouched).state_dict()
    for layer in written.facts.runs[0].layers:
        assert layer.narrow_width == state[f"{layer.name}.weight"].shape[0]


def test_the_parity_chain_ends_at_the_exported_file(written: Report) -> None:
    steps = written.facts.runs[0].parity
    assert [step.compared for step in steps] == [
        "sliced = masked dense", "compact = trained", "model.onnx = compact",
    ]  # fmt: skip
    assert all(step.passed for step in steps)


def test_a_finished_run_lacks_only_the_staircase(written: Report) -> None:
    assert [entry.part for entry in written.facts.runs[0].missing] == ["staircase"]


def test_a_file_changed_after_its_export_is_reported(run: Path, tmp_path: Path) -> None:
    with (run / "export" / "model.onnx").open("ab") as file:
        file.write(b"x")
    result = report(run, out=tmp_path / "r.html")
    assert result.facts.runs[0].exports[0].fault is not None
    assert "The exported file model.onnx has" in page(result)


def test_times_older_than_the_compact_network_give_a_warning(run: Path, tmp_path: Path) -> None:
    path = run / "bench" / "results.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"created": "2001-01-01T00:00:00+00:00"}))
    result = report(run, out=tmp_path / "r.html")
    assert "measured before the current compact network was written" in page(result)


# --- what is missing ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("folder", "part", "command"), [("bench", "bench", "bench"), ("export", "export", "export")]
)
def test_a_missing_part_is_listed_with_the_command_that_creates_it(
    run: Path, tmp_path: Path, folder: str, part: str, command: str
) -> None:
    shutil.rmtree(run / folder)
    result = report(run, out=tmp_path / "r.html")
    entry = result.facts.runs[0].lacks(part)
    assert entry is not None
    assert entry.command == f"compress {command} {run}"
    assert f"<code>{entry.command}</code>" in page(result)
    assert entry.command in result.markdown.read_text(encoding="utf-8")


def test_an_unfinished_run_is_reported_with_the_command_that_resumes_it(run: Path, tmp_path: Path) -> None:
    for name in ("compact", "export", "bench"):
        shutil.rmtree(run / name)
    result = report(run, out=tmp_path / "r.html")
    entry = result.facts.runs[0].lacks("compact")
    assert entry is not None
    assert entry.command == "compress train --out run --resume"
    assert "Loss and accuracy over the epochs" in page(result)


def test_results_of_another_version_are_reported_and_are_not_an_error(run: Path, tmp_path: Path) -> None:
    path = run / "bench" / "results.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"schema_version": 0}))
    entry = report(run, out=tmp_path / "r.html").facts.runs[0].lacks("bench")
    assert entry is not None
    assert "schema version 0" in entry.why


def test_a_network_whose_code_is_gone_costs_only_the_layers(run: Path, tmp_path: Path) -> None:
    path = run / "compact" / "model.json"
    path.write_text(path.read_text().replace("net.py:tiny", "gone.py:tiny"))
    result = report(run, out=tmp_path / "r.html").facts.runs[0]
    assert result.layers == ()
    assert [entry.part for entry in result.missing] == ["layers", "staircase"]


# --- refusals and files ---------------------------------------------------------------------------------


def test_the_report_and_its_markdown_are_written_to_the_first_run(run: Path) -> None:
    result = report(run)
    assert (result.html, result.markdown) == (run / "bench" / "report.html", run / "bench" / "report.md")
    assert result.html.is_file()
    assert result.markdown.is_file()


@pytest.mark.parametrize("name", ["report.pdf", "report", "."])
def test_an_output_that_is_not_html_is_refused(untouched: Path, name: str) -> None:
    with pytest.raises(CompressError, match="cannot be written to"):
        report(untouched, out=name)


def test_a_run_given_twice_is_refused(untouched: Path) -> None:
    with pytest.raises(CompressError, match="given twice"):
        report(untouched, untouched.parent / "." / untouched.name)


# --- the page -------------------------------------------------------------------------------------------


def test_the_page_loads_nothing_from_outside(written: Report) -> None:
    elements = Elements(page(written))
    assert all(link.startswith(("#", "data:")) for link in elements.links())
    assert not {"script", "iframe", "object"} & {tag for tag, _ in elements.found}
    assert "@import" not in page(written)
    assert all(link.startswith("#") for link in re.findall(r"url\(([^)]*)\)", page(written)))


def test_no_two_elements_of_a_page_of_two_runs_have_the_same_id(
    untouched: Path, run: Path, tmp_path: Path
) -> None:
    result = report(untouched, run.rename(tmp_path / "other"), out=tmp_path / "r.html")
    ids = [attributes["id"] for _, attributes in Elements(page(result)).found if "id" in attributes]
    assert len(ids) > 20
    assert len(ids) == len(set(ids))


def test_names_of_runs_and_classes_are_text_and_never_markup(run: Path, tmp_path: Path) -> None:
    path = run / "run.json"
    record = json.loads(path.read_text())
    record["data"]["classes"][0] = "<script>alert(1)</script>"
    path.write_text(json.dumps(record))
    hostile = Path(shutil.copytree(run, tmp_path / HOSTILE))
    result = report(hostile, run, out=tmp_path / "r.html")
    assert not {"img", "script"} & {tag for tag, _ in Elements(page(result)).found}
    assert "&lt;script&gt;alert(1)" in page(result)
    outside_code = re.sub(r"`[^`]*`", "", result.markdown.read_text(encoding="utf-8"))
    assert re.search(r"(?<!\\)<(img|script)", outside_code) is None


# --- in a browser ---------------------------------------------------------------------------------------


@needs_browser
@pytest.mark.parametrize("width", [390, 1200])
def test_a_browser_shows_the_page_without_an_error_and_no_wider_than_its_window(
    written: Report, tmp_path: Path, width: int
) -> None:
    seen = look(written.html, tmp_path, width)
    assert seen.console == ()
    assert seen.width <= width
    assert seen.smallest > 9
    with Image.open(seen.picture) as picture:
        assert picture.size == (width, 900)
        assert len(picture.convert("RGB").getcolors(maxcolors=1 << 24) or ()) > 50


@needs_browser
def test_a_browser_runs_nothing_that_stands_in_a_name(run: Path, tmp_path: Path) -> None:
    hostile = run.rename(tmp_path / HOSTILE)
    seen = look(report(hostile, out=tmp_path / "r.html").html, tmp_path, 390)
    assert seen.console == ()
    assert seen.width <= 390


@needs_browser
def test_a_browser_prints_the_page(written: Report, tmp_path: Path) -> None:
    content = printed(written.html, tmp_path)
    assert content.startswith(b"%PDF-")
    assert 1 <= len(re.findall(rb"/Type\s*/Page\b", content)) <= 8
