"""Reproduction of a recipe: training in pieces, comparison with the published row, stored results."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks import reproduce as command
from benchmarks.budget import Budget, BudgetUsed
from benchmarks.reproduction import Overrides, Unfinished, form_of
from benchmarks.reproduction_results import against, is_data_of, merge, summarize
from compress import recipes
from compress.core.errors import CompressError
from compress.core.spec import DataInfo, Preprocess
from compress.training import NoProgress

TINY = """
method = "{method}"
model = "vgg_small"
data = "digits"
input_size = [1, 8, 8]
target = "macs=0.3"
[train]
epochs = {epochs}
batch_size = 64
lr = 0.02
warmup_epochs = 1.0
ema = 0.9
device = "cpu"
tensorboard = false
[published]
macs = 100000
top1 = 1.0
"""


def tiny(folder: Path, method: str, epochs: int) -> str:
    path = folder / f"tiny-{method}.toml"
    text = TINY.format(method=method, epochs=epochs)
    path.write_text(text.replace("lr = 0.02\n", "") if method == "kdfs" else text)
    return str(path)


def train(folder: Path, name: str, budget: float | None, overrides: Overrides | None = None) -> Any:
    result = command.reproduce(
        [name],
        [0],
        overrides or Overrides(),
        out=folder,
        budget_minutes=budget,
        results=folder / "results",
        measured=folder / "results" / "measured.json",
        progress=NoProgress(),
    )
    return result[-1]


def weights(folder: Path, name: str) -> str:
    path = folder / f"{Path(name).stem}-seed0" / "run" / "compact" / "weights.safetensors"
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize(("method", "epochs", "pieces"), [("dcff", 2, 2), ("kdfs", 3, 3)])
def test_training_in_pieces_ends_as_the_whole_one(
    tmp_path: Path, method: str, epochs: int, pieces: int
) -> None:
    name = tiny(tmp_path, method, epochs)
    results = [train(tmp_path / "pieces", name, 0) for _ in range(pieces)]
    assert all(isinstance(one, Unfinished) for one in results[:-1])
    whole = train(tmp_path / "whole", name, None)
    assert (results[-1]["top1"], results[-1]["epochs"]) == (whole["top1"], epochs)
    assert weights(tmp_path / "pieces", name) == weights(tmp_path / "whole", name)
    assert (results[-1]["pieces"], whole["pieces"]) == (pieces, 1)
    assert results[-1]["minutes"] > 0 and whole["form"] == "whole" and whole["against"]["reaches"]
    kept = json.loads((tmp_path / "whole" / "results" / "reproduce.json").read_text())["entries"]
    assert kept == [whole] and whole["machine"]["cores"] and whole["versions"]["torch"]
    assert train(tmp_path / "whole", name, 0) == whole  # is not trained again


def test_other_number_of_epochs_is_labelled_and_not_compared(tmp_path: Path) -> None:
    name = tiny(tmp_path, "scratch", 3)
    result = train(tmp_path, name, None, Overrides(settings={"epochs": 2, "device": "cpu"}))
    assert result["form"] == "short" and result["epochs"] == 2
    assert result["against"] == {"row": "tiny-scratch", "why": "not compared: short"}
    assert result["settings"] == {"epochs": 2, "device": "cpu"}
    assert recipes.load_measured(tmp_path / "results" / "measured.json") == {}


class Clock:
    """A clock that is set by the test."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def epochs_until_stop(seconds: float, lasting: float, epochs: int) -> int:
    """Overrides many epochs of `lasting` seconds are run within a budget."""
    clock = Clock()
    budget = Budget(NoProgress(), seconds, clock=clock)
    budget.start(epochs, 1, 0)
    try:
        for epoch in range(1, epochs + 1):
            clock.now += lasting
            budget.epoch({"epoch": epoch})
    except BudgetUsed as used:
        return used.finished
    return epochs


def test_an_epoch_starts_only_if_it_fits_into_the_budget() -> None:
    assert epochs_until_stop(100, 30, 10) == 3
    assert epochs_until_stop(10, 30, 10) == 1
    assert epochs_until_stop(1000, 30, 10) == 10


def test_a_second_training_does_not_start_when_the_budget_is_used() -> None:
    clock = Clock()
    budget = Budget(NoProgress(), 50, clock=clock)
    budget.start(1, 1, 0)
    clock.now = 30
    budget.epoch({"epoch": 1})  # was the last: no stop
    with pytest.raises(BudgetUsed, match="0 of 5"):
        budget.start(5, 1, 0)


@pytest.mark.parametrize(
    ("name", "form", "reproduction"),
    [("dcff-vgg16-cifar10", "whole", True), ("short-dcff-vgg16", "whole", False),
     ("dcff-mobilenetv2-imagenet-53.3", "whole", False)],
)  # fmt: skip
def test_difference_is_in_points_to_the_published_row(name: str, form: Any, reproduction: bool) -> None:
    recipe = recipes.load(name)
    published = recipes.load(recipe.reference).published if recipe.reference else recipe.published
    assert published is not None and published.top1 is not None
    result = against(recipe, form, published.macs, 1_071_248, published.top1 - 0.5, published.top1 + 0.1)
    assert result["top1_points"] == pytest.approx(-0.5) and result["best_points"] == pytest.approx(0.1)
    assert (result["reaches"], result["best_reaches"]) == (False, True)
    assert result["macs_percent"] == 0 and result["reproduction"] is reproduction


def test_exact_costs_are_compared_to_the_digit() -> None:
    recipe = recipes.load("dcff-vgg16-cifar10")
    assert against(recipe, "whole", 72_349_240, 1_071_248, 93.0, 93.0)["exact_costs"] is True
    assert against(recipe, "whole", 72_349_241, 1_071_248, 93.0, 93.0)["exact_costs"] is False


@pytest.mark.parametrize("name", ["short-abp-resnet56", "short-abp-vgg16"])
def test_no_number_is_called_a_reproduction_of_abp(name: str) -> None:
    assert against(recipes.load(name), "whole", 1, 1, 99.0, 99.0) == {
        "row": None,
        "why": "no row is published for it",
    }


def info(name: str, mean: tuple[float, ...], train: int = 50_000) -> DataInfo:
    return DataInfo(
        name=name, classes=tuple("0123456789"), train_size=train, test_size=10_000, fingerprint="",
        preprocess=Preprocess(input_size=(3, 32, 32), mean=mean, std=mean), augmentation="",
    )  # fmt: skip


def test_cifar10_is_recognized_by_its_images() -> None:
    recipe = recipes.load("dcff-vgg16-cifar10")
    own = (0.4914, 0.4822, 0.4465)
    assert is_data_of(recipe, info("npz:x.npz", own), True)
    assert not is_data_of(recipe, info("npz:x.npz", (0.5, 0.5, 0.5)), True)
    assert not is_data_of(recipe, info("npz:x.npz", own, train=40_000), True)
    assert is_data_of(recipe, info("npz:x.npz", (0.485, 0.456, 0.406)), False)


def entry(seed: int, top1: float, form: str = "whole", recipe: str = "dcff-vgg16-cifar10") -> dict[str, Any]:
    machine = {"gpus": ["a GPU"], "cpu": "a CPU"}
    return {
        "recipe": recipe, "seed": seed, "form": form, "top1": top1, "best_top1": top1 + 0.1, "epochs": 300,
        "minutes": 10.0 + seed, "macs": 1, "params": 2, "machine": machine, "date": f"2026-11-2{seed}",
    }  # fmt: skip


def test_entry_replaces_the_one_of_the_same_recipe_seed_and_form(tmp_path: Path) -> None:
    measured = tmp_path / "measured.json"
    for one in (entry(0, 93.0), entry(1, 94.0), entry(0, 20.0, "short"), entry(0, 93.4)):
        merge(one, tmp_path, measured)
    kept = json.loads((tmp_path / "reproduce.json").read_text())["entries"]
    assert [(one["seed"], one["form"], one["top1"]) for one in kept] == [
        (0, "short", 20.0),
        (0, "whole", 93.4),
        (1, "whole", 94.0),
    ]
    ours = recipes.load_measured(measured)["dcff-vgg16-cifar10"]
    assert ours.top1 == pytest.approx(93.7) and ours.spread == pytest.approx(0.4243, abs=1e-3)
    assert (ours.seeds, ours.machine, ours.minutes) == ((0, 1), "a GPU", 10.5)


def test_measured_numbers_of_the_package_match_the_results() -> None:
    path = command.RESULTS / "reproduce.json"
    entries = json.loads(path.read_text())["entries"] if path.is_file() else []
    assert recipes.load_measured() == summarize(entries)


def test_patterns_and_names_select_each_recipe_once() -> None:
    assert command.select_recipes("short-l1-vgg16,short-*-vgg16")[0] == "short-l1-vgg16"
    assert len(command.select_recipes("short-*")) == 14 == len(set(command.select_recipes("short-*,short-*")))
    with pytest.raises(CompressError, match="nothing-"):
        command.select_recipes("nothing-*")


def test_budget_is_refused_for_several_processes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(CompressError, match="one process"):
        train(tmp_path, "dcff-vgg16-cifar10", 1.0)


def test_unknown_recipe_is_a_usage_error_at_the_command_line(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert command.main(["--recipe", "dcff-vgg19", "--out", str(tmp_path), "--results", str(tmp_path)]) == 2
    assert "dcff-vgg19" in capfd.readouterr().err


def test_command_line_trains_prints_and_writes(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    name = tiny(tmp_path, "scratch", 2)
    words = ["--recipe", name, "--out", str(tmp_path / "runs"), "--results", str(tmp_path), "--seeds", "3"]
    assert command.main([*words, "--budget-minutes", "0"]) == 0
    captured = capfd.readouterr()
    assert "not finished, run again" in captured.err and "1 of 2 epochs" in captured.err and not captured.out
    assert command.main(words) == 0
    assert "tiny-scratch" in capfd.readouterr().out
    (kept,) = json.loads((tmp_path / "reproduce.json").read_text())["entries"]
    assert (kept["seed"], kept["form"]) == (3, "whole") and "--seeds 3" in kept["command"]


@pytest.mark.parametrize(
    ("name", "overrides", "form"),
    [
        ("dcff-vgg16-cifar10", Overrides(), "whole"),
        (
            "dcff-vgg16-cifar10",
            Overrides(settings={"precision": "bf16", "device": "cuda", "epochs": 300}),
            "whole",
        ),
        ("dcff-vgg16-cifar10", Overrides(settings={"epochs": 2}), "short"),
        ("dcff-vgg16-cifar10", Overrides(settings={"lr": 0.2}), "changed"),
        ("kdfs-resnet56-cifar10-59.2", Overrides(teacher="runs/dense"), "whole"),
        ("kdfs-resnet56-cifar10-59.2", Overrides(weights="resnet56.th"), "whole"),
        ("kdfs-resnet56-cifar10-59.2", Overrides(), "changed"),
        ("short-l1-vgg16", Overrides(), "whole"),
        ("short-l1-vgg16", Overrides(weights="vgg16.th"), "changed"),
    ],
)
def test_settings_of_the_machine_do_not_change_the_form_of_a_recipe(
    name: str, overrides: Overrides, form: str
) -> None:
    assert form_of(recipes.load(name), overrides, info("cifar10", (0.5, 0.5, 0.5))) == form
