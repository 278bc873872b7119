"""Networks from a user's Python file: ``path/to/file.py:factory``."""

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
from compress.models.registry import Size, supported_arguments

_FOLDER_ATTRIBUTE = "__compress_model_folder__"


def is_file_name(name: str) -> bool:
    """Return whether `name` has the form ``FILE.py`` or ``FILE.py:factory``."""
    return name.endswith(".py") or name.rpartition(":")[0].endswith(".py")


def identify(name: str) -> tuple[str, str]:
    """Return ``/absolute/file.py:factory`` and the SHA-256 of the file's text.

    Raises:
        CompressError: the file is missing, or the name has no factory.
    """
    path, factory = _split(name)
    return f"{path}:{factory}", _sha256(path)


def build(name: str, num_classes: int, input_size: Size) -> nn.Module:
    """Import the file and call its factory.

    The factory is called with those of `num_classes`, `in_channels` and `input_size` that it names. While
    the file is imported and the factory runs, the file's folder is on `sys.path`, so that modules in the
    same folder can be imported.

    Raises:
        CompressError: the file or the factory is missing, the file or the factory fails, or what the
            factory returns is not an `nn.Module`.
    """
    path, factory_name = _split(name)
    with _folder_on_path(path.parent):
        module = _import(path)
        factory = _find_factory(module, path, factory_name)
        try:
            model = factory(**supported_arguments(factory, num_classes, input_size))
        except (Exception, SystemExit) as error:
            raise _failed(f"{path}:{factory_name} raised", error) from error
    if not isinstance(model, nn.Module):
        raise CompressError(
            f"{path}:{factory_name} returned a {type(model).__name__}, not a torch.nn.Module",
            hint="the factory must return the network",
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
            f"{name!r} does not name a factory function",
            hint=f"give {text}:FACTORY, where FACTORY is a function in the file that returns the network",
            code="unknown-model",
        )
    return path, factory


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _import(path: Path) -> ModuleType:
    # the module's name depends on path and text, so that a file that has not changed is imported once only
    key = hashlib.sha256(f"{path}\n{_sha256(path)}".encode()).hexdigest()[:16]
    module_name = f"compress_model_{key}"
    if module_name in sys.modules:
        return sys.modules[module_name]
    spec = importlib.util.spec_from_file_location(module_name, path)
    if spec is None or spec.loader is None:
        raise CompressError(f"{path} cannot be imported as Python", code="model-failed")
    module = importlib.util.module_from_spec(spec)
    sys.modules[module_name] = module  # before it runs: dataclasses look their module up
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        del sys.modules[module_name]
        raise _failed(f"{path} cannot be imported:", error) from error
    return module


def _find_factory(module: ModuleType, path: Path, name: str) -> Callable[..., Any]:
    factory = getattr(module, name, None)
    if callable(factory):
        return factory  # type: ignore[no-any-return]
    defined = sorted(
        key
        for key, value in vars(module).items()
        if callable(value) and getattr(value, "__module__", None) == module.__name__
    )
    listing = f"it has {', '.join(defined)}" if defined else "it defines no function or class"
    raise CompressError(
        f"{path} has no factory {name!r}",
        hint=f"{did_you_mean(name, defined)} {listing}".strip(),
        code="unknown-model",
    )


def _failed(what: str, error: BaseException) -> CompressError:
    return CompressError(
        f"{what} {type(error).__name__}: {error}",
        hint="fix the file; --debug shows the traceback",
        code="model-failed",
    )


@contextmanager
def _folder_on_path(folder: Path) -> Iterator[None]:
    """Put a model file's folder on `sys.path` and forget modules imported from other model folders.

    Two model folders may have modules of the same name, such as ``layers.py``.
    """
    for name, module in list(sys.modules.items()):
        if vars(module).get(_FOLDER_ATTRIBUTE, folder) != folder:
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
                vars(sys.modules[name])[_FOLDER_ATTRIBUTE] = folder
