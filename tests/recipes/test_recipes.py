"""Recipes: they load, give the networks of the papers, and report what is wrong in a file."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import pytest
import typer

from compress import cli, models, recipes
from compress import tables as show
from compress.core.errors import CompressError, Exit
from compress.core.spec import Costs
from compress.cost import dense_costs
from compress.graph import ChannelGraph, trace
from compress.methods import METHODS
from compress.pipeline import TrainRequest, plan_training, resolve
from compress.training import TrainConfig

# Convolution and linear MACs and parameters: dense, kept. Computed by hand from the published lists.
EXACT = {
    "dcff-vgg16-cifar10": (313_201_664, 14_728_266, 72_349_240, 1_071_248),
    "dcff-resnet56-cifar10": (125_485_696, 853_018, 55_057_024, 384_316),
    "dcff-resnet110-cifar10": (252_887_680, 1_727_962, 84_117_632, 555_368),
    "dcff-resnet50-imagenet-step-63.8": (4_089_184_256, 25_557_032, 1_474_688_936, 10_581_581),
    "dcff-resnet50-imagenet-step-76.7": (4_089_184_256, 25_557_032, 944_655_560, 7_403_402),
}
# Kept MACs and parameters as the paper prints them (thop, norms included).
PUBLISHED = {
    "dcff-googlenet-cifar10": (457.2e6, 2.08e6),
    "dcff-resnet110-cifar10": (85.30e6, 0.56e6),
    "dcff-resnet50-imagenet-cosine-63.0": (1.52e9, 11.05e6),
    "dcff-resnet50-imagenet-cosine-66.4": (1.38e9, 11.81e6),
    "dcff-resnet50-imagenet-cosine-75.1": (1.02e9, 6.56e6),
    "dcff-resnet50-imagenet-step-45.3": (2.25e9, 15.16e6),
    "dcff-resnet50-imagenet-step-63.8": (1.49e9, 10.58e6),
    "dcff-resnet50-imagenet-step-76.7": (0.96e9, 7.40e6),
    "dcff-resnet56-cifar10": (55.84e6, 0.38e6),
    "dcff-vgg16-cifar10": (72.77e6, 1.06e6),
}


ALSO_FAST = ("dcff-vgg16-cifar10", "dcff-resnet56-cifar10", "dcff-resnet50-imagenet-step-63.8")
"""Recipes whose costs are computed in the fast tests too; each of the others takes seconds."""

SLOW_UNLESS_FAST = [
    name if name in ALSO_FAST else pytest.param(name, marks=pytest.mark.slow) for name in PUBLISHED
]


def planned(name: str) -> tuple[Costs, Costs]:
    """Dense and kept costs of a recipe."""
    resolved = resolve(TrainRequest(recipe=name))
    assert resolved.num_classes is not None and resolved.input_size is not None
    plan = plan_training(resolved, resolved.num_classes, resolved.input_size)
    return dense_costs(plan.graph), plan.compact_costs


def write(folder: Path, text: str) -> str:
    """A recipe file of that text."""
    path = folder / "mine.toml"
    path.write_text(text)
    return str(path)


@pytest.mark.parametrize("name", recipes.list_recipes())
def test_every_recipe_names_known_parts_and_valid_settings(name: str) -> None:
    recipe = recipes.load(name)
    method = METHODS.get_or_raise(recipe.method)
    assert TrainConfig(**recipe.train).epochs > 0 and method.config_type(**recipe.options)
    assert recipe.model in models.list_models() or recipe.model == "torchvision/resnet50"
    assert recipe.description and (recipe.drop or recipe.target or not method.needs_target)
    assert recipe.published is not None or name.startswith("short-")


@pytest.mark.parametrize("name", SLOW_UNLESS_FAST)
def test_costs_equal_those_of_the_lists_and_are_within_two_percent_of_the_published_ones(
    name: str,
) -> None:
    dense, kept = planned(name)
    assert (kept.macs, kept.params) == pytest.approx(PUBLISHED[name], rel=0.02)
    recipe = recipes.load(name)
    assert recipe.published is not None
    assert (recipe.published.macs, recipe.published.params) == pytest.approx(PUBLISHED[name], rel=1e-4)
    if name in EXACT:
        assert (dense.macs, dense.params, kept.macs, kept.params) == EXACT[name]
        exact = recipe.exact
        assert exact is not None
        assert (exact.dense_macs, exact.dense_params, exact.macs, exact.params) == EXACT[name]


def test_every_exact_count_has_a_published_one() -> None:
    assert set(EXACT) <= set(PUBLISHED)


def test_every_recipe_with_drop_rates_has_published_costs() -> None:
    listed = {name for name in recipes.list_recipes() if recipes.load(name).drop}
    assert {name for name in listed if not name.startswith("short-")} == set(PUBLISHED)


TARGETED = [
    name for name in recipes.list_recipes() if name.startswith(("dcff", "kdfs")) and name not in PUBLISHED
]


@pytest.mark.parametrize("name", TARGETED)
def test_target_of_a_recipe_is_the_published_share(name: str) -> None:
    recipe = recipes.load(name)
    result = recipe.published
    assert result is not None and result.dense_macs is not None and recipe.target is not None
    assert float(recipe.target.removeprefix("macs=")) == pytest.approx(
        result.macs / result.dense_macs, abs=1e-4
    )
    printed = float(name.rsplit("-", 1)[1])
    assert 100 * (1 - result.macs / result.dense_macs) == pytest.approx(printed, abs=0.15)


ROWS = {
    "dcff": {93.47, 93.26, 93.80, 94.92, 71.54, 74.21, 75.18, 75.60, 74.85, 73.81, 68.60},
    "kdfs": {93.78, 93.58, 93.19, 94.23, 93.65, 71.65, 76.26, 75.80},
    "abp": set(),
}
"""Top-1 of every row of the papers' tables; of abp's nothing is public."""


@pytest.mark.parametrize("method", ROWS)
def test_every_published_row_has_a_recipe(method: str) -> None:
    every = [recipes.load(name) for name in recipes.list_recipes()]
    results = [r.published.top1 for r in every if r.method == method and r.published is not None]
    assert set(results) == ROWS[method] and len(results) == len(ROWS[method])


@pytest.mark.slow
def test_mobilenet_meets_the_published_macs_with_own_widths() -> None:
    dense, kept = planned("dcff-mobilenetv2-imagenet-53.3")
    assert (dense.macs, dense.params) == (300_774_272, 3_504_872)
    assert kept.macs == pytest.approx(140e6, rel=0.01)
    assert recipes.load("dcff-mobilenetv2-imagenet-53.3").own_widths


SHORT = [name for name in recipes.list_recipes() if name.startswith("short-")]


@pytest.mark.parametrize("model", ["vgg16", "resnet56"])
def test_short_recipes_of_a_network_have_the_same_cost(model: str) -> None:
    exact = recipes.load(f"dcff-{model}-cifar10").exact
    assert exact is not None and exact.dense_macs is not None
    group = [recipes.load(name) for name in SHORT if name.endswith(model)]
    assert {r.method for r in group} == {"abp", "dcff", "dense", "kdfs", "l1", "random", "scratch"}
    for recipe in group:
        assert recipe.train["epochs"] <= 60 and recipe.published is None
        if recipe.target is not None:
            share = exact.macs / exact.dense_macs
            assert float(recipe.target.removeprefix("macs=")) == pytest.approx(share, abs=1e-4)
        assert (recipe.exact is not None) == bool(recipe.drop)


@pytest.mark.parametrize(
    "name", ["short-dcff-vgg16", "short-l1-vgg16", "short-dcff-resnet56", "short-l1-resnet56"]
)
def test_drop_rates_of_a_short_recipe_give_exactly_the_published_costs(name: str) -> None:
    _, kept = planned(name)
    exact = recipes.load(name).exact
    assert exact is not None and (kept.macs, kept.params) == (exact.macs, exact.params)
    assert EXACT[f"dcff-{name.rsplit('-', 1)[1]}-cifar10"][2:] == (kept.macs, kept.params)


@pytest.mark.parametrize("name", SHORT)
def test_reference_of_a_short_recipe_has_a_published_accuracy(name: str) -> None:
    reference = recipes.load(name).reference
    if reference is not None:
        published = recipes.load(reference).published
        assert published is not None and published.top1 is not None
    assert recipes.load(name).method != "abp" or reference is None


def parsed(command: str) -> dict[str, Any]:
    """The options of a launch command's `compress train`, as the program reads them."""
    words = shlex.split(command)
    start = words.index("train")
    assert words[:start] == ["compress"] or words[start - 2 : start] == ["-m", "compress"]
    group: Any = typer.main.get_command(cli.app)
    context = group.commands["train"].make_context("train", words[start + 1 :])
    given: dict[str, Any] = context.params
    return given


@pytest.mark.parametrize("name", recipes.list_recipes())
def test_launch_commands_are_commands_of_this_recipe(name: str) -> None:
    recipe = recipes.load(name)
    assert recipe.launch is not None
    for command in (recipe.launch.gpu, recipe.launch.gpus, recipe.launch.nodes):
        given = parsed(command)
        assert (given["recipe"], given["out"]) == (name, Path("runs") / name)
        assert given["data"] in (None, recipe.data)
    needed = recipe.method == "kdfs" and recipe.published is not None
    given = parsed(recipe.launch.gpu)
    assert needed == bool(given["weights"] or given["teacher"])
    if recipe.launch.first is not None:
        first = parsed(recipe.launch.first)
        assert first["recipe"] in recipes.list_recipes() and given["teacher"] == str(first["out"])
    batch = recipe.train.get("batch_size", 128)
    assert batch % 8 == 0, "two nodes of four GPUs share a step"


@pytest.mark.parametrize("name", ["short-abp-vgg16", "short-scratch-vgg16"])
def test_launch_command_runs_dry(name: str, capfd: pytest.CaptureFixture[str]) -> None:
    launch = recipes.load(name).launch
    assert launch is not None
    assert cli.run([*shlex.split(launch.gpu)[1:], "--dry-run", "--json"]) == 0
    plan = json.loads(capfd.readouterr().out)
    assert plan["macs"] == pytest.approx(72_349_240, rel=0.01) and plan["settings"]["epochs"] == 60


def test_file_of_measured_recipes_is_read_back(tmp_path: Path) -> None:
    one = recipes.Measured(
        top1=93.1, best_top1=93.2, seeds=(0,), epochs=60, minutes=3.5, macs=1, params=2, machine="x", date="y"
    )
    recipes.save_measured({"short-dcff-vgg16": one}, tmp_path / "measured.json")
    assert recipes.load_measured(tmp_path / "measured.json") == {"short-dcff-vgg16": one}
    (tmp_path / "measured.json").write_text('{"recipes": {"a": {"top1": 3}}}')
    with pytest.raises(CompressError, match="damaged") as error:
        recipes.load_measured(tmp_path / "measured.json")
    assert error.value.exit == Exit.MISSING


def test_measured_recipes_exist() -> None:
    assert set(recipes.load_measured()) <= set(recipes.list_recipes())


def test_a_recipe_is_shown_with_measured_and_published_results() -> None:
    ours = recipes.Measured(
        top1=93.1, spread=0.2, best_top1=93.2, seeds=(0, 1), epochs=60, minutes=3.5, macs=1, params=2,
        machine="a GPU", date="2026-11-25T01:02:03",
    )  # fmt: skip
    recipe = recipes.load("dcff-vgg16-cifar10")
    text = "\n".join(map(str, show.render_recipe(recipe, ours)))
    assert "top-1 93.47" in text and "93.10 ± 0.20" in text and "torchrun" in text
    assert "not measured yet" in "\n".join(map(str, show.render_recipe(recipe, None)))
    table = show.recipes_table([recipe], {recipe.name: ours})
    assert [next(iter(column.cells)) for column in table.columns][-2:] == ["93.47", "93.10 ± 0.20"]
    assert list(show.recipes_table([recipe], {}).columns[-1].cells) == ["-"]
    assert recipes.describe_recipe(recipe, None)["ours"] is None


def test_widths_of_vgg16_are_rounded_down_in_double_precision() -> None:
    resolved = resolve(TrainRequest(recipe="dcff-vgg16-cifar10"))
    plan = plan_training(resolved, 10, (3, 32, 32)).plan
    assert plan is not None
    assert [kept for kept, _ in plan.widths.values()] == [32] * 2 + [76] * 2 + [166] * 3 + [76] * 6


def test_user_recipe_is_used_like_a_built_in_one(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        'model = "vgg_small"\ndata = "digits"\ninput_size = [1, 16, 16]\ntarget = "macs=0.4"\n'
        "[train]\nepochs = 7\n[options]\nfreeze = true\n",
    )
    resolved = resolve(TrainRequest(recipe=path))
    assert recipes.load(path).name == "mine"
    assert resolved.target is not None
    assert (resolved.model.name, resolved.data, resolved.target.text) == ("vgg_small", "digits", "macs=0.4")
    assert resolved.config.epochs == 7 and resolved.options.model_dump()["freeze"] is True


def test_an_option_has_precedence_over_the_recipe_and_the_recipe_over_the_default(tmp_path: Path) -> None:
    path = write(
        tmp_path, 'model = "vgg_small"\ndata = "digits"\ntarget = "macs=0.4"\n[train]\nepochs = 7\nlr = 0.3\n'
    )
    resolved = resolve(TrainRequest(recipe=path, target="params=0.3", settings={"lr": 0.2}))
    assert resolved.target is not None and resolved.target.text == "params=0.3"
    assert (resolved.config.epochs, resolved.config.lr) == (7, 0.2)
    assert resolved.config.momentum == TrainConfig().momentum


def test_a_target_option_replaces_the_drop_rates_of_the_recipe() -> None:
    resolved = resolve(TrainRequest(recipe="dcff-vgg16-cifar10", target="macs=0.5"))
    assert resolved.target is not None and resolved.target.text == "macs=0.5" and not resolved.drop


@pytest.fixture(scope="module")
def graph() -> ChannelGraph:
    import torch

    return trace(models.build("vgg_small", 10, (1, 16, 16)), torch.rand(2, 1, 16, 16), free_pads=True)


def test_one_rate_applies_to_all_groups_of_a_pattern_but_named_ones(graph: ChannelGraph) -> None:
    widths = recipes.widths_from_drop_rates(graph, {"features.*": [0.5], "features.conv2": [0.9]})
    assert list(widths.values()).count(64) == 2 and widths["features.conv2"] == 3


def test_no_group_becomes_empty(graph: ChannelGraph) -> None:
    assert recipes.widths_from_drop_rates(graph, {"features.conv1": [0.999]}) == {"features.conv1": 1}


@pytest.mark.parametrize(
    ("drop", "code", "words"),
    [
        ({"features.conv9": [0.5]}, "unknown-group", ["features.conv9", "Did you mean features.conv"]),
        ({"layer*.conv1": [0.5]}, "unknown-group", ["layer*.conv1"]),
        ({"features.*": [0.5, 0.5]}, "drop-count", ["features.*", "6 groups", "2 drop rates"]),
        ({"features.conv1": [1.0]}, "drop-range", ["features.conv1", "1.0"]),
        ({"features.conv1": [-0.1]}, "drop-range", ["-0.1"]),
        ({"features.conv1": [float("nan")]}, "drop-range", ["nan"]),
    ],
)
def test_invalid_drop_rates_are_refused(
    graph: ChannelGraph, drop: dict[str, list[float]], code: str, words: list[str]
) -> None:
    with pytest.raises(CompressError) as error:
        recipes.widths_from_drop_rates(graph, drop)
    assert error.value.code == code and error.value.exit == Exit.USAGE
    assert all(word in str(error.value) for word in words)


def test_unknown_recipe_names_its_nearest() -> None:
    with pytest.raises(CompressError, match="dcff-vgg-cifar10") as error:
        recipes.load("dcff-vgg-cifar10")
    assert error.value.code == "unknown-recipe" and "dcff-vgg16-cifar10" in error.value.hint


def test_missing_recipe_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(CompressError, match=r"none\.toml") as error:
        recipes.load(str(tmp_path / "none.toml"))
    assert error.value.exit == Exit.MISSING


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("moddel = 'vgg16'\n", ["moddel", "model"]),
        ("drop = 3\n", ["drop"]),
        ("[drop]\nconv1 = ['much']\n", ["drop.conv1"]),
        ("model = \n", ["not valid TOML"]),
        ("target = 'macs=0.5'\n[drop]\nconv1 = [0.5]\n", ["target", "not both"]),
    ],
)
def test_an_error_in_a_file_is_named(tmp_path: Path, text: str, words: list[str]) -> None:
    with pytest.raises(CompressError) as error:
        recipes.load(write(tmp_path, text))
    assert error.value.code == "bad-recipe" and "'mine'" in error.value.message
    assert all(word in str(error.value) for word in words)


def test_file_that_is_not_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_bytes(b"\xff\xfe\x00model")
    with pytest.raises(CompressError, match="not valid TOML"):
        recipes.load(str(tmp_path / "mine.toml"))


def test_wrong_setting_in_a_recipe_is_named_with_the_known_ones(tmp_path: Path) -> None:
    path = write(tmp_path, 'model = "vgg16"\ndata = "digits"\ntarget = "macs=0.5"\n[train]\nepoch = 7\n')
    with pytest.raises(CompressError, match="'epoch'") as error:
        resolve(TrainRequest(recipe=path))
    assert error.value.code == "bad-setting" and "epochs" in error.value.hint
