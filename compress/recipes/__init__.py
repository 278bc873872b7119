"""Recipes: complete settings of a training in one TOML file, from papers and from this project.

A recipe gives method, model, data and training settings, and may list the fraction of channels dropped in
each layer. A user's own TOML file works in the same way. Options on the command line have precedence.
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
