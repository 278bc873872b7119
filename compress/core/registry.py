"""Registries: entries of one kind by name, from this package's modules and from installed packages.

A new built-in entry is one new file in the registry's package that uses `Registry.register`. A third-party
package adds an entry with an entry point:

    [project.entry-points."compress.methods"]
    my_method = "my_package.my_method:MyMethod"
"""

from __future__ import annotations

import ast
import importlib
import pkgutil
import threading
from collections.abc import Callable, Iterator, Mapping
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType
from typing import Generic, TypeVar

from compress.core.errors import CompressError, Exit, did_you_mean

T = TypeVar("T")
D = TypeVar("D")


class Registry(Mapping[str, T], Generic[T]):
    """Entries of one kind, such as methods or export formats, by name.

    Built-in entries are registered by the modules of `package`, which are imported on first use. Other
    distributions add entries through the entry point group ``compress.<group>``. An entry point names either
    an object, which is registered under the entry point's name, or a module, which must register an entry of
    that name when it is imported.

    Registering a name twice is an error, except that a module may be imported again.

    Args:
        kind: what one entry is, as shown in error messages: ``method``, ``export format``.
        group: last part of the entry point group, such as ``methods``.
        package: dotted name of the package whose modules register the built-in entries; empty if none do.
        convert: makes an entry from the name and the object of an entry point, or raises what is wrong with
            the object (see `subclass_of` and `instance_of`); None: the object is the entry.
        error_code: code of the error for an unknown name; empty: ``unknown-<kind>``.

    Attributes:
        failures: entry points that could not be loaded, by name, with the reason.

    Example:
        >>> colors: Registry[int] = Registry("color", group="colors")
        >>> colors.add("red", 0xFF0000)
        16711680
        >>> colors["red"]
        16711680
        >>> colors.get_or_raise("rde")
        Traceback (most recent call last):
        compress.core.errors.CompressError: unknown color 'rde' (Did you mean red? Known: red)
    """

    def __init__(
        self,
        kind: str,
        *,
        group: str,
        package: str = "",
        convert: Callable[[str, object], T] | None = None,
        error_code: str = "",
    ) -> None:
        self.kind = kind
        self.group = _full_group(group)
        self.package = package
        self.failures: dict[str, str] = {}
        self._convert = convert
        self._error_code = error_code or f"unknown-{kind.replace(' ', '-')}"
        self._entries: dict[str, T] = {}
        self._discovered = False
        self._lock = threading.RLock()

    def add(self, name: str, entry: T) -> T:
        """Register `entry` under `name` and return it.

        Raises:
            ValueError: another entry has the name.
        """
        known = self._entries.get(name)
        if known is not None and not _is_same(known, entry):
            raise ValueError(f"the {self.kind} {name!r} is already registered: {known!r}")
        self._entries[name] = entry
        return entry

    def register(self, name: str) -> Callable[[D], D]:
        """Return a decorator that registers the decorated object under `name` and returns it unchanged.

        The object must be a valid entry of this registry. Give `name` as a literal string: `static_names`
        reads it from the source.
        """

        def decorate(entry: D) -> D:
            self.add(name, entry)  # type: ignore[arg-type]
            return entry

        return decorate

    def discover(self) -> None:
        """Import the modules of `package`, then load the entry points of other packages; done once.

        An entry point that fails is recorded in `failures`: a broken third-party package must not stop every
        command.
        """
        with self._lock:
            if self._discovered:
                return
            self._discovered = True  # set first: a module imported below may read the registry
            try:
                if self.package:
                    for module in _module_names(self.package):
                        importlib.import_module(module)
            except BaseException:
                self._discovered = False
                raise
            for point in entry_points(group=self.group):
                try:
                    self._add_loaded(point.name, point.load())
                except (Exception, SystemExit) as error:  # a script registered by mistake ends with exit()
                    self.failures[point.name] = f"{point.value}: {type(error).__name__}: {error}"

    def _add_loaded(self, name: str, loaded: object) -> None:
        """Register the object of the entry point `name`, unless its import has registered it already."""
        if isinstance(loaded, ModuleType):
            if name not in self._entries:
                raise LookupError(f"the module registers no {self.kind} named {name!r}")
        elif not any(loaded is entry for entry in self._entries.values()):
            entry: T = loaded if self._convert is None else self._convert(name, loaded)  # type: ignore[assignment]
            self.add(name, entry)

    def names(self) -> list[str]:
        """Return all names, sorted."""
        self.discover()
        return sorted(self._entries)

    def get_or_raise(self, name: str, *, hint: str = "") -> T:
        """Return the entry called `name`.

        Args:
            name: the name as the user typed it.
            hint: text appended to the error's hint.

        Raises:
            CompressError: (exit 2) ``unknown-<kind>``, with the nearest and all known names; or (exit 3)
                ``broken-plugin``: another package provides the name, but it could not be loaded.
        """
        self.discover()
        if name in self._entries:
            return self._entries[name]
        if name in self.failures:
            raise CompressError(
                f"the {self.kind} {name!r} could not be loaded: {self.failures[name]}",
                hint="repair or uninstall the package that provides it",
                code="broken-plugin",
                exit=Exit.MISSING,
            )
        known = f"Known: {', '.join(self.names())}"
        raise CompressError(
            f"unknown {self.kind} {name!r}",
            hint=" ".join(part for part in (did_you_mean(name, self._entries), known, hint) if part),
            code=self._error_code,
            details={"name": name, "known": self.names()},
        )

    def __getitem__(self, name: str) -> T:
        self.discover()
        return self._entries[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.names())

    def __len__(self) -> int:
        self.discover()
        return len(self._entries)

    def __repr__(self) -> str:
        return f"Registry({self.kind!r}: {', '.join(self.names())})"


def subclass_of(base: type[D]) -> Callable[[str, object], type[D]]:
    """Return a `convert` for a registry whose entries are subclasses of `base`."""

    def convert(_name: str, loaded: object) -> type[D]:
        if not (isinstance(loaded, type) and issubclass(loaded, base)):
            raise TypeError(f"{loaded!r} is not a subclass of {base.__name__}")
        return loaded

    return convert


def instance_of(kind: type[D]) -> Callable[[str, object], D]:
    """Return a `convert` for a registry whose entries are objects of `kind`."""

    def convert(_name: str, loaded: object) -> D:
        if not isinstance(loaded, kind):
            raise TypeError(f"{loaded!r} is not of the type {kind.__name__}")
        return loaded

    return convert


def static_names(package_folder: Path, group: str) -> list[str]:
    """Return the names of a registry's entries without importing their modules.

    Reads the sources under `package_folder` for ``REGISTRY.register("name")`` and
    ``REGISTRY.add("name", ...)`` with a literal name, and adds the names of the installed entry points of the
    group. Used by the command line's help and shell completion, which must not import torch.

    Args:
        package_folder: folder of the registry's package.
        group: the registry's group, such as ``methods``.

    Returns:
        The sorted names, including entry points that may fail to load.
    """
    trees = [ast.parse(path.read_text(encoding="utf-8")) for path in sorted(package_folder.rglob("*.py"))]
    nodes = [node for tree in trees for node in ast.walk(tree)]
    variables = {name for node in nodes for name in _registry_variables(node, group)}
    names = {name for node in nodes if (name := _registered_name(node, variables)) is not None}
    return sorted(names | {point.name for point in entry_points(group=_full_group(group))})


def _registry_variables(node: ast.AST, group: str) -> list[str]:
    """Return the variables that `node` assigns if it is ``NAME = Registry(..., group="<group>")``."""
    if not isinstance(node, ast.Assign | ast.AnnAssign) or not isinstance(node.value, ast.Call):
        return []
    groups = [keyword.value for keyword in node.value.keywords if keyword.arg == "group"]
    if not any(isinstance(value, ast.Constant) and value.value == group for value in groups):
        return []
    targets = node.targets if isinstance(node, ast.Assign) else [node.target]
    return [target.id for target in targets if isinstance(target, ast.Name)]


def _registered_name(node: ast.AST, variables: set[str]) -> str | None:
    """Return the literal name that the call `node` registers in one of `variables`, else None.

    If `variables` is empty (the registry is defined in another package), any upper-case variable counts.
    """
    if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute) or not node.args:
        return None
    owner, name = node.func.value, node.args[0]
    variable = owner.id if isinstance(owner, ast.Name) else getattr(owner, "attr", "")
    is_registry = variable in variables if variables else variable.isupper()
    if node.func.attr not in ("register", "add") or not is_registry:
        return None
    return name.value if isinstance(name, ast.Constant) and isinstance(name.value, str) else None


def _full_group(group: str) -> str:
    return f"compress.{group}"


def _module_names(package: str) -> list[str]:
    """Return the dotted names of all modules in a package, subpackages included."""
    root = importlib.import_module(package)
    return sorted(module.name for module in pkgutil.walk_packages(root.__path__, f"{package}."))


def _is_same(known: object, entry: object) -> bool:
    """Return whether two entries are equal, or one class or function whose module was imported twice."""
    if known is entry or (type(known) is type(entry) and bool(known == entry)):
        return True
    origins = [(getattr(e, "__module__", None), getattr(e, "__qualname__", None)) for e in (known, entry)]
    return None not in origins[0] and origins[0] == origins[1]
