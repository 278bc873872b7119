"""Where a setting comes from: flag over environment over recipe over default; and the dry run."""

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
        found = call("train", *NETWORK, "--recipe", "mine.toml", *words, "--dry-run", "--json")
        assert found.code == 0, found.out
        value: dict[str, Any] = found.json["settings"]
        return value

    return resolve


def test_flag_over_environment_over_recipe_over_default(
    settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COMPRESS_TRAIN_EPOCHS", "7")
    monkeypatch.setenv("COMPRESS_TRAIN_LR", "0.3")
    found = settings("--lr", "0.4")
    assert found["lr"] == 0.4
    assert found["epochs"] == 7
    assert found["batch_size"] == 16
    assert found["schedule"] == "cosine"


def test_an_environment_value_that_is_wrong_is_named(call: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COMPRESS_TRAIN_EPOCHS", "many")
    found = call("train", *NETWORK, "--target", "macs=0.5", "--json")
    assert found.code == 2
    assert "epochs" in found.json["error"]["message"]


def test_set_reaches_settings_of_the_training_and_of_the_method(settings: Any) -> None:
    found = settings("--set", "milestones=[0.2, 0.4]", "--set", "checkpoint-every=3", "--set", "t_end=55.5")
    assert found["milestones"] == [0.2, 0.4]
    assert found["checkpoint_every"] == 3
    assert found["options"]["t_end"] == 55.5
    assert found["options"]["freeze"] is True


def test_set_over_environment(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COMPRESS_TRAIN_EPOCHS", "7")
    assert settings("--set", "epochs=9")["epochs"] == 9


def test_a_target_replaces_the_list_of_a_recipe(call: Here) -> None:
    recipe = ("train", "--recipe", "dcff-vgg16-cifar10", "--dry-run", "--json")
    plain, asked = call(*recipe).json, call(*recipe, "--target", "macs=0.5").json
    assert plain["macs"] == 72_349_240
    assert plain["published"]["macs"] == 72_770_000
    assert asked["macs"] == pytest.approx(asked["dense"]["macs"] / 2, rel=0.01)
    assert "published" not in asked


def test_a_dry_run_of_a_recipe_needs_no_data_and_writes_nothing(call: Here, tmp_path: Path) -> None:
    found = call("train", "--recipe", "dcff-resnet56-cifar10", "--dry-run")
    assert found.code == 0, found.err
    assert "55,057,024 MACs, 384,316 parameters" in found.out
    assert "published: 55,840,000 MACs" in found.out
    assert list(tmp_path.iterdir()) == []


def test_a_dry_run_says_the_widths_and_where_the_run_would_go(call: Here, tmp_path: Path) -> None:
    found = call("train", *NETWORK, "--target", "params=0.5", "--dry-run", "--json").json
    assert found["dry_run"] is True
    assert found["params"] / found["dense"]["params"] == pytest.approx(0.5, rel=0.01)
    assert all(0 < kept <= width for kept, width in found["widths"].values())
    assert found["out"] == str(Path("runs/dcff-vgg-small-digits"))
    assert list(tmp_path.iterdir()) == []


def test_drop_gives_the_widths_of_the_layers_it_names(call: Here) -> None:
    dry = ("train", *NETWORK, "--dry-run", "--json")
    names = list(call(*dry, "--target", "macs=0.5").json["widths"])
    found = call(*dry, "--drop", f"{names[0]}=0.5", "--drop", f"{names[1]}=0.25").json["widths"]
    for name, share in zip(names[:2], (0.5, 0.75), strict=True):
        kept, width = found[name]
        assert kept == int(width * share)


def test_align_makes_every_width_a_multiple(call: Here) -> None:
    found = call("train", *NETWORK, "--target", "macs=0.5", "--align", "4", "--dry-run", "--json").json
    assert found["align"] == 4
    assert all(kept % 4 == 0 for kept, _ in found["widths"].values())
