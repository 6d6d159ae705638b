"""Recipes: the typed, strict YAML files that describe a whole run, from the data to the published encoder."""

from .differences import differences
from .recipe import Fingerprint, Recipe, load_recipe
from .schema import json_schema

__all__ = ["Fingerprint", "Recipe", "differences", "json_schema", "load_recipe"]
