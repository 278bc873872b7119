"""`compress list`, the group `bench`, and suggestions for mistyped names."""

from __future__ import annotations

import pytest
from cli_calls import Here

from compress import methods, models
from compress.bench.backends.registry import BACKENDS
from compress.core.names import KINDS, registered_names
from compress.data.registry import DATASETS
from compress.export.formats import FORMATS
from compress.planning.criteria import CRITERIA


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_listed(call: Here, kind: str) -> None:
    names = call("list", kind, "--json").json["names"]
    assert names == sorted(names)
    assert call("list", kind).out.split() == names


def test_the_names_of_the_sources_are_those_of_the_registries() -> None:
    assert list(registered_names("methods")) == methods.METHODS.names()
    assert list(registered_names("models")) == models.list_models()
    assert list(registered_names("formats")) == FORMATS.names()
    assert list(registered_names("datasets")) == DATASETS.names()
    assert list(registered_names("criteria")) == CRITERIA.names()
    assert list(registered_names("backends")) == BACKENDS.names()


def test_a_pattern_selects_names(call: Here) -> None:
    assert call("list", "models", "vgg*", "--json").json["names"] == ["vgg16", "vgg_small"]
    assert "torchvision/resnet18" in call("list", "models", "torchvision/resnet*").out.split()


def test_an_unknown_kind_is_refused_with_the_known_ones(call: Here) -> None:
    outcome = call("list", "model")
    assert outcome.code == 2
    assert "'model'" in outcome.err and "methods" in outcome.err


def test_a_mistyped_option_is_refused_with_the_nearest(call: Here) -> None:
    outcome = call("train", "--modle", "x")
    assert outcome.err.startswith("error: no such option --modle\nhint: Did you mean --model")


def test_a_mistyped_bench_command_is_refused_with_the_nearest(call: Here) -> None:
    outcome = call("bench", "explian", "run")
    assert (outcome.code, "did you mean `compress bench explain`" in outcome.err) == (2, True)


def test_bench_run_and_bench_are_the_same(call: Here) -> None:
    assert call("bench", "gone", "--json") == call("bench", "run", "gone", "--json")


@pytest.mark.parametrize(
    ("words", "flags"),
    [
        ("explain gone", "gone --explain"),
        ("staircase gone", "gone --staircase all"),
        ("scenario gone --scenario server", "gone --scenario server"),
    ],
)
def test_a_bench_command_and_its_flag_are_the_same(call: Here, words: str, flags: str) -> None:
    outcome = call("bench", *words.split(), "--json")
    assert outcome == call("bench", *flags.split(), "--json")
    assert outcome.json["error"]["code"] == "missing-file"


def test_the_environment_sets_options_of_every_bench_command(
    call: Here, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COMPRESS_BENCH_BACKEND", "nowhere")
    for words in ("run x", "x", "explain x", "staircase x"):
        assert "nowhere" in call("bench", *words.split()).err + call("bench", words.split()[-1]).err
