"""Dense networks by name: what ``--model`` takes.

Built-in networks are the CIFAR forms used in the papers, one family a file, each factory registered in
`MODELS`. ``torchvision/NAME``, ``timm/NAME`` and ``path/to/file.py:factory`` come from elsewhere. A factory
builds a dense network of plain `torch.nn` modules that `torch.export` can read; it knows nothing of methods,
widths or slicing.
"""

from __future__ import annotations

from compress.models.build import build, build_from_spec, list_models, model_spec
from compress.models.registry import MODELS, ModelEntry
from compress.models.weights import load_weights

__all__ = ["MODELS", "ModelEntry", "build", "build_from_spec", "list_models", "load_weights", "model_spec"]
