"""Packages outside the tree that add something to compress through entry points, made for a test.

Example:
    plugin = make_plugin(
        tmp_path, "acme_nets", {"models.py": SOURCE}, {"models": {"acme": "acme_nets.models:acme"}}
    )
    done = plugin.run("inspect", "--model", "acme")   # the command line in a process of its own
    assert done.returncode == 0, done.stderr
"""

from __future__ import annotations

import contextlib
import importlib
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import compress
from compress.core.registry import Registry

ROOT = Path(compress.__file__).resolve().parents[1]


@dataclass(frozen=True)
class Plugin:
    """An installed package: a folder that belongs on `sys.path`, with modules and metadata.

    Attributes:
        folder: the folder for `PYTHONPATH`.
        package: name of the package in it.
    """

    folder: Path
    package: str

    def environment(self, **more: str) -> dict[str, str]:
        """Return this process's environment with compress and the package importable."""
        return {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(self.folder)]), **more}

    def run(
        self, *arguments: object, cwd: Path | None = None, timeout: float = 300, **more: str
    ) -> subprocess.CompletedProcess[str]:
        """Run ``compress ARGUMENTS...`` in a process of its own where the package is installed.

        Args:
            arguments: of the command line.
            cwd: working directory; None: the folder above the package's.
            timeout: in seconds.
            more: environment variables.
        """
        return subprocess.run(
            [sys.executable, "-m", "compress", *map(str, arguments)],
            cwd=cwd or self.folder.parent,
            env=self.environment(**more),
            text=True,
            capture_output=True,
            timeout=timeout,
            check=False,
        )

    @contextlib.contextmanager
    def installed(self, *registries: Registry[Any]) -> Iterator[None]:
        """Make the package importable in this process; `registries` then discover it, and forget it after."""
        before = []
        for registry in registries:
            registry.discover()  # the built-in entries stay
            before.append((registry, dict(registry._entries), dict(registry.failures)))
            registry._discovered = False
        sys.path.insert(0, str(self.folder))
        importlib.invalidate_caches()
        try:
            yield
        finally:
            sys.path.remove(str(self.folder))
            for name in [n for n in sys.modules if n.partition(".")[0] == self.package]:
                del sys.modules[name]
            for registry, entries, failures in before:
                registry._entries, registry.failures, registry._discovered = entries, failures, True


def make_plugin(
    folder: Path,
    package: str,
    modules: Mapping[str, str],
    entry_points: Mapping[str, Mapping[str, str]],
) -> Plugin:
    """Write a package with its metadata, as an installer would.

    Args:
        folder: where to put it; a subfolder ``site`` is made.
        package: name of the package.
        modules: source by file name, such as ``models.py``; an empty ``__init__.py`` is added.
        entry_points: group without ``compress.`` (``models``) -> entry name -> ``module:object``.
    """
    site = folder / "site"
    (site / package).mkdir(parents=True, exist_ok=True)
    for name, source in {"__init__.py": "", **modules}.items():
        (site / package / name).write_text(source, encoding="utf-8")
    metadata = site / f"{package}-1.0.dist-info"
    metadata.mkdir(exist_ok=True)
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
    lines = []
    for group, entries in entry_points.items():
        lines += [f"[compress.{group}]", *(f"{name} = {target}" for name, target in entries.items())]
    (metadata / "entry_points.txt").write_text("\n".join(lines) + "\n")
    return Plugin(site, package)
