"""Declarations read from sources: equal to those of the imported classes, and left to the import where the source is not plain."""

import sys
import textwrap

import pytest

from hfcontrast.commands.methods import describe_method
from hfcontrast.entry_points import PluginEntry
from hfcontrast.methods import registry
from hfcontrast.methods.contract import source
from hfcontrast.recipe.resolving import check_declared

PLAIN = """
from typing import Literal
from huggingface_hub.dataclasses import strict
import a_heavy_library
from hfcontrast import Method, MethodConfig, View
_SIZE = 48
_COLOR = {{"hue": 0.1}}
{before}
@strict
class ReadConfig(MethodConfig):
    '''Configuration.

    Args:
        width: In units.
    '''
    model_type = "hfcontrast_read_me"
    width: int = 16
    kind: Literal["a", "b"] = "a"
    def validate_width(self):
        '''It is a width.'''
        if self.width < 1:
            raise ValueError(f"width is {{self.width}}, expected 1 or more")
    def validate_encoder(self):
        '''Of the encoder.'''
        if self.backbone_config.hidden_size < 1:
            raise ValueError("too narrow")
    {within}
class Read(Method):
    '''Read (Nobody, 2030): a method.'''
    config_class = ReadConfig
    views = (View(size=_SIZE, **_COLOR),)
    def embed(self, pixel_values): return a_heavy_library.call(pixel_values)
    def objective(self, embeddings): return None
{after}
"""


@pytest.fixture
def written(tmp_path, monkeypatch):
    """Writes a module that cannot be imported, as a library is missing; returns its entry point."""
    monkeypatch.syspath_prepend(tmp_path)

    def write(before="", within="pass", after=""):
        (tmp_path / "read_me.py").write_text(textwrap.dedent(PLAIN.format(before=before, within=within, after=after)))
        return PluginEntry("read-me", "read_me:Read", "plug-read", "1.0")

    yield write
    sys.modules.pop("read_me", None)


@pytest.mark.parametrize("name", sorted(name for name in registry.installed() if "_demo" not in name))
def test_what_is_read_is_what_the_class_declares(name):
    entry = registry.installed()[name]
    if entry.distribution != "hfcontrast":
        pytest.skip("registered by another test")
    read = source.read(entry)
    assert describe_method(name, read) == describe_method(name, registry.get_method(name))
    assert read.model_type == registry.get_method(name).config_class.model_type


def test_fields_that_every_configuration_has_are_read_as_they_are(monkeypatch):
    imported = source.inherited_fields.__wrapped__()
    monkeypatch.delitem(sys.modules, "transformers.configuration_utils")
    assert source.inherited_fields.__wrapped__() == imported


def test_a_plugin_is_read_without_its_libraries(written):
    found = describe_method("read-me", source.read(written()))
    assert found["summary"] == "Read (Nobody, 2030): a method."
    assert found["settings"] == [
        {"name": "width", "type": "int", "default": 16, "meaning": "In units.", "validity": "It is a width."},
        {"name": "kind", "type": "'a' | 'b'", "default": "a", "meaning": "", "validity": ""},
    ]
    assert found["views"] == [{"name": "view", "count": 1, "size": 48, "hue": 0.1}]


def test_a_recipe_is_checked_against_what_is_read(written, monkeypatch):
    entry = written()
    monkeypatch.setattr(registry, "installed", lambda: {"read-me": entry})
    values = {"method": {"name": "read-me", "width": 0, "kid": "a"}, "views": {"view": {"sise": 3}}}
    assert {".".join(problem.path) for problem in check_declared(values, ())} == {
        "method.kid",
        "method.width",
        "views.view.sise",
    }
    assert check_declared({"method": {"name": "read-me", "width": 2}}, ()) == []


@pytest.mark.parametrize(
    "changes",
    [
        {"after": "Read.views = ()"},
        {"after": "change(Read)"},
        {"after": "done = change(Read)"},
        {"after": "def change():\n    Read.views = ()\ndone = change()"},
        {
            "before": "class Base(Method):\n    def __init_subclass__(cls): cls.views = ()",
            "after": "class Other(Base):\n    'Other.'\n    config_class = ReadConfig\nRead = Other",
        },
        {"after": "if True:\n    class Read(Method): pass"},
        {"before": "def change(cls): return cls\n@change"},
        {"within": "other: int = a_heavy_library.number()"},
        {"before": "from a_heavy_library import View"},
        {"before": "from __future__ import annotations", "after": "def Read(): pass"},
        {"after": "class"},
    ],
    ids=str,
)
def test_what_is_not_plain_is_not_guessed(written, changes):
    with pytest.raises(source.UnknownSource):
        source.read(written(**changes))
