"""Precedence of settings (flag, environment, recipe, default), and the dry run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from cli_calls import NETWORK, Here

RECIPE = """
method = "dcff"
target = "macs=0.5"
[train]
epochs = 30
lr = 0.2
batch_size = 16
momentum = 0.7
[options]
freeze = true
"""


@pytest.fixture
def settings(call: Here, tmp_path: Path) -> Any:
    """Return the settings a dry run with a recipe resolves to."""
    (tmp_path / "mine.toml").write_text(RECIPE)

    def resolve(*words: str) -> dict[str, Any]:
        outcome = call("train", *NETWORK, "--recipe", "mine.toml", *words, "--dry-run", "--json")
        assert outcome.code == 0, outcome.out
        value: dict[str, Any] = outcome.json["settings"]
        return value

    return resolve


def test_flag_over_environment_over_recipe_over_default(
    settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COMPRESS_TRAIN_EPOCHS", "7")
    monkeypatch.setenv("COMPRESS_TRAIN_LR", "0.3")
    outcome = settings("--lr", "0.4")
    assert outcome["lr"] == 0.4
    assert outcome["epochs"] == 7
    assert outcome["batch_size"] == 16
    assert outcome["schedule"] == "cosine"


def test_an_environment_value_that_is_wrong_is_named(call: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COMPRESS_TRAIN_EPOCHS", "many")
    outcome = call("train", *NETWORK, "--target", "macs=0.5", "--json")
    assert outcome.code == 2
    assert "epochs" in outcome.json["error"]["message"]


def test_set_reaches_settings_of_the_training_and_of_the_method(settings: Any) -> None:
    outcome = settings("--set", "milestones=[0.2, 0.4]", "--set", "checkpoint-every=3", "--set", "t_end=55.5")
    assert outcome["milestones"] == [0.2, 0.4]
    assert outcome["checkpoint_every"] == 3
    assert outcome["options"]["t_end"] == 55.5
    assert outcome["options"]["freeze"] is True


def test_set_over_environment(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COMPRESS_TRAIN_EPOCHS", "7")
    assert settings("--set", "epochs=9")["epochs"] == 9


def test_a_target_replaces_the_list_of_a_recipe(call: Here) -> None:
    recipe = ("train", "--recipe", "dcff-vgg16-cifar10", "--dry-run", "--json")
    plain, options = call(*recipe).json, call(*recipe, "--target", "macs=0.5").json
    assert plain["macs"] == 72_349_240
    assert plain["published"]["macs"] == 72_770_000
    assert options["macs"] == pytest.approx(options["dense"]["macs"] / 2, rel=0.01)
    assert "published" not in options


def test_a_dry_run_of_a_recipe_needs_no_data_and_writes_nothing(call: Here, tmp_path: Path) -> None:
    outcome = call("train", "--recipe", "dcff-resnet56-cifar10", "--dry-run")
    assert outcome.code == 0, outcome.err
    assert "55,057,024 MACs, 384,316 parameters" in outcome.out
    assert "published: 55,840,000 MACs" in outcome.out
    assert list(tmp_path.iterdir()) == []


def test_a_dry_run_prints_the_widths_and_the_run_folder(call: Here, tmp_path: Path) -> None:
    outcome = call("train", *NETWORK, "--target", "params=0.5", "--dry-run", "--json").json
    assert outcome["dry_run"] is True
    assert outcome["params"] / outcome["dense"]["params"] == pytest.approx(0.5, rel=0.01)
    assert all(0 < kept <= width for kept, width in outcome["widths"].values())
    assert outcome["out"] == str(Path("runs/dcff-vgg-small-digits"))
    assert list(tmp_path.iterdir()) == []


def test_drop_sets_the_widths_of_the_named_layers(call: Here) -> None:
    dry = ("train", *NETWORK, "--dry-run", "--json")
    names = list(call(*dry, "--target", "macs=0.5").json["widths"])
    outcome = call(*dry, "--drop", f"{names[0]}=0.5", "--drop", f"{names[1]}=0.25").json["widths"]
    for name, share in zip(names[:2], (0.5, 0.75), strict=True):
        kept, width = outcome[name]
        assert kept == int(width * share)


def test_align_makes_every_width_a_multiple(call: Here) -> None:
    outcome = call("train", *NETWORK, "--target", "macs=0.5", "--align", "4", "--dry-run", "--json").json
    assert outcome["align"] == 4
    assert all(kept % 4 == 0 for kept, _ in outcome["widths"].values())
