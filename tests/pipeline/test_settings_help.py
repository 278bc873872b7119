"""`--set help` lists every setting of the training and of the method with type, default and meaning."""

from __future__ import annotations

import pytest
from rich.table import Table

from compress.methods import METHODS
from compress.pipeline import TrainRequest, method_of
from compress.tables import settings_table
from compress.training import TrainConfig


def rows(table: Table) -> dict[str, list[str]]:
    columns = [list(map(str, column.cells)) for column in table.columns]
    return {key: rest for key, *rest in zip(*columns, strict=True)}


def test_every_setting_of_the_training_has_a_meaning() -> None:
    result = rows(settings_table("training", TrainConfig))
    assert list(result) == list(TrainConfig.model_fields)
    assert all(meaning for _, _, meaning in result.values())
    assert result["optimizer"][:2] == ["sgd | adamw | adamax", "sgd"]
    assert result["milestones"][:2] == ["list of float", "[0.5, 0.75]"]


@pytest.mark.parametrize("name", METHODS.names())
def test_every_setting_of_a_method_has_a_meaning(name: str) -> None:
    kind = METHODS[name]
    result = rows(settings_table(name, kind.config_type))
    assert list(result) == list(kind.config_type.model_fields)
    assert all(meaning for _, _, meaning in result.values())


def test_defaults_of_the_method_replace_those_of_the_training() -> None:
    result = rows(settings_table("training", TrainConfig, METHODS["kdfs"].training_defaults))
    assert result["lr"][1] == "0.01" and result["optimizer"][1] == "adamax"


def test_method_of_a_recipe_is_used() -> None:
    assert method_of(TrainRequest(recipe="dcff-vgg16-cifar10")).name == "dcff"
    assert method_of(TrainRequest()).name == "dcff"
