"""Old names: moved code is found under its old name, with one warning that gives the new one."""

import importlib
import sys
import warnings

import pytest

import hfcontrast
from hfcontrast import renamed
from hfcontrast.renamed import CONSTANTS, MODULES, NAMES, said_to_children, warnings_as_lines


@pytest.mark.parametrize("old, new", MODULES.items())
def test_an_old_module_is_the_new_one(old, new):
    sys.modules.pop(f"hfcontrast.{old}", None)
    with pytest.warns(FutureWarning, match=f"hfcontrast.{old} is called hfcontrast.{new} now") as caught:
        found = importlib.import_module(f"hfcontrast.{old}")
    assert caught[0].filename == importlib.__file__ or caught[0].filename == __file__
    assert found is importlib.import_module(f"hfcontrast.{new}")
    assert found.__spec__.name == found.__name__ == f"hfcontrast.{new}"


@pytest.mark.parametrize("old, new", NAMES.items())
def test_an_old_name_is_the_new_one(old, new):
    room, _, name = old.rpartition(".")
    home, _, new_name = new.rpartition(".")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its module may have moved too
        module = importlib.import_module(f"hfcontrast.{room}")
    with pytest.warns(FutureWarning, match=f"hfcontrast.{old} is called hfcontrast.{new} now") as caught:
        found = getattr(module, name)
    assert [warning.filename for warning in caught] == [__file__]
    assert found is getattr(importlib.import_module(f"hfcontrast.{home}"), new_name)


@pytest.mark.parametrize("old", CONSTANTS)
def test_an_old_constant_is_what_it_was(old):
    room, _, name = old.rpartition(".")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        module = importlib.import_module(f"hfcontrast.{room}")
    with pytest.warns(FutureWarning, match=f"hfcontrast.{old} is used by nothing any more"):
        assert getattr(module, name) == CONSTANTS[old]


def test_an_old_name_is_imported_from_its_old_module():
    with pytest.warns(FutureWarning, match="hfcontrast.nn.standardised.StandardisedLinear is called"):
        from hfcontrast.nn.standardised import StandardisedLinear
    assert StandardisedLinear is hfcontrast.nn.StandardizedLinear


def test_new_names_do_not_warn_and_unknown_ones_are_errors():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        from hfcontrast.nn import MLPHead  # noqa: F401
    with pytest.raises(AttributeError, match="hfcontrast.nn"):
        hfcontrast.nn.NoSuchName  # noqa: B018
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("hfcontrast.nn.no_such_module")


def test_an_old_module_is_run_by_python_m(monkeypatch, capsys):
    (finder,) = (one for one in sys.meta_path if type(one).__module__ == "hfcontrast.old_modules")
    with pytest.warns(FutureWarning, match="hfcontrast.cli is called hfcontrast.commands.cli now"):
        code = finder.get_code("hfcontrast.cli")
    monkeypatch.setattr(sys, "argv", ["hfcontrast", "--version"])
    with pytest.raises(SystemExit, match="0"):
        exec(code, {})
    assert hfcontrast.__version__ in capsys.readouterr().out


def test_a_process_repeats_no_warning_of_the_one_that_has_started_it(monkeypatch, capsys):
    monkeypatch.setattr(renamed, "_said", {})
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        with warnings_as_lines():
            renamed.warn("first", "new")
        assert len(capsys.readouterr().err.splitlines()) == 1
        for name, value in said_to_children().items():
            monkeypatch.setenv(name, value)
        with warnings_as_lines():
            renamed.warn("first", "new")
            renamed.warn("second", "new")
    assert capsys.readouterr().err == "warning: second is called new now; the old name works until hfcontrast 0.3\n"
