"""Puts the top-level folders of recipes and of the methods' pages into the package; all else is in pyproject.toml, which cannot say this beside finding packages."""

from setuptools import find_packages, setup

setup(
    packages=[*find_packages(include=["hfcontrast*"]), "hfcontrast.recipes", "hfcontrast.model_cards"],
    package_dir={"hfcontrast.recipes": "recipes", "hfcontrast.model_cards": "model_cards"},
    package_data={
        "hfcontrast": ["py.typed", "publishing/*.md"],
        "hfcontrast.recipes": ["*.yaml", "*/*.yaml", "*/*/*.yaml"],
        "hfcontrast.model_cards": ["*.md"],
    },
)
