"""Mistakes on the command line are one sentence, before a model or data is loaded."""

import json
import logging

import pytest

from hfcontrast.commands import cli
from hfcontrast.commands import embed_data as module
from hfcontrast.commands.arguments import as_options, naming_options
from hfcontrast.errors import HFContrastError


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["--batch-size", "9" * 30], "--batch-size: expected a whole number below 2147483648"),
        (["--limit", "2147483648"], "--limit: expected a whole number below 2147483648"),
        (["--device", "nix"], "device 'nix' cannot be used: "),
        (["--device", "meta"], "device 'meta' cannot be used: "),
        (["--templates", "~nobody-of-that-name/x"], "templates '~nobody-of-that-name/x' are neither"),
    ],
)
def test_options_are_checked_before_a_model_is_loaded(arguments, words, capsys):
    try:
        code = cli.main(["evaluate", "no/model", "builtin/shapes", *arguments])
    except SystemExit as stop:  # argparse
        code = stop.code
    assert code == 2 and words in capsys.readouterr().err


@pytest.mark.parametrize("text", ["nan", "inf", "0", "-1", "soon"])
def test_bench_measures_for_a_time_that_ends(text, capsys):
    with pytest.raises(SystemExit):
        cli.main(["bench", "recipe.yaml", "--seconds", text])
    assert "--seconds: expected a number of seconds above 0" in capsys.readouterr().err


@pytest.mark.parametrize("content", ["[1]", '{"parts": 3}', "{}", '"text"', "null", "{", b"\xff\xfe"])
def test_a_manifest_of_another_program_is_refused(content, tmp_path):
    (tmp_path / module.MANIFEST).write_bytes(content if isinstance(content, bytes) else content.encode())
    if content == "null":
        assert module.continue_manifest(tmp_path, {"a": 1})["parts"] == []
        assert json.loads((tmp_path / module.MANIFEST).read_text())["options"] == {"a": 1}
        return
    with pytest.raises(HFContrastError) as error:
        module.continue_manifest(tmp_path, {"a": 1})
    assert str(tmp_path) in str(error.value)


def test_sentences_about_data_name_the_options_of_a_command():
    for sentence, said in [
        ("its columns are a: set image_column", "its columns are a: set --image-column"),
        ("not opened, unless data.open_addresses is true", "not opened, unless --open-addresses is given"),
        ("set data.path=csv and data.data_files=/data_files/a.csv", "set PATH=csv and --data-files /data_files/a.csv"),
        ("column 'image_column' is missing", "column 'image_column' is missing"),
    ]:
        assert as_options(sentence) == said


def test_warnings_about_data_name_the_options_of_a_command(caplog):
    logger = logging.getLogger("hfcontrast.data.labels")
    for wanted in (True, False, True):
        with naming_options(wanted):
            logger.warning("%d %% of %s; data.label_column=%s insists", 5, "data.path", "a")
    logger.warning("set data.label_column")
    option, setting = "5 % of PATH; --label-column a insists", "5 % of data.path; data.label_column=a insists"
    assert caplog.messages == [option, setting, option, "set data.label_column"]
