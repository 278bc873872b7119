"""The papers' settings and ours, one TOML file each; a user's own file works the same way.

A recipe names method, model and data, fixes the training, and may list the fraction that is dropped of each
layer. Flags given on the command line win over it.
"""

from compress.recipes.load import Launch, Published, Recipe, load, names, widths
from compress.recipes.measured import Measured, listed, measured, write_measured

__all__ = [
    "Launch",
    "Measured",
    "Published",
    "Recipe",
    "listed",
    "load",
    "measured",
    "names",
    "widths",
    "write_measured",
]
