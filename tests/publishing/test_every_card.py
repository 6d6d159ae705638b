"""The card of every method is valid, complete, and says nothing of the machine that trained."""

import ast
import re
from pathlib import Path

import pytest
from huggingface_hub import EvalResult, ModelCard
from huggingface_hub.repocard_data import eval_results_to_model_index, model_index_to_eval_results
from local_hub import validated

from hfcontrast.publishing.card import build_card
from hfcontrast.publishing.pushed_card import pushed_card
from hfcontrast.training.build import build_training
from tests.training.test_every_method import METHODS, tiny

FOLDER, NAME = "run_of_this_machine", "me/flowers"
DATA = {"name": "builtin/digits", "split": "test", "config": None, "revision": None}
NOTES = {
    "evaluation": {"test_images": 16, "train_images": 32},
    "trained": {"knn_accuracy": 0.5},
    "chance": {"knn_accuracy": 0.1},
    "measured_on": {"test": DATA, "others": {}},
}
SECTIONS = ["Use", "Fine-tune", "Evaluation", "Limits", "How it was trained", "Citation"]


@pytest.mark.parametrize("name", METHODS)
def test_it_is_valid_here_and_as_it_is_pushed(name, tmp_path):
    training = build_training(tiny(name, tmp_path / FOLDER))
    text = str(build_card(training, NOTES, 0.875, "builtin/digits (test)"))
    pushed, license = pushed_card(text, NAME, images=False, license="mit")
    for card in (text, pushed):
        data = ModelCard(card, ignore_metadata_errors=False).data
        validated(card)
        results = data.eval_results
        assert [(one.dataset_type, one.dataset_name, one.dataset_split) for one in results] == [
            ("builtin-digits", "builtin/digits", "test")
        ]
        _, again = model_index_to_eval_results(eval_results_to_model_index(data.model_name, results))
        assert [one.unique_identifier for one in again] == [one.unique_identifier for one in results]
        assert all(isinstance(one, EvalResult) for one in again)
        lint(card)
    assert license == "mit" and "The license of these weights is `mit`." in pushed and "No license" in text
    assert FOLDER not in pushed.split("```yaml")[0] and f'from_pretrained("{NAME}"' in pushed
    assert str(tmp_path) not in text and f"{Path.home()}/" not in text


def lint(card: str) -> None:
    body = card.split("---\n", 2)[2]
    assert (
        body.count("```") % 2 == 0 and not re.search(r"{{ |{%|%}| }}", body) and "None" not in body.split("```yaml")[0]
    )
    blocks = re.findall(r"^```(\w+)\n(.*?)^```", body, re.M | re.S)
    for language, code in blocks:
        if language == "python":
            ast.parse(code)
    assert {language for language, _ in blocks} == {"python", "yaml", "bibtex"}
    prose = re.sub(r"^```.*?^```", "code", body, flags=re.M | re.S)
    found = re.findall(r"^## (.+)$", prose, re.M)
    assert found == [title for title in SECTIONS if title in found] and set(SECTIONS) - set(found) <= {"Fine-tune"}
    assert len(re.findall(r"^# ", prose, re.M)) == 1
    assert "\n\n\n" not in prose and not re.search(r"[^\n]\n#", prose)
    assert re.search(r"^@\w+\{\w+,", dict(blocks)["bibtex"])
