"""A user's own network: ``path/to/file.py:factory``, imported by path."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

from torch import nn

from compress.core.errors import CompressError, Exit, did_you_mean
from compress.models.registry import accepted

Size = tuple[int, int, int]
_MARK = "__compress_model_folder__"


def is_file_name(name: str) -> bool:
    """Say whether `name` has the form ``FILE.py`` or ``FILE.py:factory``."""
    return name.endswith(".py") or name.rpartition(":")[0].endswith(".py")


def identify(name: str) -> tuple[str, str]:
    """Return ``/absolute/file.py:factory`` and the SHA-256 of the file's text.

    Raises:
        CompressError: the file is missing, or no factory is named.
    """
    path, factory = _split(name)
    return f"{path}:{factory}", _sha256(path)


def build(name: str, num_classes: int, input_size: Size) -> nn.Module:
    """Import the file and call its factory.

    The factory is called with those of `num_classes`, `in_channels` and `input_size` that it names. While
    the file is imported and the factory runs, the file's folder is on `sys.path`, so that its neighbours
    can be imported.

    Raises:
        CompressError: the file or the factory is missing, the file or the factory fails, or what the
            factory returns is not an `nn.Module`.
    """
    path, word = _split(name)
    with _folder_on_path(path.parent):
        module = _import(path)
        factory = _find(module, path, word)
        try:
            model = factory(**accepted(factory, num_classes, input_size))
        except (Exception, SystemExit) as error:
            raise _failed(f"{path}:{word} raised", error) from error
    if not isinstance(model, nn.Module):
        raise CompressError(
            f"{path}:{word} returned a {type(model).__name__}, not a torch.nn.Module",
            hint="the factory must return the network itself",
            code="model-failed",
        )
    return model


def _split(name: str) -> tuple[Path, str]:
    text, _, factory = name.rpartition(":") if not name.endswith(".py") else (name, "", "")
    path = Path(text).expanduser().absolute()
    if not path.is_file():
        raise CompressError(
            f"model file {text!r} does not exist",
            hint=f"looked for {path}",
            code="missing-file",
            exit=Exit.MISSING,
        )
    if not factory.isidentifier():
        raise CompressError(
            f"{name!r} names no factory",
            hint=f"give {text}:FACTORY, a function in the file that returns the network",
            code="unknown-model",
        )
    return path, factory


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _import(path: Path) -> ModuleType:
    # the same text at the same place is the same module, so its classes stay the same classes
    key = hashlib.sha256(f"{path}\n{_sha256(path)}".encode()).hexdigest()[:16]
    unique = f"compress_model_{key}"
    if unique in sys.modules:
        return sys.modules[unique]
    found = importlib.util.spec_from_file_location(unique, path)
    if found is None or found.loader is None:
        raise CompressError(f"{path} cannot be imported as Python", code="model-failed")
    module = importlib.util.module_from_spec(found)
    sys.modules[unique] = module  # before it runs: dataclasses and pickling look their module up
    try:
        found.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        del sys.modules[unique]
        raise _failed(f"{path} cannot be imported:", error) from error
    return module


def _find(module: ModuleType, path: Path, word: str) -> Callable[..., Any]:
    factory = getattr(module, word, None)
    if callable(factory):
        return factory  # type: ignore[no-any-return]
    own = sorted(
        key
        for key, value in vars(module).items()
        if callable(value) and getattr(value, "__module__", None) == module.__name__
    )
    listing = f"it has {', '.join(own)}" if own else "it defines no function or class"
    raise CompressError(
        f"{path} has no factory {word!r}",
        hint=f"{did_you_mean(word, own)} {listing}".strip(),
        code="unknown-model",
    )


def _failed(what: str, error: BaseException) -> CompressError:
    return CompressError(
        f"{what} {type(error).__name__}: {error}",
        hint="mend the file; --debug shows where it failed",
        code="model-failed",
    )


@contextmanager
def _folder_on_path(folder: Path) -> Iterator[None]:
    """Let the file's neighbours be imported; those of another model's folder do not stand in for them."""
    for name, module in list(sys.modules.items()):
        if vars(module).get(_MARK, folder) != folder:
            del sys.modules[name]
    importlib.invalidate_caches()
    before = set(sys.modules)
    text = str(folder)
    sys.path.insert(0, text)
    try:
        yield
    finally:
        if text in sys.path:
            sys.path.remove(text)
        for name in set(sys.modules) - before:
            top = name.partition(".")[0]
            if (folder / f"{top}.py").is_file() or (folder / top).is_dir():
                vars(sys.modules[name])[_MARK] = folder
