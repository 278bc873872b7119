"""`compress.core.registry`: decorators, discovery, entry points, and names without imports."""

from __future__ import annotations

import pkgutil
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest
from plugins import make_plugin

import compress
from compress.core.errors import CompressError, Exit
from compress.core.registry import Registry, static_names

PACKAGE = "shapes_for_test"
DEFINITION = """
from compress.core.registry import Registry
SHAPES = Registry("shape", group="shapes", package="shapes_for_test")
OTHERS = Registry("other", group="others")
"""
MEMBERS = """
from shapes_for_test.registry import OTHERS, SHAPES

@SHAPES.register("square")
class Square: ...

SHAPES.add("circle", Square)
OTHERS.register("not-a-shape")(Square)
"""


def registries() -> list[Registry[object]]:
    """Every registry that a module of compress defines."""
    result: dict[int, Registry[object]] = {}
    for module in pkgutil.walk_packages(compress.__path__, "compress."):
        if "__main__" in module.name or module.name.endswith(".protocol.child"):
            continue
        for value in vars(import_module(module.name)).values():
            if isinstance(value, Registry):
                result[id(value)] = value
    return list(result.values())


@pytest.fixture
def colors() -> Registry[object]:
    """A registry with one entry."""
    made: Registry[object] = Registry("color", group="colors_for_test")
    made.add("red", 1)
    return made


def test_a_decorated_object_is_registered_and_returned_unchanged(colors: Registry[object]) -> None:
    @colors.register("green")
    def green() -> None: ...

    assert colors["green"] is green
    assert colors.names() == ["green", "red"]
    assert list(colors) == ["green", "red"] and len(colors) == 2 and "red" in colors


def test_a_second_entry_of_the_same_name_is_an_error(colors: Registry[object]) -> None:
    with pytest.raises(ValueError, match="the color 'red' is already registered"):
        colors.add("red", 2)
    assert colors["red"] == 1


def test_a_module_may_be_imported_again(colors: Registry[object]) -> None:
    source = "@colors.register('blue')\ndef blue(): ...\n"
    space = {"colors": colors, "__name__": "module_of_blue"}
    exec(source, space)
    first = colors["blue"]
    exec(source, space)
    assert colors["blue"] is not first


def test_an_unknown_name_is_refused_with_the_nearest_and_all_names(colors: Registry[object]) -> None:
    with pytest.raises(CompressError) as raised:
        colors.get_or_raise("Rde", hint="or mix one")
    assert raised.value.message == "unknown color 'Rde'"
    assert raised.value.hint == "Did you mean red? Known: red or mix one"
    assert (raised.value.code, raised.value.exit) == ("unknown-color", Exit.USAGE)
    assert raised.value.details == {"name": "Rde", "known": ["red"]}


def test_the_error_code_can_be_chosen() -> None:
    data: Registry[object] = Registry("data set", group="none_for_test", error_code="unknown-data")
    with pytest.raises(CompressError) as raised:
        data.get_or_raise("x")
    assert raised.value.code == "unknown-data"


def test_modules_of_the_package_are_imported_on_first_use_only(tmp_path: Path) -> None:
    plugin = make_plugin(tmp_path, PACKAGE, {"registry.py": DEFINITION, "members.py": MEMBERS}, {})
    with plugin.installed():
        shapes = import_module(f"{PACKAGE}.registry").SHAPES
        assert f"{PACKAGE}.members" not in sys.modules
        assert shapes.names() == ["circle", "square"]
        assert f"{PACKAGE}.members" in sys.modules


def test_a_broken_module_of_the_package_is_raised_each_time(tmp_path: Path) -> None:
    plugin = make_plugin(tmp_path, PACKAGE, {"registry.py": DEFINITION, "members.py": "1 / 0"}, {})
    with plugin.installed():
        shapes = import_module(f"{PACKAGE}.registry").SHAPES
        for _ in range(2):
            with pytest.raises(ZeroDivisionError):
                shapes.names()


def test_an_entry_point_adds_an_object_under_its_own_name(tmp_path: Path, colors: Registry[object]) -> None:
    plugin = make_plugin(
        tmp_path, "paint", {"pots.py": "teal = 7"}, {"colors_for_test": {"teal": "paint.pots:teal"}}
    )
    with plugin.installed(colors):
        assert colors["teal"] == 7
        assert colors.failures == {}


def test_an_entry_point_may_name_a_module_that_registers_itself(tmp_path: Path) -> None:
    members = MEMBERS.replace(PACKAGE, "base_for_test")
    plugin = make_plugin(
        tmp_path,
        "base_for_test",
        {"registry.py": DEFINITION.replace(', package="shapes_for_test"', ""), "members.py": members},
        {"shapes": {"square": "base_for_test.members", "triangle": "base_for_test.members"}},
    )
    with plugin.installed():
        shapes = import_module("base_for_test.registry").SHAPES
        assert shapes.names() == ["circle", "square"]
        assert "registers no shape named 'triangle'" in shapes.failures["triangle"]


def test_convert_makes_the_entry_of_an_entry_point(tmp_path: Path) -> None:
    pairs: Registry[tuple[str, object]] = Registry(
        "pair", group="pairs_for_test", convert=lambda name, loaded: (name, loaded)
    )
    plugin = make_plugin(
        tmp_path, "paint", {"pots.py": "teal = 7"}, {"pairs_for_test": {"t": "paint.pots:teal"}}
    )
    with plugin.installed(pairs):
        assert pairs["t"] == ("t", 7)


def test_a_broken_plugin_stops_nothing_but_its_own_entry(tmp_path: Path, colors: Registry[object]) -> None:
    plugin = make_plugin(
        tmp_path,
        "paint",
        {"pots.py": "import no_such_package"},
        {"colors_for_test": {"teal": "paint.pots:teal"}},
    )
    with plugin.installed(colors):
        assert colors.get_or_raise("red") == 1
        with pytest.raises(CompressError, match="no_such_package") as raised:
            colors.get_or_raise("teal")
        assert (raised.value.code, raised.value.exit) == ("broken-plugin", Exit.MISSING)


def test_a_plugin_that_ends_the_process_on_import_stops_nothing_else(
    tmp_path: Path, colors: Registry[object]
) -> None:
    plugin = make_plugin(
        tmp_path, "paint", {"pots.py": "exit(3)"}, {"colors_for_test": {"teal": "paint.pots:teal"}}
    )
    with plugin.installed(colors):
        assert colors["red"] == 1
        assert "SystemExit: 3" in colors.failures["teal"]


@pytest.mark.parametrize(
    "group", ["backends", "criteria", "datasets", "formats", "methods", "models", "operators"]
)
def test_an_entry_point_of_the_wrong_type_is_a_broken_plugin(group: str, tmp_path: Path) -> None:
    registry = next(r for r in registries() if r.group == f"compress.{group}")
    plugin = make_plugin(tmp_path, "paint", {"pots.py": "teal = 42"}, {group: {"teal": "paint.pots:teal"}})
    with plugin.installed(registry):
        assert "teal" not in registry
        assert "42" in registry.failures["teal"] or "int" in registry.failures["teal"]


def test_a_plugin_cannot_replace_a_built_in_entry(tmp_path: Path, colors: Registry[object]) -> None:
    plugin = make_plugin(
        tmp_path, "paint", {"pots.py": "red = 7"}, {"colors_for_test": {"red": "paint.pots:red"}}
    )
    with plugin.installed(colors):
        assert colors["red"] == 1
        assert "already registered" in colors.failures["red"]


def test_static_names_are_those_of_the_registry_of_that_group(tmp_path: Path) -> None:
    plugin = make_plugin(
        tmp_path,
        PACKAGE,
        {"registry.py": DEFINITION, "members.py": MEMBERS, "extra.py": "star = 5"},
        {"shapes": {"star": "shapes_for_test.extra:star"}},
    )
    with plugin.installed():
        names = static_names(plugin.folder / PACKAGE, "shapes")
        assert names == ["circle", "square", "star"]
        assert f"{PACKAGE}.members" not in sys.modules
        assert import_module(f"{PACKAGE}.registry").SHAPES.names() == names


def test_static_names_of_every_registry_are_those_it_holds() -> None:
    in_one_file = []
    for registry in registries():
        if not registry.package:
            in_one_file.append(registry.kind)
            continue
        folder = Path(str(import_module(registry.package).__path__[0]))
        group = registry.group.removeprefix("compress.")
        assert static_names(folder, group) == registry.names(), registry.kind
    assert in_one_file == ["operator"]  # the table of operators; no option of the command line lists it


def test_static_names_need_no_torch() -> None:
    code = """
import sys
from pathlib import Path
import compress
from compress.core.registry import static_names
names = static_names(Path(compress.__file__).parent / "models", "models")
assert "torch" not in sys.modules
print(*names)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "resnet56" in done.stdout.split()
