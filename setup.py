"""Puts the top-level folder of recipes into the package; all else is in pyproject.toml, which cannot say this beside finding packages."""

from setuptools import find_packages, setup

setup(
    packages=[*find_packages(include=["hfcontrast*"]), "hfcontrast.recipes"],
    package_dir={"hfcontrast.recipes": "recipes"},
    package_data={
        "hfcontrast": ["py.typed", "publishing/*.md"],
        "hfcontrast.recipes": ["*.yaml", "*/*.yaml", "*/*/*.yaml"],
    },
)
