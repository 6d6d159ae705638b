"""AutoConfig and AutoModel know hfcontrast's classes, and import them only when they are asked for."""

import pickle
import subprocess
import sys

import pytest
from transformers import CONFIG_MAPPING, AutoConfig, AutoModel

from hfcontrast.auto_classes import LazyEntries, know_methods
from hfcontrast.encoders.config import OWN
from hfcontrast.encoders.own_architectures import ENCODERS
from hfcontrast.methods import registry

TINY = {"model_type": "resnet", "layer_type": "basic", "hidden_sizes": [8], "depths": [1], "embedding_size": 8}
LIGHT = """
import contextlib, io, os, sys, tempfile

def imported():
    heavy = {"torch", "transformers", "datasets", "accelerate", "timm", "peft", "sklearn", "torchvision", "numba", "evaluate", "scipy", "PIL"}
    return heavy & set(sys.modules)

def methods():
    return {name for name in sys.modules if name.startswith("hfcontrast.methods.")}

import hfcontrast
assert not imported() and "numpy" not in sys.modules, imported()
from hfcontrast.commands.cli import main
with contextlib.redirect_stdout(io.StringIO()) as out:
    assert main(["methods", "dino"]) == 0
assert "out_dim" in out.getvalue() and "local" in out.getvalue()
assert not imported(), imported()
os.chdir(tempfile.mkdtemp())
open("bad.yaml", "w").write("{method: {name: dino, out_dimm: 3}, backbone: timm/resnet18, data: {path: builtin/shapes}, train: {steps: 1}}")
vit = "backbone={model_type: vit, hiden_size: 8}"
dropped = "method={name: dino}"
for arguments in (["bad.yaml"], ["nowhere.yaml"], ["bad.yaml", "backbone={model_type: vit}"], ["bad.yaml", dropped, vit]):
    with contextlib.redirect_stderr(io.StringIO()) as err:
        assert main(["train", *arguments]) == 2
    assert "hidden_size" in err.getvalue() or vit not in arguments, err.getvalue()
    assert not imported(), imported()
open("good.yaml", "w").write("{method: {name: dino}, backbone: timm/resnet18, data: {path: builtin/shapes}, train: {steps: 1}}")
for override, told in {
    "eval={tasks: {knnn: {k: 3}}}": "eval.tasks.knnn: no evaluator 'knnn' is installed; did you mean 'knn'",
    "eval={tasks: {knn: 5}}": "eval.tasks.knn: expected a mapping of its settings, got 5",
    "eval={tasks: {knn: {kk: 3}}}": "eval.tasks.knn.kk: unknown key; did you mean 'k'",
    "eval={tasks: {linear: {strengths: [0.0]}}}": "eval.tasks.linear.strengths.0: expected",
    "eval={tasks: {retrieval: {text_batch_size: 0}}}": "eval.tasks.retrieval.text_batch_size: expected",
    "eval={tasks: {features: {rows: 3}}}": "eval.tasks.features.rows: unknown key",
    "eval={finetune: {epoch: 3}}": "eval.finetune.epoch: unknown key; did you mean 'epochs'",
    "eval={zero_shot: [{templates: [no name]}]}": "eval.zero_shot.0.templates",
    "eval={knn_k: 0}": "eval.knn_k: expected",
    "backbone={model_type: vitt}": "backbone.model_type: transformers has no model_type 'vitt'; did you mean 'vit'",
}.items():
    with contextlib.redirect_stderr(io.StringIO()) as err:
        assert main(["train", "good.yaml", override]) == 2
    assert told in err.getvalue() and not imported(), (told, err.getvalue(), imported())
evaluate = ["evaluate", "no_model", "no_data", "--task"]
for arguments, told in (
    ([*evaluate, "knnn"], "no evaluator 'knnn' is installed; did you mean 'knn'"),
    ([*evaluate, "knn", "--set", "knn.kk=3"], "knn.kk: unknown key"),
):
    with contextlib.redirect_stderr(io.StringIO()) as err:
        assert main(arguments) == 2
    assert told in err.getvalue() and not imported(), (told, err.getvalue(), imported())
with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.suppress(SystemExit):
    main(["evaluate", "--help"])
assert "knn.temperature" in out.getvalue() and "zero-shot.classes" in out.getvalue() and not imported(), imported()
import hfcontrast.losses
assert imported() == {"torch"}, imported()
from transformers import AutoConfig, AutoModel
tiny = {"model_type": "resnet", "layer_type": "basic", "hidden_sizes": [8], "depths": [1], "embedding_size": 8}
model = AutoModel.from_config(AutoConfig.for_model(**tiny))
model.save_pretrained("foreign")
AutoModel.from_pretrained("foreign")
assert not any(name.startswith("hfcontrast.methods.") and "transformers" in vars(sys.modules[name]) for name in methods())
assert "hfcontrast.methods.base" not in methods() and "hfcontrast.encoders.own_architectures" not in sys.modules
import threading
together, found = threading.Barrier(6), []
def ask():
    together.wait()
    found.append(AutoConfig.for_model("hfcontrast_simsiam", backbone_config=tiny).model_type)
threads = [threading.Thread(target=ask) for _ in range(6)]
[thread.start() for thread in threads], [thread.join() for thread in threads]
assert found == ["hfcontrast_simsiam"] * 6, found
method = AutoModel.from_config(AutoConfig.for_model("hfcontrast_simsiam", backbone_config=tiny))
method.save_pretrained("method")
assert type(AutoModel.from_pretrained("method")).__name__ == "SimSiam"
assert not methods() & {"hfcontrast.methods.byol", "hfcontrast.methods.dino", "hfcontrast.methods.mae"}
assert type(AutoModel.from_config(AutoConfig.for_model("small_resnet", depth=18))).__name__ == "SmallResNetModel"
"""


def test_heavy_libraries_are_imported_where_they_are_used():
    done = subprocess.run([sys.executable, "-c", LIGHT], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr


@pytest.fixture
def transformers_first(monkeypatch):
    """As if transformers had been imported, and hfcontrast had not."""
    monkeypatch.setattr(CONFIG_MAPPING, "_extra_content", {})
    monkeypatch.setattr(AutoModel._model_mapping, "_extra_content", {})
    know_methods()


def test_transformers_may_be_imported_first(transformers_first):
    assert isinstance(CONFIG_MAPPING._extra_content, LazyEntries)
    config = AutoConfig.for_model("hfcontrast_simclr", backbone_config=TINY)
    assert type(AutoModel.from_config(config)).__name__ == "SimCLR"
    know_methods()  # again, as a reload would
    assert "hfcontrast_simclr" in list(CONFIG_MAPPING)


def test_a_class_that_was_imported_by_hand_is_known_too(transformers_first):
    from hfcontrast.methods.vicreg import VICReg, VICRegConfig

    assert VICRegConfig in AutoModel._model_mapping and AutoModel._model_mapping[VICRegConfig] is VICReg


def test_what_is_none_of_ours_imports_nothing(transformers_first, monkeypatch):
    monkeypatch.setattr(registry, "register_model_type", lambda model_type: pytest.fail(f"looked for {model_type}"))
    assert "vit" in CONFIG_MAPPING and "no_such_model" not in CONFIG_MAPPING and 3 not in CONFIG_MAPPING
    assert object not in AutoModel._model_mapping
    with pytest.raises(KeyError):
        CONFIG_MAPPING["no_such_model"]


def test_an_unknown_model_type_is_unknown_to_transformers(transformers_first):
    with pytest.raises(ValueError, match="hfcontrast_no_such_method"):
        AutoConfig.for_model("hfcontrast_no_such_method")
    assert "hfcontrast_no_such_method" not in CONFIG_MAPPING


def test_the_tables_and_configurations_are_pickled(transformers_first):
    config = AutoConfig.for_model("hfcontrast_simclr", backbone_config=TINY, temperature=0.3)
    assert pickle.loads(pickle.dumps(config)).temperature == 0.3
    table = pickle.loads(pickle.dumps(CONFIG_MAPPING))
    assert table["hfcontrast_simclr"] is type(config) and "vit" in table


def test_own_architectures_are_all_known():
    assert set(OWN) == {config.model_type for config in ENCODERS}
