"""Tokenizers of released models: one that knows no word is none."""

from types import SimpleNamespace

import pytest
from transformers import CONFIG_MAPPING, CLIPConfig, CLIPModel, CLIPTokenizer

from hfcontrast.commands.models import OpenedModel
from hfcontrast.data.tokenizer import train_tokenizer
from hfcontrast.encoders.config import Backbone
from hfcontrast.encoders.released_tokenizer import ReleasedTokenizer
from hfcontrast.errors import HFContrastError, RecipeError
from hfcontrast.testing import TINY_TOWERS
from hfcontrast.training.tokenizer import load_tokenizer


@pytest.mark.parametrize("model_type", ["clip", "siglip", "siglip2", "bert", "roberta", "xlm-roberta", "t5", "mpnet"])
def test_a_folder_without_tokenizer_files_is_refused(tmp_path, model_type):
    CONFIG_MAPPING[model_type]().save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="no files of a tokenizer beside it"):
        ReleasedTokenizer.from_pretrained(str(tmp_path))


def test_files_without_a_word_are_refused(tmp_path):
    CLIPTokenizer().save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="no files of a tokenizer beside it"):
        ReleasedTokenizer.from_pretrained(str(tmp_path))


def test_one_with_words_is_read_as_it_is(tmp_path):
    trained = train_tokenizer(["a red thing"], 600, 16)
    trained.save_pretrained(tmp_path)
    assert ReleasedTokenizer.from_pretrained(str(tmp_path)).get_vocab() == trained.get_vocab()


def test_commands_and_trainings_say_so(tmp_path):
    model = CLIPModel(CLIPConfig(**TINY_TOWERS))
    model.save_pretrained(tmp_path)
    opened = OpenedModel(model, str(tmp_path), None, {})
    assert "has no tokenizer that can be loaded: there are no files" in str(opened.text_problem)
    with pytest.raises(HFContrastError, match="no files of a tokenizer"):
        opened.digest(images=False)
    recipe = SimpleNamespace(backbone=Backbone.read({"pretrained": str(tmp_path)}))
    with pytest.raises(RecipeError, match=r"backbone\.pretrained: .* has no tokenizer .*no files of a tokenizer"):
        load_tokenizer(str(tmp_path), "backbone.pretrained", recipe)
