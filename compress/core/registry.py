"""Registries: what can be looked up by name, filled by decorators, folders and other packages."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Iterator, Mapping
from importlib.metadata import entry_points
from typing import Generic, TypeVar

from compress.core.errors import CompressError, Exit, near

T = TypeVar("T")
D = TypeVar("D")


class Registry(Mapping[str, T], Generic[T]):
    """The things of one kind, such as methods or export formats, by name.

    Entries come from three places: modules of the package that call `add` or use `register`, found by
    importing every module of `package` on first use; and other distributions, through the entry point group
    ``compress.<group>``, whose entry points name a module to import (its decorators register) or an object
    that is registered under the entry point's name.

    Registering the same name twice is an error, except that a module may be imported again.

    Args:
        kind: what one entry is, as in an error message: ``method``, ``export format``.
        group: last part of the entry point group, such as ``methods``.
        package: dotted name of the package whose modules register the built-in entries.
        convert: turns the object an entry point names into an entry; None: it is one.

    Example:
        >>> colors: Registry[int] = Registry("color", group="colors")
        >>> colors.add("red", 0xFF0000)
        16711680
        >>> colors["red"]
        16711680
        >>> colors.get_or_raise("rde")
        Traceback (most recent call last):
        compress.core.errors.CompressError: there is no color 'rde' (Did you mean red? Known: red)
    """

    def __init__(
        self, kind: str, *, group: str, package: str = "", convert: Callable[[str, object], T] | None = None
    ) -> None:
        self.kind = kind
        self.group = f"compress.{group}"
        self.package = package
        self._convert = convert
        self._entries: dict[str, T] = {}
        self._discovered = False
        self.failures: dict[str, str] = {}
        """Entry points that could not be loaded, by name, with the reason."""

    def add(self, name: str, entry: T) -> T:
        """Register `entry` under `name` and return it.

        Raises:
            ValueError: another entry has the name.
        """
        known = self._entries.get(name)
        if known is not None and not _is_same(known, entry):
            raise ValueError(f"there already is a {self.kind} named {name!r}: {known!r}")
        self._entries[name] = entry
        return entry

    def register(self, name: str) -> Callable[[D], D]:
        """Return a decorator that registers the decorated object under `name`.

        The object must be a valid entry of this registry.
        """

        def decorate(entry: D) -> D:
            self.add(name, entry)  # type: ignore[arg-type]
            return entry

        return decorate

    def discover(self) -> None:
        """Import what registers the built-in entries, then what other packages offer; done once.

        An entry point that fails is recorded in `failures`: a broken package of somebody else's must not stop
        every command.
        """
        if self._discovered:
            return
        self._discovered = True
        try:
            if self.package:
                for name in _modules(self.package):
                    importlib.import_module(name)
        except BaseException:
            self._discovered = False
            raise
        for point in entry_points(group=self.group):
            try:
                loaded = point.load()
                if not _is_module(loaded) and not any(loaded is known for known in self._entries.values()):
                    entry = loaded if self._convert is None else self._convert(point.name, loaded)
                    self.add(point.name, entry)
            except Exception as error:
                self.failures[point.name] = f"{point.value}: {type(error).__name__}: {error}"

    def names(self) -> list[str]:
        """Return all names, sorted."""
        self.discover()
        return sorted(self._entries)

    def get_or_raise(self, name: str, *, hint: str = "") -> T:
        """Return the entry called `name`.

        Args:
            name: as the user gave it.
            hint: what to add to the error's remedy.

        Raises:
            CompressError: (exit 2) ``unknown-<kind>``, with the nearest and all known names; or (exit 3)
                ``broken-plugin``: another package offers the name, but could not be loaded.
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
            f"there is no {self.kind} {name!r}",
            hint=" ".join(part for part in (near(name, self._entries), known, hint) if part),
            code=f"unknown-{self.kind.replace(' ', '-')}",
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


def _modules(package: str) -> list[str]:
    """Dotted names of all modules in a package, subpackages included."""
    root = importlib.import_module(package)
    return sorted(m.name for m in pkgutil.walk_packages(root.__path__, f"{package}."))


def _is_same(known: object, entry: object) -> bool:
    """Whether two entries are one, or one made again by importing its module a second time."""
    if known is entry:
        return True
    made = (getattr(known, "__module__", None), getattr(known, "__qualname__", None))
    return None not in made and made == (
        getattr(entry, "__module__", None),
        getattr(entry, "__qualname__", None),
    )


def _is_module(loaded: object) -> bool:
    return type(loaded).__name__ == "module"
