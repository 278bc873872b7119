"""Networks by name: what a user may give to ``--model``.

A room for dense networks and nothing else: built-ins are the papers' CIFAR forms, one family a file, each
factory registered under its own name; ``torchvision/NAME``, ``timm/NAME`` and ``path/to/file.py:factory``
come from outside. A factory knows nothing of methods, widths or slicing: it builds the dense network, in
plain `torch.nn` modules that `torch.export` can read.
"""

from __future__ import annotations

from compress.models import densenet, googlenet, mobilenet, resnet, vgg  # noqa: F401  (registers the built-ins)
from compress.models.build import build, build_from_spec, model_spec
from compress.models.registry import list_models, register
from compress.models.weights import load_weights

__all__ = ["build", "build_from_spec", "list_models", "load_weights", "model_spec", "register"]
