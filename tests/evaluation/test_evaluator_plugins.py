"""Evaluators as plugins: a package can add one, a broken one does not hide the others, and their contract suite."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from datasets import DatasetDict
from pydantic import Field
from torch.nn import functional as F

from hfcontrast import entry_points
from hfcontrast.commands.arguments import DataSource
from hfcontrast.commands.evaluate_model import evaluate_model, table_rows
from hfcontrast.comparison.plan import finished_result, plan
from hfcontrast.comparison.table import summarize, table_cells
from hfcontrast.errors import DataError, PluginError, RecipeError
from hfcontrast.evaluation import registry
from hfcontrast.evaluation.calling import call_evaluate
from hfcontrast.evaluation.feature_rows import FeatureRows
from hfcontrast.evaluation.feature_statistics import FeatureStatistics
from hfcontrast.evaluation.finetune import FineTune
from hfcontrast.evaluation.knn import KNN
from hfcontrast.evaluation.linear_probe import LinearProbe
from hfcontrast.evaluation.online import OnlineEvaluation, Task
from hfcontrast.evaluation.protocol import LABELS, TRAIN, Evaluator, Figure, Scores, Settings
from hfcontrast.evaluation.retrieval_task import RetrievalEvaluator
from hfcontrast.evaluation.rows import prepared_rows
from hfcontrast.evaluation.zero_shot_task import ZeroShotEvaluator
from hfcontrast.recipe import json_schema, load_recipe
from hfcontrast.recipe.tasks import evaluation_tasks
from hfcontrast.run import run
from hfcontrast.testing import ContractViolation, check_evaluator
from tests.evaluation.conftest import colored, tiny_clip, tiny_processor

FIXTURE = Path(__file__).parents[1] / "fixtures" / "plugin_evaluator"
RECIPE = """
method: {name: simclr, projection_dim: 16}
backbone: {model_type: resnet, embedding_size: 8, hidden_sizes: [8, 16], depths: [1, 1], layer_type: basic}
views: {view: {size: 16}}
data: {path: builtin/digits, split: "train[:96]", workers: 0}
train: {batch_size: 32, steps: 2, log_every: 1, device: cpu}
eval:
  every: 1
  max_train: 48
  max_test: 32
  tasks: {prototypes: {metric: euclidean}, knn: {k: 5}}
"""


@pytest.fixture
def plugin(tmp_path, monkeypatch):
    """Makes distributions that declare evaluators, and forgets them after the test."""
    for name in ("_in_process", "_made", "_warned"):
        monkeypatch.setattr(registry, name, getattr(registry, name).copy())

    def make(distribution, *lines, version="1.0", **modules):
        site = tmp_path / "sites" / distribution
        info = site / f"{distribution.replace('-', '_')}-{version}.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: {version}\n")
        (info / "entry_points.txt").write_text("\n".join(["[hfcontrast.evaluators]", *lines, ""]))
        for name, source in modules.items():
            (site / f"{name}.py").write_text(source)
        monkeypatch.syspath_prepend(site)
        return site

    return make


@pytest.fixture
def prototypes(plugin):
    """The fixture package, as if it were installed."""
    line = next(
        line for line in (FIXTURE / "pyproject.toml").read_text().splitlines() if line.startswith("prototypes =")
    )
    site = plugin("hfcontrast-prototypes", line.replace('"', ""), version="0.4.2")
    shutil.copy(FIXTURE / "hfc_prototypes.py", site)


def test_a_package_adds_an_evaluator_to_runs_the_command_tables_and_cards(prototypes, tmp_path, monkeypatch, capsys):
    assert registry.installed()["prototypes"].origin == "hfcontrast-prototypes 0.4.2"
    file = tmp_path / "proto.yaml"
    file.write_text(RECIPE)
    (planned,) = plan([file], ["eval.every=1"], tmp_path / "out")
    assert "uniformity_t: 2.0" in planned.recipe.to_yaml()  # its defaults are written down
    notes = run(planned.recipe)
    keys = ("prototypes_accuracy", "prototypes_uniformity")
    logged = [line["eval"] for line in map(json.loads, (planned.folder / "metrics.jsonl").open()) if "eval" in line]
    assert len(logged) == 2 and all(key in scores for scores in logged for key in keys)
    planned.result = finished_result(planned)
    scores = planned.result["scores"]
    assert scores["trained"] == notes["trained"] == logged[-1] and 0 < scores["trained"]["prototypes_accuracy"] <= 1
    assert all(key in scores[stage] for stage in ("untrained", "raw_pixels") for key in keys)
    headings, rows = table_cells(summarize([planned], []))
    cells = {row[0]: dict(zip(headings, row)) for row in rows}
    assert headings.index("prototype accuracy, %") == headings.index("linear probe, %") + 1
    assert cells["proto"]["prototype accuracy, %"] == f"{100 * scores['trained']['prototypes_accuracy']:.1f}"
    assert cells["proto"]["uniformity"] == f"{scores['trained']['prototypes_uniformity']:.2f}"
    card = " ".join((planned.folder / "README.md").read_text().split())
    assert "Prototypes: the nearest class mean by euclidean distance." in card
    assert "| features | kNN accuracy | linear probe | prototype accuracy |" in card and "k = 5" in card
    assert "name: prototype accuracy" in card
    assert "prototype accuracy" in capsys.readouterr().out
    with pytest.raises(RecipeError, match="eval.tasks.prototypes.metric: expected one of 'cosine', 'euclidean'"):
        load_recipe(file, ["eval.tasks.prototypes.metric=cosin"])

    source = DataSource("builtin/digits")
    settings = {"prototypes": {"metric": "euclidean"}}
    report = evaluate_model(
        str(planned.folder), source, tasks=["prototypes"], settings=settings, limit=64, train_split="train[:96]"
    )
    found = report["scores"]["prototypes"]
    assert found.keys() == {"accuracy", "uniformity", "classes", "metric", "uniformity_t"} and found["classes"] == 10
    row = next(row for row in table_rows(report["scores"]) if row[:2] == ("prototypes", "accuracy"))
    assert row[2] == f"{100 * found['accuracy']:.1f} %"
    assert json_schema({})["$defs"]["EvalSection"]["properties"]["tasks"]["properties"]["prototypes"]


def test_the_fixture_follows_the_papers_and_the_contract(prototypes):
    evaluator = registry.get_evaluator("prototypes")
    check_evaluator(type(evaluator))
    module = __import__(type(evaluator).__module__)
    x = F.normalize(torch.randn(6, 4, dtype=torch.float64), dim=1)
    pairs = [torch.exp(-2 * (x[i] - x[j]).square().sum()) for i in range(6) for j in range(i + 1, 6)]
    assert module.uniformity(x, 2) == pytest.approx(float(torch.stack(pairs).mean().log()))
    train, labels = torch.tensor([[0.0, 0.0], [2.0, 0.0], [10.0, 0.0]]), torch.tensor([3, 3, 7])
    test = torch.tensor([[0.5, 0.0], [8.0, 0.0], [5.0, 1.0], [1.0, 0.0]])
    assert module.prototype_accuracy(train, labels, test, torch.tensor([3, 7, 7, -1]), "euclidean") == pytest.approx(
        2 / 3
    )


def test_an_installation_older_than_its_source_says_what_it_leaves_out(tmp_path, monkeypatch):
    (tmp_path / "pyproject.toml").write_text(
        '[project]\nname = "hfcontrast"\nentry-points."hfcontrast.evaluators" = {knn = "a:B", new = "a:C"}\n'
    )
    source = tmp_path / "pyproject.toml"
    told = entry_points.undeclared("hfcontrast.evaluators", ["knn", "other"], source)
    assert "does not declare the evaluators new, which are left out: install it again" in told
    assert entry_points.undeclared("hfcontrast.evaluators", ["knn", "new"], source) is None
    assert entry_points.undeclared("hfcontrast.methods", [], source) is None
    assert entry_points.undeclared("hfcontrast.evaluators", [], tmp_path / "none.toml") is None
    monkeypatch.setattr(registry, "undeclared", lambda group, entries: "the evaluators new are left out")
    monkeypatch.setattr(registry, "_warned", set())
    with pytest.warns(UserWarning, match="the evaluators new are left out"):
        registry.evaluators()


def test_what_is_wrong_with_one_hides_no_other(plugin):
    plugin("plug-bad", "no entry point", "bad-import = plug_bad_import:X", plug_bad_import="import not_there_at_all")
    plugin("plug-one", "twice = plug_one:X", version="1.1")
    plugin("plug-two", "twice = plug_two:X", version="2.2")
    plugin("plug-none", "no-evaluator = plug_none:X", plug_none="class X: ...")
    with pytest.warns(UserWarning) as caught:
        known = registry.evaluators()
    assert list(known) == ["knn", "linear", "finetune", "zero-shot", "retrieval", "label-free", "features"]
    told = "\n".join(str(item.message) for item in caught)
    for words in ("No module named 'not_there_at_all'", "is malformed", "expected a subclass of hfcontrast.evaluation"):
        assert words in told
    with pytest.raises(PluginError, match="(?=.*plug-one 1.1)(?=.*plug-two 2.2)(?=.*uninstall)"):
        registry.get_evaluator("twice")
    with pytest.raises(PluginError, match="no evaluator 'knnn' is installed; did you mean 'knn'"):
        registry.get_evaluator("knnn")
    with pytest.raises(PluginError, match="the name 'knn' belongs to the installed"):
        registry.register(type("Other", (KNN,), {}))


def clip_rows():
    """A tiny CLIP with images, labels and captions."""
    from hfcontrast.data.sources import rows_of

    data = colored(30)
    rows = rows_of(data, len(data), "colors", captioned=True, caption_column="captions")
    prepared = prepared_rows(
        None, rows, tiny_processor(), size=16, batch_size=7, max_train=None, max_test=None, tokenizer=tiny_processor()
    )
    return tiny_clip(), prepared


QUICK = {"epochs": 1, "batch_size": 16}


@pytest.mark.parametrize(
    "evaluator, settings, make",
    [
        (KNN, {"k": 3}, None),
        (LinearProbe, {}, None),
        (FineTune, QUICK, None),
        (FeatureStatistics, {}, None),
        (ZeroShotEvaluator, {}, clip_rows),
        (RetrievalEvaluator, {}, clip_rows),
    ],
)
def test_built_in_evaluators_follow_the_contract(evaluator, settings, make):
    check_evaluator(evaluator, settings, make)


class Plain(Evaluator):
    """Mean of the features' absolute values."""

    name = "plain"
    figures = (Figure("mean", "mean", "number", headline=True, low=0.0),)

    def evaluate(self, encoder, rows, settings):
        return Scores({"mean": float(rows.test_features(encoder)[0].abs().mean())})


def draws(self, encoder, rows, settings):
    return Scores({"mean": float(torch.rand(1))})


def changes_modes(self, encoder, rows, settings):
    encoder.eval()
    return Plain.evaluate(self, encoder, rows, settings)


def changes_weights(self, encoder, rows, settings):
    next(encoder.parameters()).data.add_(1)
    return Plain.evaluate(self, encoder, rows, settings)


def of_one_process(self, encoder, rows, settings):
    return Scores({"mean": float(sum(len(labels) for _, labels in rows.test()))})


def by_order(self, encoder, rows, settings):
    _, train_labels, test, labels = rows.labeled_features(encoder)
    return Scores({"mean": float((train_labels[: len(labels)] == labels).double().mean())})


def test_reported_settings_under_their_old_name_keep_working():
    with pytest.warns(FutureWarning, match="Former: told is called reported_settings now") as caught:

        class Former(Plain):
            def told(self, settings):
                return {"k": 3}

    assert Former().reported_settings(Settings()) == {"k": 3} and caught[0].filename == __file__
    with pytest.warns(FutureWarning, match="told is called reported_settings now"):
        assert Plain().told(Settings()) == {}


class Bare(Settings):
    """Settings without a description."""

    k: int = 3


@pytest.mark.parametrize(
    "body, words",
    [
        ({"evaluate": draws}, "drew from torch's global random state"),
        ({"evaluate": lambda *_: Scores({"mean": float(np.random.rand())})}, "drew from numpy's global random state"),
        ({"evaluate": changes_modes}, "changed the encoder's modes"),
        ({"evaluate": changes_weights}, "evaluating changed .* of the encoder"),
        ({"evaluate": lambda *_: Scores({"median": 1.0})}, "figure 'median' is not declared; declared are mean"),
        ({"evaluate": lambda *_: Scores({"mean": float("nan")})}, "figure 'mean' is nan"),
        ({"evaluate": lambda *_: Scores({"mean": -1.0})}, "figure 'mean' is -1.0, declared between 0.0 and None"),
        ({"evaluate": lambda *_: {"mean": 1.0}}, "returned dict, expected Scores"),
        ({"evaluate": of_one_process}, "process 0 of 2 has mean 12.0, one process 23.0"),
        ({"settings_class": Bare}, "its setting 'k' needs a default and a description"),
        ({"figures": ()}, "has no `figures`"),
        ({"figures": Figure("mean", "mean")}, r"is one Figure, expected a tuple of them: figures = \(Figure"),
        ({"figures": (Figure("mean", "mean", "percent"),)}, "is of kind 'percent', expected 'share' or 'number'"),
        ({"needs": [LABELS]}, r"its `needs` is \['labels'\], expected a set of texts: frozenset\({LABELS}\)"),
        ({"needs": LABELS}, "its `needs` is 'labels', expected a set of texts"),
        ({"needs": frozenset({"labls"})}, "it needs labls, which the suite's rows lack; did you mean 'labels'?"),
        ({"name": "knn"}, "its name 'knn' is that of a built-in evaluator; choose another"),
        ({"figures": (Figure("mean", "mean"),)}, "has 0 headline figures, expected one"),
        ({"needs": frozenset({"mask"})}, "it needs mask, which the suite's rows lack"),
        (
            {
                "evaluate": by_order,
                "figures": (Figure("mean", "mean", headline=True),),
                "of_pixels": True,
                "needs": frozenset({TRAIN, LABELS}),
            },
            "figure 'mean' is 1.0 of equal features in 4 classes, expected chance",
        ),
    ],
)
def test_the_suite_finds(body, words):
    body = {"__module__": __name__, "__doc__": "An evaluator.", **body}
    with pytest.raises(ContractViolation, match=words):
        check_evaluator(type("Wrong", (Plain,), body))


@pytest.mark.parametrize(
    "evaluate, words, cause",
    [
        (lambda *_: [][3], r"'plain': evaluate\(\) raised IndexError: list index out of range \(line", IndexError),
        (lambda *_: torch.ones(2) @ torch.ones(3), "'plain': evaluate.* raised RuntimeError: ", RuntimeError),
        (lambda *_: {"mean": 1.0}, "'plain': evaluate.* returned dict, expected Scores", type(None)),
        (lambda *_: Scores({"median": 1.0}), "returned the figure 'median', declared are mean", type(None)),
    ],
)
def test_an_exception_of_evaluate_is_reported_with_the_evaluators_name(evaluate, words, cause):
    evaluator = type("Wrong", (Plain,), {"__module__": __name__, "evaluate": evaluate})()
    with pytest.raises(PluginError, match=words) as told:
        OnlineEvaluation(unused_rows(), {"plain": Task(evaluator, Settings())})(None)
    assert isinstance(told.value.__cause__, cause) and "\n" not in str(told.value)


def unused_rows():
    """Rows that no evaluator of the test looks at."""
    return FeatureRows(None, (torch.ones(2, 2), torch.zeros(2)))


def test_what_is_no_mistake_of_an_evaluator_passes():
    for error in (DataError("the data are gone"), OSError("disk full"), MemoryError("out of memory")):

        def evaluate(*_, error=error):
            raise error

        evaluator = type("Failing", (Plain,), {"__module__": __name__, "evaluate": evaluate})()
        with pytest.raises(type(error), match=str(error)):
            call_evaluate(evaluator, None, unused_rows(), Settings())


def test_a_task_that_is_asked_for_must_be_possible(tmp_path, monkeypatch):
    monkeypatch.setattr("hfcontrast.training.build.check_same_data", None)  # nothing expensive is reached
    recipe = tmp_path / "r.yaml"
    recipe.write_text(RECIPE.replace("{prototypes: {metric: euclidean}, knn: {k: 5}}", "{retrieval: {}, linear: {}}"))
    text = (
        recipe.read_text()
        .replace("path: builtin/digits", f"path: {tmp_path / 'data'}")
        .replace('split: "train[:96]", ', "")
    )
    bare = colored(48).select_columns(["image", "number"]).rename_column("number", "size_of_it")
    bare.save_to_disk(tmp_path / "data")
    bare.add_column("label", [-1] * 48).save_to_disk(tmp_path / "none")
    DatasetDict(train=bare.add_column("label", [-1] * 48), test=bare.add_column("label", [0, 1] * 24)).save_to_disk(
        tmp_path / "only_test"
    )
    recipe.write_text(text)
    for folder in ("data", "none", "only_test"):
        with pytest.raises(
            DataError, match="has no labels, which eval.tasks.linear needs: name their column in data.label_column"
        ):
            run(load_recipe(recipe, [f"data.path={tmp_path / folder}", f"train.output={tmp_path / 'out'}"]))


def test_an_evaluator_of_every_run_that_is_named_must_be_possible_too(tmp_path):
    text = RECIPE.replace("{prototypes: {metric: euclidean}, knn: {k: 5}}", "{}")
    (tmp_path / "r.yaml").write_text(text)
    with pytest.raises(DataError, match="(has no text tower|without names), which eval.tasks.zero-shot needs"):
        run(load_recipe(tmp_path / "r.yaml", ["eval.tasks={zero-shot: {}}", f"train.output={tmp_path / 'out'}"]))


def test_a_short_form_beside_what_it_is_short_for(tmp_path):
    file, shared = tmp_path / "r.yaml", tmp_path / "common.yaml"
    text = RECIPE.replace("{prototypes: {metric: euclidean}, knn: {k: 5}}", "{}")

    def tasks(own, *overrides, **options):
        file.write_text(text.replace("  tasks: {}", f"  {own}"))
        recipe = load_recipe(file, overrides, **options)
        again = load_recipe(recipe.to_dict())
        found = [
            {name: settings for name, (_, settings) in evaluation_tasks(one.eval).items()} for one in (recipe, again)
        ]
        assert found[0] == found[1]
        return found[0]

    for own, overrides in (
        ("tasks: {knn: {k: 5}}\n  knn_k: 7", ()),
        ("tasks: {}", ("eval.tasks.knn.k=5", "eval.knn_k=7")),
    ):
        with pytest.raises(RecipeError, match="eval.knn_k: is 7, and eval.tasks.knn.k, which it is short for, 5: keep"):
            tasks(own, *overrides)
    with pytest.raises(RecipeError, match="eval.finetune: is .*eval.tasks.finetune, which it is short for"):
        tasks("tasks: {finetune: {epochs: 3}}\n  finetune: {epochs: 4}")
    with pytest.raises(RecipeError, match="eval.finetune: is true, and eval.tasks.finetune, .*, false: keep one"):
        tasks("tasks: {finetune: false}\n  finetune: true")
    assert tasks("tasks: {knn: {k: 5}}\n  knn_k: 7", former=True)["knn"].k == 5  # of a run of before
    assert tasks("tasks: {knn: {k: 5}}\n  knn_k: 5")["knn"].k == 5
    assert tasks("knn_k: 7", "eval.tasks.knn.k=5")["knn"].k == 5
    assert tasks("tasks: {knn: {k: 5}}", "eval.knn_k=7")["knn"].k == 7
    assert "finetune" not in tasks("tasks: {finetune: {}}", "eval.finetune=false")
    both = tasks("tasks: {finetune: {epochs: 3}}\n  finetune: {lr: 0.01}")["finetune"]
    assert (both.epochs, both.lr) == (3, 0.01)
    shared.write_text("eval: {finetune: {epochs: 4}}")
    assert tasks("tasks: {finetune: {epochs: 3}}", common=shared)["finetune"].epochs == 3


def test_figures_have_a_declaration_by_their_keys():
    keys = ["zero_shot_texture and color", "feature_std", "knn_accuracy", "of_another_version", "zero_shot_label"]
    found = registry.figures_of(keys)
    assert [*found] == [
        "knn_accuracy",
        "zero_shot_label",
        "zero_shot_texture and color",
        "feature_std",
        "of_another_version",
    ]
    assert found["zero_shot_texture and color"][1].title == "zero-shot texture and color"
    assert found["of_another_version"][0] is None


def test_a_setting_of_before_is_a_short_form():
    from hfcontrast.recipe.sections import EvalSection
    from hfcontrast.recipe.tasks import evaluation_tasks

    def tasks(**given):
        return {name: settings for name, (_, settings) in evaluation_tasks(EvalSection(**given)).items()}

    short = tasks(
        knn_k=5, knn_temperature=0.1, linear_probe=True, finetune={"epochs": 2}, zero_shot=[], retrieval=False
    )
    spelled = {"knn": {"k": 5, "temperature": 0.1}, "linear": {}, "finetune": {"epochs": 2}}
    assert tasks(tasks={**spelled, "zero-shot": False, "retrieval": False}) == short
    assert [*short] == ["knn", "linear", "finetune", "label-free", "features"]
    assert tasks(knn_k=5, tasks={"knn": {"temperature": 0.2}})["knn"].model_dump() == {"k": 5, "temperature": 0.2}
    assert tasks(knn_k=5, tasks={"knn": {"k": 7}})["knn"].k == 7
    assert "linear" not in tasks(linear_probe=True, tasks={"linear": False}) and "linear" in tasks(
        tasks={"linear": None}
    )
    with pytest.raises(PluginError, match="no evaluator 'lineer' is installed"):
        tasks(tasks={"lineer": {}})


class Described(Settings):
    """Settings."""

    size: int = Field(3, description="A size.")


def test_settings_are_typed_and_frozen():
    with pytest.raises(ValueError, match="size"):
        Described(size="3")
    with pytest.raises(ValueError, match="sise"):
        Described(sise=3)
