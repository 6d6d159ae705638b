"""The registry: listing without importing, and broken plugins of every kind."""

import importlib
import os
import shutil
import subprocess
import sys
import textwrap
import warnings
from pathlib import Path

import pytest
from transformers import CONFIG_MAPPING, MODEL_MAPPING, AutoConfig, AutoModel

from hfcontrast.errors import PluginError
from hfcontrast.methods import registry
from hfcontrast.recipe.checking import find_method
from hfcontrast.signals import Interrupted

ROOT = Path(__file__).parents[2]
FIXTURE = ROOT / "tests" / "fixtures" / "plugin_method"

METHOD = '''
from huggingface_hub.dataclasses import strict
from hfcontrast.methods.base import Method, MethodConfig
from hfcontrast.view import View

@strict
class {name}Config(MethodConfig):
    """Configuration.

    Args:
        margin (float): Distance that is
            enough: in units of the norm.
        kind: Which kind.
    """
    model_type = "hfcontrast_{type}"
    margin: float | int = 1.0
    kind: str | None = None
    sizes: tuple[int, ...] = (1, 2)

    def validate_margin(self):
        """It is not negative."""

class {name}(Method):
    """A method of a plugin."""
    config_class = {name}Config
    views = (View(),)
    def embed(self, pixel_values): return {{}}
    def objective(self, embeddings): return None
'''


@pytest.fixture
def plugin(tmp_path, monkeypatch):
    """Makes distributions that declare methods, and forgets them after the test."""
    for name in ("_in_process", "_claims", "_contested", "_warned"):
        monkeypatch.setattr(registry, name, getattr(registry, name).copy())
    before = set(sys.modules)
    tables = {
        id(table): (table._extra_content, dict(table._extra_content)) for table in (CONFIG_MAPPING, MODEL_MAPPING)
    }

    def make(distribution, entry_points, version="1.0", folder=None, **modules):
        site = tmp_path / (folder or distribution)
        info = site / f"{distribution.replace('-', '_')}-{version}.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: {version}\n")
        lines = [f"{name} = {value}" for name, value in entry_points.items()]
        (info / "entry_points.txt").write_text("\n".join(["[hfcontrast.methods]", *lines, ""]))
        for name, source in modules.items():  # a__b is the module b of the package a, a____init__ that package
            path = site / f"{name.replace('__', '/', 1)}.py"
            path.parent.mkdir(exist_ok=True)
            path.write_text(textwrap.dedent(source))
        monkeypatch.syspath_prepend(site)

    yield make
    for entries, known in tables.values():
        entries.clear()
        entries.update(known)
    for name in set(sys.modules) - before:
        if str(tmp_path) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]


def test_listing_imports_nothing_and_knows_the_distribution(plugin):
    plugin("plug-list", {"reg-listed": "plug_listed:Nothing"}, "2.5", plug_listed="raise SystemExit('imported')")
    assert registry.installed()["reg-listed"] == registry.PluginEntry(
        "reg-listed", "plug_listed:Nothing", "plug-list", "2.5", None
    )
    assert "plug_listed" not in sys.modules


def test_a_method_is_imported_alone_and_known_to_transformers(plugin):
    good = METHOD.format(name="Good", type="reg_good")
    plugin("plug-good", {"reg-good": "plug_good:Good", "reg-other": "plug_other:X"}, plug_good=good, plug_other="x = 1")
    cls = registry.get_method("reg-good")
    assert cls is registry.get_method("reg-good") and cls.__name__ == "Good"
    assert "plug_other" not in sys.modules
    config = AutoConfig.for_model("hfcontrast_reg_good", margin=3)
    assert isinstance(config, cls.config_class) and AutoModel._model_mapping[type(config)] is cls


def test_an_unknown_name_gives_the_nearest_and_what_to_do(plugin):
    plugin("plug-near", {"reg-nearby": "plug_near:X"})
    with pytest.raises(PluginError, match="no method 'reg-neaby' is installed; did you mean 'reg-nearby'.*pip install"):
        registry.get_method("reg-neaby")


def test_a_plugin_that_does_not_import_is_named_and_hides_no_other(plugin):
    plugin("plug-broken", {"reg-broken": "plug_broken:X"}, "0.7", plug_broken="import not_there_at_all")
    plugin("plug-fine", {"reg-fine": "plug_fine:Fine"}, plug_fine=METHOD.format(name="Fine", type="reg_fine"))
    with pytest.raises(
        PluginError, match="'reg-broken' of plug-broken 0.7 .*No module named 'not_there_at_all'"
    ) as caught:
        registry.get_method("reg-broken")
    assert isinstance(caught.value.__cause__, ModuleNotFoundError)
    with pytest.warns(UserWarning, match="plug-broken 0.7"):
        registry.register_all()
    assert AutoConfig.for_model("hfcontrast_reg_fine").model_type == "hfcontrast_reg_fine"


def test_a_name_that_two_distributions_claim_is_refused_with_both_named(plugin):
    plugin("plug-one", {"reg-twice": "plug_one:X"}, "1.1", plug_one="raise SystemExit")
    plugin("plug-two", {"reg-twice": "plug_two:X"}, "2.2", plug_two="raise SystemExit")
    assert registry.installed()["reg-twice"].problem
    with pytest.raises(PluginError, match="(?=.*plug-one 1.1)(?=.*plug-two 2.2)(?=.*uninstall)"):
        registry.get_method("reg-twice")


def test_one_distribution_found_twice_is_no_clash(plugin):
    source = METHOD.format(name="Same", type="reg_same")
    plugin("plug-same", {"reg-same": "plug_same:Same"}, folder="site", plug_same=source)
    plugin("Plug_Same", {"reg-same": "plug_same:Same"}, folder="egg", plug_same=source)
    assert registry.installed()["reg-same"].problem is None
    assert registry.get_method("reg-same").__name__ == "Same"


def test_what_is_installed_counts_and_not_an_older_egg_info_beside_the_source(plugin, tmp_path, monkeypatch):
    plugin("plug-stale", {"reg-new": "plug_stale:New"}, plug_stale=METHOD.format(name="New", type="reg_new"))
    egg = tmp_path / "source" / "plug_stale.egg-info"
    egg.mkdir(parents=True)
    (egg / "PKG-INFO").write_text("Metadata-Version: 2.1\nName: plug-stale\nVersion: 1.0\n")
    (egg / "entry_points.txt").write_text("[hfcontrast.methods]\nreg-old = plug_stale:Old\n")
    monkeypatch.syspath_prepend(egg.parent)
    found = registry.installed()
    assert "reg-new" in found and "reg-old" not in found
    (egg / "PKG-INFO").write_text("Metadata-Version: 2.1\nName: plug-stale\nVersion: 2.0\n")
    found = registry.installed()  # another version before it on the path is what imports see
    assert "reg-old" in found and "reg-new" not in found


def test_a_model_type_that_two_claim_is_refused_for_both(plugin):
    plugin("plug-a", {"reg-a": "plug_a:A"}, plug_a=METHOD.format(name="A", type="reg_shared"))
    plugin("plug-b", {"reg-b": "plug_b:B"}, plug_b=METHOD.format(name="B", type="reg_shared"))
    registry.get_method("reg-a")
    both = "'hfcontrast_reg_shared'(?=.*plug-a 1.0)(?=.*plug-b 1.0)"
    with pytest.raises(PluginError, match=both):
        registry.get_method("reg-b")
    with pytest.raises(PluginError, match=both):
        registry.get_method("reg-a")


def test_a_recipe_meets_every_method_with_its_model_type_before_the_training(plugin, tmp_path):
    """Also where nothing has imported the other one yet, as in the command `hfcontrast`."""
    plugin("plug-c", {"reg-c": "plug_c:C"}, plug_c=METHOD.format(name="C", type="reg_taken"))
    plugin("plug-d", {"reg-d": "plug_d:D"}, plug_d=METHOD.format(name="D", type="reg_taken"))
    (tmp_path / "config.json").write_text('{"model_type": "hfcontrast_reg_taken"}')
    _, problems = find_method("reg-c")
    assert "plug-c 1.0" in problems[0].text and "plug-d 1.0" in problems[0].text
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # it has been said
        assert find_method("reg-d")[1][0].text == problems[0].text
    for load in (AutoConfig.from_pretrained, AutoModel.from_pretrained):  # the saved ones cannot be loaded
        with pytest.raises(
            PluginError, match="'hfcontrast_reg_taken' is claimed by plug_c.C of plug-c 1.0 and by plug_d"
        ):
            load(tmp_path)


def test_a_newcomer_of_this_process_leaves_a_model_type_to_its_owner(plugin):
    plugin("plug-own", {"reg-own": "plug_own:Own"}, plug_own=METHOD.format(name="Own", type="reg_own"))
    owner = registry.get_method("reg-own")
    names = {"__name__": "__main__"}
    exec(METHOD.format(name="Other", type="reg_own"), names)
    with pytest.raises(PluginError, match="plug_own.Own of plug-own 1.0 and by __main__.Other of this process"):
        registry.register(names["Other"], "reg-other-name")
    assert registry.get_method("reg-own") is owner
    assert AutoModel._model_mapping[owner.config_class] is owner


LOOKS_FIRST = "from hfcontrast.methods.registry import register_all\nregister_all()\n"


@pytest.mark.parametrize(
    "value, modules",
    [
        ("plug_circle:Circle", {"plug_circle": LOOKS_FIRST + METHOD}),
        ("plug_circle.deep:Circle", {"plug_circle____init__": LOOKS_FIRST + "X = 1", "plug_circle__deep": "from . import X\n" + METHOD}),
        ("plug_circle:Circle", {"plug_circle____init__": "from .deep import Circle", "plug_circle__deep": LOOKS_FIRST + METHOD}),
        ("plug_circle:other", {"plug_circle": LOOKS_FIRST + METHOD + "class Sub({name}): pass\nother = {name}\n"}),
        ("plug_circle:Circle", {"plug_circle": "import plug_circle_too\n" + METHOD, "plug_circle_too": LOOKS_FIRST}),
    ],
    ids=["module", "package-first", "from-a-module-of-its-own", "by-another-name", "through-a-second-module"],
)  # fmt: skip
def test_a_package_that_is_imported_before_hfcontrast_is_registered_all_the_same(plugin, value, modules):
    modules = {name: source.format(name="Circle", type="reg_circle") if "class" in source else source
               for name, source in modules.items()}  # fmt: skip
    plugin("plug-circle", {"reg-circle": value}, **modules)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        module = importlib.import_module(value.split(":")[0])
        config = AutoConfig.for_model("hfcontrast_reg_circle")
        assert AutoModel._model_mapping[type(config)] is module.Circle
        assert registry.get_method("reg-circle") is module.Circle


def test_a_missing_name_of_hfcontrast_is_no_circle(plugin):
    plugin("plug-typo", {"reg-typo": "plug_typo:X"}, plug_typo="from hfcontrast import Methodd")
    with pytest.warns(UserWarning, match="'reg-typo' of plug-typo 1.0.*Methodd"):
        registry.register_all()


@pytest.mark.parametrize(
    "source, words",
    [
        ("import sys; sys.exit(3)", "SystemExit: 3"),
        ("import pytest; pytest.skip('no GPU', allow_module_level=True)", "Skipped: "),
        ("class Mute(Exception):\n    def __str__(self): raise ValueError\nraise Mute", "Mute: an error that cannot say"),
        ("from hfcontrast import Method\nclass X(Method):\n    abstract = True", "is the class X, which is declared abstract"),
        (METHOD.format(name="X", type="x").replace('"hfcontrast_x"', "None"), "XConfig.model_type is None, expected a name"),
    ],
)  # fmt: skip
def test_a_plugin_that_fails_to_import_hides_no_other(plugin, source, words):
    plugin("a-plug-out", {"a-reg-out": "plug_out:X"}, "1.2", plug_out=source)
    plugin("plug-stays", {"reg-stays": "plug_stays:S"}, plug_stays=METHOD.format(name="S", type="reg_stays"))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        registry.register_all()
    (message,) = [str(item.message) for item in caught if "a-plug-out" in str(item.message)]
    assert "method 'a-reg-out' of a-plug-out 1.2" in message and words in message
    assert AutoConfig.for_model("hfcontrast_reg_stays").model_type == "hfcontrast_reg_stays"


def test_a_signal_during_the_import_of_a_plugin_is_not_the_plugins_fault(plugin):
    source = "from hfcontrast.signals import Interrupted\nraise Interrupted(15, 'stopped')  # as its handler does"
    plugin("plug-stop", {"reg-stop": "plug_stop:X"}, plug_stop=source)
    with pytest.raises(Interrupted, match="stopped"):
        registry.get_method("reg-stop")


@pytest.mark.parametrize(
    "line, name",
    [
        ("reg-odd plug_odd:X", "reg-odd plug_odd:X"),
        ("reg-odd", "reg-odd"),
        ("reg-odd =", "reg-odd"),
        ("= plug_odd:X", "= plug_odd:X"),
        ("reg-odd = plug_odd", "reg-odd"),
        ("reg-odd = plug odd:X", "reg-odd"),
        ("reg-odd = plug-odd:X", "reg-odd"),
        ("reg-odd = plug_odd:", "reg-odd"),
        ("reg-odd = .plug_odd:X", "reg-odd"),
        ("simclr plug_odd:X", "simclr plug_odd:X"),
        ("simclr = plug_odd", "simclr of plug-odd"),
    ],
)
def test_a_malformed_entry_point_is_named_and_hides_no_other(plugin, line, name):
    plugin("plug-odd", {"reg-even": "plug_even:E"}, "4.5", plug_even=METHOD.format(name="E", type="reg_even"))
    file = next(Path(sys.path[0]).glob("*/entry_points.txt"))
    file.write_text(file.read_text() + line + "\n[console_scripts]\nnonsense\n")
    entries = registry.installed()
    assert (
        f"{line!r} is malformed, expected NAME = MODULE:CLASS; repair it, or uninstall plug-odd 4.5"
        in entries[name].problem
    )
    assert entries["simclr"].problem is None and registry.get_method("reg-even").__name__ == "E"
    with pytest.raises(PluginError, match="is malformed"):
        registry.get_method(name)
    with pytest.warns(UserWarning, match="plug-odd 4.5"):
        registry.register_all()


def test_damaged_distributions_hide_no_other(plugin):
    plugin("plug-damaged", {"reg-damaged": "plug_damaged:X"})
    folder = next(Path(sys.path[0]).glob("*.dist-info"))
    (folder / "METADATA").unlink()
    (entry,) = (entry for name, entry in registry.installed().items() if name == "reg-damaged")
    assert entry.problem is None and sys.path[0] in entry.distribution
    (folder / "entry_points.txt").write_bytes("[hfcontrast.methods]\nreg-\xe4 = plug_damaged:X\n".encode("latin-1"))
    (damaged,) = (entry for entry in registry.installed().values() if entry.problem)
    assert "is not UTF-8" in damaged.problem and sys.path[0] in damaged.problem


@pytest.mark.parametrize(
    "source, text",
    [
        ("X = 3", "is an object of type int, expected a subclass of hfcontrast.Method"),
        ("class X: pass", "is the class X, expected a subclass of hfcontrast.Method"),
        ("from hfcontrast.methods.base import Method as X", "is the class Method, expected a subclass"),
        ("Y = 3", "has no attribute 'X'"),
        ("from hfcontrast.methods.base import Method\nclass X(Method): pass", "config_class is"),
        (METHOD.format(name="X", type="x").replace("hfcontrast_x", "vit"), "model_type is 'vit', expected"),
        (METHOD.format(name="X", type="x").replace("def embed", "def embed_"), "does not define embed"),
    ],
)
def test_a_mis_declared_plugin_says_what_is_wrong(plugin, source, text):
    plugin("plug-wrong", {"reg-wrong": "plug_wrong:X"}, "3.0", plug_wrong=source)
    with pytest.raises(PluginError, match="reg-wrong.*plug-wrong 3.0") as caught:
        registry.get_method("reg-wrong")
    assert text in str(caught.value)


def test_a_class_without_an_entry_point_can_be_registered_and_defined_again(plugin):
    source = METHOD.format(name="Notebook", type="reg_notebook")
    first, second = ({"__name__": "__main__"} for _ in range(2))
    exec(source, first)
    registry.register(first["Notebook"])
    exec(source, second)  # the cell is run again
    assert registry.register(second["Notebook"], "reg_notebook") is second["Notebook"]
    assert registry.get_method("reg_notebook") is second["Notebook"]
    assert AutoModel._model_mapping[second["NotebookConfig"]] is second["Notebook"]
    assert registry.installed()["reg_notebook"].distribution is None


def test_a_cell_that_is_run_again_replaces_its_class_by_itself(plugin):
    source = METHOD.format(name="Cell", type="reg_cell")
    first, second, third = ({"__name__": "__main__"} for _ in range(3))
    exec(source, first)
    registry.register(first["Cell"], "my-cell")
    exec(source, second)  # without the cell that registers
    assert registry.get_method("my-cell") is second["Cell"]
    assert AutoModel._model_mapping[type(AutoConfig.for_model("hfcontrast_reg_cell"))] is second["Cell"]
    exec(source.replace("reg_cell", "reg_cell_renamed"), third)
    assert registry.get_method("my-cell") is third["Cell"]
    assert isinstance(AutoConfig.for_model("hfcontrast_reg_cell_renamed"), third["CellConfig"])


@pytest.mark.parametrize("thing, words", [(3, "an object of type int"), (dict, "the class dict")])
def test_only_methods_can_be_registered(thing, words):
    with pytest.raises(PluginError, match=f"{words}, expected a subclass of hfcontrast.Method"):
        registry.register(thing)


def test_a_registered_class_cannot_take_an_installed_name(plugin):
    plugin("plug-owner", {"reg-owned": "plug_owner:X"})
    names = {"__name__": "__main__"}
    exec(METHOD.format(name="Thief", type="reg_thief"), names)
    with pytest.raises(PluginError, match="'reg-owned' belongs to the installed plug_owner:X of plug-owner 1.0"):
        registry.register(names["Thief"], "reg-owned")


def test_the_settings_of_a_method_are_its_own_fields_with_their_meanings(plugin):
    plugin("plug-doc", {"reg-doc": "plug_doc:Doc"}, plug_doc=METHOD.format(name="Doc", type="reg_doc"))
    margin, kind, sizes = registry.method_fields(registry.get_method("reg-doc"))
    assert (margin.name, margin.type_text, margin.default) == ("margin", "float | int", 1.0)
    assert margin.meaning == "Distance that is enough: in units of the norm."
    assert margin.validity == "It is not negative."
    assert (kind.type_text, kind.default, kind.meaning) == ("str | null", None, "Which kind.")
    assert (sizes.type_text, sizes.default, sizes.meaning) == ("tuple[int, ...]", (1, 2), "")


RECIPE = """\
method: {name: alignuniform, projection_dim: 32, uniformity_temperature: 3}
backbone: {model_type: resnet, layer_type: basic, embedding_size: 8, hidden_sizes: [8, 16], depths: [1, 1]}
data: {path: builtin/shapes, split: "train[:256]", workers: 0}
views: {all: {size: 32}}
optim: {lr: 0.001}
train: {steps: 4, batch_size: 32, device: cpu, log_every: 1}
eval: {max_train: 64, max_test: 64, baselines: false}
"""
LOAD = """\
import sys
import hfcontrast
from transformers import AutoModel
method = AutoModel.from_pretrained(sys.argv[1] + "/method")
encoder = AutoModel.from_pretrained(sys.argv[1])
same = all((a == b).all() for a, b in zip(method.encoder.parameters(), encoder.parameters(), strict=True))
print(type(method).__name__, method.config.uniformity_temperature, type(encoder).__name__, same)
"""


def test_an_installed_plugin_is_listed_trained_and_loaded_again(tmp_path):
    source = shutil.copytree(FIXTURE, tmp_path / "source")  # building leaves files behind
    site = tmp_path / "site"
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--target"]
    subprocess.run([*pip, str(site), str(source)], check=True, capture_output=True, text=True)
    (tmp_path / "plugin.yaml").write_text(RECIPE)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(site), str(ROOT)]), "HF_HUB_OFFLINE": "1"}

    def python(*arguments):
        result = subprocess.run(
            [sys.executable, *arguments], cwd=tmp_path, env=environment, capture_output=True, text=True
        )
        assert result.returncode == 0, result.stdout + result.stderr
        return result.stdout

    listed = python("-m", "hfcontrast.commands.cli", "methods", "--json")
    assert '"alignuniform"' in listed and '"hfcontrast-alignuniform"' in listed and '"0.3.1"' in listed
    assert "uniformity_temperature" in python("-m", "hfcontrast.commands.cli", "methods", "alignuniform")
    python("-m", "hfcontrast.run", "plugin.yaml")
    loaded = python("-c", LOAD, str(tmp_path / "outputs" / "plugin"))
    assert loaded.split() == ["AlignUniform", "3", "ResNetModel", "True"]


def test_the_fixture_plugin_follows_the_paper_and_the_contract(plugin, monkeypatch):
    import torch

    module_path = {"alignuniform-here": "hfc_alignuniform:AlignUniform"}
    plugin("plug-fixture", module_path)
    monkeypatch.syspath_prepend(FIXTURE)
    cls = registry.get_method("alignuniform-here")
    module = sys.modules[cls.__module__]
    x, y = (torch.nn.functional.normalize(torch.randn(6, 4, dtype=torch.float64), dim=1) for _ in range(2))
    pairs = [(i, j) for i in range(6) for j in range(i + 1, 6)]
    plain = torch.stack([torch.exp(-2 * (x[i] - x[j]).square().sum()) for i, j in pairs]).mean().log()
    torch.testing.assert_close(module.uniformity(x, 2), plain)
    torch.testing.assert_close(module.alignment(x, y, 2), (x - y).square().sum(1).mean())
    config = cls.config_class(
        backbone_config={"model_type": "resnet", "layer_type": "basic", "hidden_sizes": [8, 16], "depths": [1, 1]}
    )
    model = cls(config)
    output = model(pixel_values=torch.randn(8, 2, 3, 32, 32))
    output.loss.backward()
    assert torch.isfinite(output.loss)
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_warnings_are_the_only_trace_of_a_clash_in_register_all(plugin):
    plugin("plug-x", {"reg-clash": "plug_x:X"}, plug_x="raise SystemExit")
    plugin("plug-y", {"reg-clash": "plug_y:X"}, plug_y="raise SystemExit")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        registry.register_all()
    (message,) = [str(item.message) for item in caught if "reg-clash" in str(item.message)]
    assert "plug-x 1.0" in message and "plug-y 1.0" in message
