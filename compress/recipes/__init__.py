"""The papers' settings and ours, one TOML file each; a user's own file works the same way.

A recipe names method, model and data, fixes the training, and may list the fraction that is dropped of each
layer. Flags given on the command line win over it.
"""

from compress.recipes.load import Launch, Published, Recipe, list_recipes, load, widths_from_drop_rates
from compress.recipes.measured import Measured, describe_recipe, load_measured, save_measured

__all__ = [
    "Launch",
    "Measured",
    "Published",
    "Recipe",
    "describe_recipe",
    "list_recipes",
    "load",
    "load_measured",
    "save_measured",
    "widths_from_drop_rates",
]
