"""The command line: what it prints, how it fails, and that it starts without the heavy libraries."""

import json
import os
import runpy
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from huggingface_hub.dataclasses import strict

from hfcontrast import __version__
from hfcontrast.commands import cli
from hfcontrast.commands.arguments import add_recipe_arguments
from hfcontrast.errors import DataError
from hfcontrast.methods import registry
from hfcontrast.methods.base import Method, MethodConfig
from hfcontrast.view import View


@strict
class CliDemoConfig(MethodConfig):
    """Configuration.

    Args:
        widths: Widths of the layers.
    """

    model_type = "hfcontrast_cli_demo"

    widths: list[int] | None = None


class CliDemo(Method):
    """CliDemo (Nobody, 2030): a method
    to be listed.

    More words.
    """

    config_class = CliDemoConfig
    views = (View(name="large", size=96), View(name="small", key="local_pixel_values", count=3, size=32))

    def embed(self, pixel_values):
        return {}

    def objective(self, embeddings):
        return None


@pytest.fixture(autouse=True)
def demo(monkeypatch):
    monkeypatch.setattr(registry, "_in_process", dict(registry._in_process))
    monkeypatch.setenv("COLUMNS", "120")
    return registry.register(CliDemo, "cli-demo")


def test_methods_lists_them(capsys):
    assert cli.main(["methods"]) == 0
    assert "cli-demo" in capsys.readouterr().out
    assert cli.main(["methods", "--json"]) == 0
    assert "cli-demo" in [entry["name"] for entry in json.loads(capsys.readouterr().out)]


def test_methods_explains_one(capsys):
    assert cli.main(["methods", "cli-demo"]) == 0
    out = capsys.readouterr().out
    assert "CliDemo (Nobody, 2030): a method to be listed." in out and "More words" not in out
    row = next(line for line in out.splitlines() if line.strip().startswith("widths"))
    assert row.split() == ["widths", "list[int]", "|", "null", "null", "Widths", "of", "the", "layers."]
    row = next(line for line in out.splitlines() if line.strip().startswith("size"))
    assert row.split() == ["size", "96", "32"]
    assert cli.main(["methods", "cli-demo", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["views"][0] == {"name": "large", "key": "pixel_values", "count": 1, "size": 96}
    assert found["views"][1] == {"name": "small", "key": "local_pixel_values", "count": 3, "size": 32}
    assert found["settings"][0]["default"] is None


def test_schema_goes_to_a_file_or_to_the_screen(capsys, tmp_path):
    assert cli.main(["schema", "--output", str(tmp_path / "schema.json")]) == 0
    written = json.loads((tmp_path / "schema.json").read_text())
    assert "cli-demo" in [item["title"] for item in written["properties"]["method"]["oneOf"]]
    capsys.readouterr()
    assert cli.main(["schema"]) == 0
    assert json.loads(capsys.readouterr().out) == written
    assert cli.main(["schema", "--output", str(tmp_path / "no" / "where")]) == 2
    assert "cannot write" in capsys.readouterr().err


def test_an_explained_error_has_status_2_and_no_traceback(capsys):
    assert cli.main(["methods", "cli-dmeo"]) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith("error: no method 'cli-dmeo' is installed; did you mean 'cli-demo'?")
    assert "Traceback" not in captured.err and captured.out == ""


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["methods", "DINO"], "no method 'DINO' is installed; did you mean 'dino'? Installed: aim, "),
        (["methods", ""], "no method '' is installed; installed: aim, "),
        (["evaluate", "m", "d", "--task", "seperation"], "no evaluator 'seperation' is installed; "),
        (["evaluate", "m", "d", "--task", "KNN"], "did you mean 'knn'? Installed: "),
    ],
)
def test_names_of_plugins_are_suggested(arguments, words, capsys):
    assert cli.main(arguments) == 2 and words in capsys.readouterr().err


def test_any_other_error_keeps_its_traceback(monkeypatch):
    def fail(args):
        raise ZeroDivisionError

    monkeypatch.setattr("hfcontrast.commands.methods.run", fail)
    with pytest.raises(ZeroDivisionError):
        cli.main(["methods"])


def test_a_new_command_is_one_module_and_its_name(monkeypatch, capsys):
    def run(args):
        raise DataError(f"{args.recipe} {args.overrides}")

    module = SimpleNamespace(SUMMARY="a new one", add_arguments=add_recipe_arguments, run=run)
    monkeypatch.setitem(sys.modules, "hfcontrast.commands.new", module)
    monkeypatch.setattr(cli, "COMMANDS", (*cli.COMMANDS, "new"))
    assert cli.main(["new", "r.yaml", "optim.lr=1"]) == 2
    assert capsys.readouterr().err == "error: r.yaml ['optim.lr=1']\n"


def test_overrides_stand_before_and_after_options(capsys):
    args = cli.parse(["bench", "r.yaml", "optim.lr=1", "--seconds", "3", "train.steps=2"])
    assert (args.overrides, args.seconds) == (["optim.lr=1", "train.steps=2"], 3.0)
    with pytest.raises(SystemExit) as caught:
        cli.parse(["train", "r.yaml", "--optim.lr=1"])
    assert caught.value.code == 2 and "--optim.lr=1" in capsys.readouterr().err


def test_the_command_alone_prints_its_help_and_mistyped_commands_the_nearest(capsys):
    assert cli.main([]) == 0
    assert "evaluate a model's features" in capsys.readouterr().out
    for arguments, words in (
        (["trian"], "there is no command 'trian'; did you mean train?"),
        (["xyz"], "there are train, evaluate, "),
        (["methods", "mae", "byol"], "hfcontrast methods: error: unknown arguments: byol"),
        (["compare"], "the following arguments are required: RECIPE\n"),
        (["train", "r.yaml", "--train.batch_size=3"], "write train.batch_size=3\n"),
        (["train", "r.yaml", "--train.batch_size", "3"], "write train.batch_size=VALUE\n"),
    ):
        with pytest.raises(SystemExit) as caught:
            cli.main(arguments)
        assert caught.value.code == 2 and words in capsys.readouterr().err
    with pytest.raises(SystemExit) as caught:
        cli.main(["--version"])
    assert caught.value.code == 0 and capsys.readouterr().out == f"hfcontrast {__version__}\n"


def test_a_narrow_pipe_cuts_no_words(monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "40")
    assert cli.main(["methods", "dino"]) == 0
    out = capsys.readouterr().out
    assert "the width of the " in out and "warmup_teacher_temperature_epochs" in out and "local_pixel_values" in out


def test_train_hands_the_recipe_to_the_trainer_and_returns_its_status(monkeypatch):
    calls = []
    trainer = SimpleNamespace(main=lambda arguments: calls.append(arguments) or 143)
    monkeypatch.setitem(sys.modules, "hfcontrast.run", trainer)
    assert cli.main(["train", "r.yaml", "train.steps=3"]) == 143
    assert calls == [["r.yaml", "train.steps=3"]]


def test_bench_measures_a_checked_recipe(monkeypatch, capsys, tmp_path):
    file = tmp_path / "r.yaml"
    file.write_text("{method: {name: cli-demo}, backbone: timm/resnet18, data: {path: builtin/shapes}}")
    calls = []
    measured = SimpleNamespace(bench=lambda recipe, *rest: calls.append((recipe.train.steps, *rest)))
    monkeypatch.setitem(sys.modules, "hfcontrast.benchmarks.step", measured)
    against = ["--against", "train.precision=bf16", "--against", "optim.name=sgd"]
    assert cli.main(["bench", str(file), "train.steps=4", "--seconds", "2.5", *against]) == 0
    assert calls == [(4, 2.5, ["train.precision=bf16", "optim.name=sgd"])]
    assert cli.main(["bench", str(file), "train.stepz=4"]) == 2
    assert "did you mean 'steps'?" in capsys.readouterr().err


def test_bench_finds_the_recipe_behind_options(monkeypatch, tmp_path):
    file = tmp_path / "r.yaml"
    file.write_text(
        "{method: {name: cli-demo}, backbone: timm/resnet18, data: {path: builtin/shapes}, train: {steps: 1}}"
    )
    calls = []
    measured = SimpleNamespace(bench=lambda recipe, *rest: calls.append((recipe.train.steps, *rest)))
    monkeypatch.setitem(sys.modules, "hfcontrast.benchmarks.step", measured)
    assert cli.main(["bench", "--seconds", "3", str(file), "train.steps=4"]) == 0
    assert calls == [(4, 3.0, None)]


def test_bench_measures_the_losses_without_a_recipe(monkeypatch, capsys):
    calls = []
    measured = SimpleNamespace(bench_losses=lambda *given: calls.append(given))
    monkeypatch.setitem(sys.modules, "hfcontrast.benchmarks.losses", measured)
    assert cli.main(["bench", "--losses"]) == 0
    assert cli.main(["bench", "--losses", "--batch", "64", "--dim", "32", "--seconds", "1"]) == 0
    assert calls == [(None, 128, 60.0), (64, 32, 1.0)]
    for arguments, words in (
        (["bench"], "bench needs a RECIPE to measure; --losses measures the losses without one"),
        (["bench", "r.yaml", "--losses"], "leave out the recipe"),
        (["bench", "--losses", "--against", "optim.lr=1"], "leave out the recipe"),
    ):
        assert cli.main(arguments) == 2
        assert words in capsys.readouterr().err
    with pytest.raises(SystemExit):
        cli.main(["bench", "--losses", "--batch", "0"])
    assert "expected a whole number from 1, got '0'" in capsys.readouterr().err


def test_help_imports_no_deep_learning(tmp_path):
    script = tmp_path / "hfcontrast"  # as pip installs it
    script.write_text("import sys\nfrom hfcontrast.commands.cli import main\nsys.exit(main())\n")
    environment = {**os.environ, "PYTHONPATH": str(Path(cli.__file__).parents[1])}
    command = [sys.executable, "-X", "importtime", str(script), "--help"]
    result = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    imported = {line.rsplit("|", 1)[-1].strip().partition(".")[0] for line in result.stderr.splitlines()}
    assert "argparse" in imported and "methods" in result.stdout
    assert imported & {"torch", "transformers", "datasets", "timm", "rich", "pydantic"} == set()


def test_python_m_hfcontrast_is_the_command(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["-m", "methods", "cli-dmeo"])
    with pytest.raises(SystemExit) as caught:
        runpy.run_module("hfcontrast", run_name="__main__")
    assert caught.value.code == 2 and "no method 'cli-dmeo' is installed" in capsys.readouterr().err


def test_every_command_explains_itself_and_its_arguments(capsys):
    for name in cli.COMMANDS:
        with pytest.raises(SystemExit) as caught:
            cli.main([name, "--help"])
        assert caught.value.code == 0 and cli.command(name).SUMMARY in capsys.readouterr().out


def test_datasets_logs_nothing_beside_our_sentence(tmp_path, capfd):
    import datasets

    from hfcontrast.commands.models import quiet_libraries
    from hfcontrast.data import load_rows

    (tmp_path / "a.json").write_text("{no JSON")
    before = datasets.utils.logging.get_verbosity()
    quiet_libraries()
    try:
        with pytest.raises(DataError, match="a.json"):
            load_rows("json", data_files=str(tmp_path / "*.json"))
    finally:
        datasets.utils.logging.set_verbosity(before)
    assert "Failed" not in capfd.readouterr().err
