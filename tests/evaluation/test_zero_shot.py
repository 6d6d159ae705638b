"""Zero-shot classification against hand-computed values, plain loops and the plain transformers way."""

import logging
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from datasets import ClassLabel, Dataset, Value
from torch.nn import functional as F
from transformers import (
    AutoModel,
    BertConfig,
    VisionTextDualEncoderConfig,
    VisionTextDualEncoderModel,
    ViTConfig,
)

from hfcontrast.data import evaluation_batches, load_rows
from hfcontrast.data.captions import CaptionReader
from hfcontrast.encoders import build_encoder
from hfcontrast.encoders.model_config import backbone_config
from hfcontrast.errors import DataError, HFContrastError
from hfcontrast.evaluation import inputs, zero_shot
from hfcontrast.evaluation.inputs import as_rows, image_transform, share_out, text_embeddings, tokenize
from hfcontrast.evaluation.templates import ENSEMBLES, GENERAL, SEVEN, check_templates, fill, find_templates
from hfcontrast.evaluation.zero_shot import (
    ZeroShot,
    class_embeddings,
    classify_rows,
    mean_class_accuracy,
    zero_shot_accuracy,
)
from tests.evaluation.conftest import (
    COLORS,
    LAYERS,
    LENGTH,
    WORDS,
    colored,
    tiny_clip,
    tiny_processor,
    tiny_siglip,
    tiny_tokenizer,
)

NAMES = [name.replace("_", " ") for name in COLORS]


@pytest.fixture(scope="module")
def model():
    return tiny_clip()


@pytest.fixture(scope="module")
def processor():
    return tiny_processor()


def test_accuracy_by_hand():
    # Cosines of three images with three classes: the right class is first, second and third.
    classes = torch.tensor([[2.0, 0.0], [0.0, 3.0], [-1.0, 0.0]])
    images = torch.tensor([[5.0, 1.0], [1.0, 0.5], [3.0, 1.0]])
    labels = torch.tensor([0, 1, 2])
    found = zero_shot_accuracy(images, classes, labels, top=(1, 2, 3))
    assert found == pytest.approx({"top1": 1 / 3, "top2": 2 / 3, "top3": 1.0})
    assert zero_shot_accuracy(images, classes, torch.tensor([0, -1, -1]), top=(1,)) == {"top1": 1.0}


def test_accuracy_is_that_of_a_plain_loop():
    images, classes, labels = torch.randn(300, 6), torch.randn(9, 6), torch.randint(-1, 9, (300,))
    expected = {1: 0, 5: 0}
    for image, label in zip(images, labels.tolist()):
        order = F.cosine_similarity(image, classes).argsort(descending=True).tolist()
        for k in expected:
            expected[k] += label >= 0 and label in order[:k]
    labeled = int((labels >= 0).sum())
    found = zero_shot_accuracy(images, classes, labels)
    assert found == pytest.approx({"top1": expected[1] / labeled, "top5": expected[5] / labeled})
    assert 0 < found["top1"] < found["top5"] < 1


def test_many_images_are_compared_in_chunks(monkeypatch):
    images, classes, labels = torch.randn(100, 6), torch.randn(9, 6), torch.randint(0, 9, (100,))
    whole = zero_shot_accuracy(images, classes, labels)
    sizes = []
    monkeypatch.setattr(zero_shot, "chunk_rows", lambda candidates: 7)
    monkeypatch.setattr(
        zero_shot, "similarities", lambda a, b, of=zero_shot.similarities: sizes.append(len(a)) or of(a, b)
    )
    assert zero_shot_accuracy(images, classes, labels) == whole
    assert max(sizes) == 7 and sum(sizes) == 100


def test_classes_that_are_equally_similar_share_the_place():
    image, label = torch.tensor([[1.0, 0.0]]), torch.tensor([1])
    twins = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    assert zero_shot_accuracy(image, twins, label, top=(1, 2)) == {"top1": 0.5, "top2": 1.0}


@pytest.mark.parametrize("value", [1.0, 0.0, float("nan"), float("inf")])
def test_a_collapsed_encoder_scores_chance(value):
    images, labels = torch.full((20, 8), value), torch.arange(20) % 10
    found = zero_shot_accuracy(images, torch.randn(10, 8), labels, top=(1, 5))
    if value == 1.0:  # one class is nearest to all
        assert found["top1"] == pytest.approx(0.1)
    elif value == 0.0:
        assert found == pytest.approx({"top1": 0.1, "top5": 0.5})
    else:  # features that are no numbers find nothing
        assert found == {"top1": 0, "top5": 0}
    same = zero_shot_accuracy(torch.randn(20, 8), torch.full((10, 8), 0.3), labels, top=(1, 5))
    assert same == pytest.approx({"top1": 0.1, "top5": 0.5})


def test_mean_over_classes():
    images = torch.tensor([[1.0, 0.0]] * 9 + [[1.0, 0.1]])  # nine of class 0, found; one of class 1, not found
    classes, labels = torch.eye(3, 2), torch.tensor([0] * 9 + [1])
    assert zero_shot_accuracy(images, classes, labels, top=(1,)) == {"top1": pytest.approx(0.9)}
    assert mean_class_accuracy(images, classes, labels) == pytest.approx(0.5)  # class 2 does not occur


def test_labels_that_cannot_be_evaluated():
    with pytest.raises(ValueError, match="no row has a label"):
        zero_shot_accuracy(torch.randn(2, 3), torch.randn(4, 3), torch.tensor([-1, -1]))
    with pytest.raises(ValueError, match="label 4 has no class embedding: there are 4"):
        zero_shot_accuracy(torch.randn(2, 3), torch.randn(4, 3), torch.tensor([0, 4]))


def plain_class_embeddings(model, tokenizer, names, templates):
    """One prompt after the other, with nothing but transformers."""
    classes = []
    for name in names:
        prompts = []
        for template in templates:
            tokens = tokenizer(template.format(name), return_tensors="pt")
            features = model.get_text_features(**tokens)
            features = getattr(features, "pooler_output", features)[0]
            prompts.append(features / features.norm())
        mean = torch.stack(prompts).mean(dim=0)
        classes.append(mean / mean.norm())
    return torch.stack(classes)


@pytest.mark.parametrize("batch_size", [2, 5, 100])
def test_class_embeddings_are_the_normalized_mean_of_normalized_prompts(model, batch_size):
    templates = ("a photo of {}.", "the {} picture", "{}")
    with torch.no_grad():
        expected = plain_class_embeddings(model, tiny_tokenizer(), NAMES, templates)
    found = class_embeddings(model, tiny_tokenizer(), NAMES, templates, batch_size)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)
    assert not found.requires_grad
    assert not torch.allclose(found, class_embeddings(model, tiny_tokenizer(), NAMES, templates[:1]), atol=1e-3)


def test_modes_come_back(model):
    model.train()
    model.vision_model.eval()
    modes = [module.training for module in model.modules()]
    class_embeddings(model, tiny_tokenizer(), NAMES)
    assert [module.training for module in model.modules()] == modes and torch.is_grad_enabled()
    with pytest.raises(ZeroDivisionError), inputs.evaluating(model):
        assert not model.training
        raise ZeroDivisionError
    assert [module.training for module in model.modules()] == modes
    model.eval()


def test_texts_are_padded_as_the_model_was_trained(model):
    tokenizer = tiny_tokenizer()
    assert tokenize(model, tokenizer, ["a red square", "red"])["input_ids"].shape == (2, 5)
    long = tokenize(model, tokenizer, ["red " * 100])
    assert long["input_ids"].shape == (1, LENGTH) and long["input_ids"][0, -1] == 2  # cut off, its end kept
    siglip = tiny_siglip()
    assert tokenize(siglip, tokenizer, ["a red square", "red"])["input_ids"].shape == (2, LENGTH)
    tokenizer.model_input_names = ["input_ids"]
    assert set(tokenize(siglip, tokenizer, ["red"])) == {"input_ids"}
    tokenizer.model_max_length = int(1e30)  # says nothing: then the tower's positions
    assert tokenize(siglip, tokenizer, ["red " * 100])["input_ids"].shape == (1, LENGTH)


@pytest.mark.parametrize("build", [tiny_clip, tiny_siglip])
def test_tokens_are_those_that_training_makes(build):
    model, tokenizer = build(), tiny_tokenizer()
    texts = ["a red square", "blue", "the big blue picture of a small red square " * 3]
    trained, _ = CaptionReader(("caption",), tokenizer, LENGTH, pad_to_max=build is tiny_siglip).tokenize(texts)
    evaluated = tokenize(model, tokenizer, texts)
    assert trained.keys() == evaluated.keys() and all(torch.equal(trained[name], evaluated[name]) for name in trained)


def test_equal_texts_have_equal_features_in_any_batch(model):
    texts = ["red", "a photo of the big red square", "red", "blue", "red"]
    found = text_embeddings(model, tiny_tokenizer(), texts, batch_size=2)
    assert torch.equal(found[0], found[2]) and torch.equal(found[0], found[4])
    assert not torch.allclose(found[0], found[3], atol=1e-3)
    torch.testing.assert_close(found[3:4], text_embeddings(model, tiny_tokenizer(), ["blue"]), atol=1e-5, rtol=0)
    assert text_embeddings(model, tiny_tokenizer(), []).shape == (0, 24)


def test_rows_are_classified_as_by_hand(model, processor, caplog):
    data = colored(22, broken=(5,))
    readable = [number for number in range(22) if number != 5]
    with torch.no_grad():
        pixels = processor.image_processor([data[n]["image"] for n in readable], return_tensors="pt").pixel_values
        images = model.get_image_features(pixel_values=pixels)
        images = getattr(images, "pooler_output", images)
        classes = plain_class_embeddings(model, processor.tokenizer, NAMES, ["a photo of a {}."])
    labels = torch.tensor([n % 4 for n in readable])
    expected = zero_shot_accuracy(images, classes, labels, top=(1,))
    caplog.set_level(logging.WARNING)
    found = classify_rows(model, processor, data, class_names=NAMES, batch_size=5)
    assert found == {**expected, "mean_per_class": mean_class_accuracy(images, classes, labels)}
    assert "1 image of" in caplog.text
    stream = classify_rows(model, processor, data.to_iterable_dataset(num_shards=2), class_names=NAMES)
    assert stream == found
    assert classify_rows(model, processor, as_rows(data), class_names=NAMES) == found


def test_class_names_are_those_of_the_column_unless_others_are_given(model, processor):
    data = colored(12)
    own = classify_rows(model, processor, data, templates=("{}",))
    assert own == classify_rows(model, processor, data, templates=("{}",), class_names=list(COLORS))
    second = data.add_column("size", [n % 2 for n in range(12)]).cast_column("size", ClassLabel(names=["big", "small"]))
    assert classify_rows(model, processor, second, label_column="size") != own


def test_what_cannot_be_classified_is_reported(model, processor):
    data = colored(4)
    vit = build_encoder(backbone_config({"model_type": "vit", "hidden_size": 32, "num_hidden_layers": 1}, [32]))
    with pytest.raises(HFContrastError, match="ViTModel has no text tower"):
        classify_rows(vit, processor, data)
    with pytest.raises(DataError, match="has no labels"):
        classify_rows(model, processor, data.remove_columns("label"))
    numbers = data.cast_column("label", Value("int64"))
    with pytest.raises(DataError, match="numbers without names"):
        classify_rows(model, processor, numbers)
    assert "top1" in classify_rows(model, processor, numbers, class_names=NAMES)
    with pytest.raises(DataError, match="two classes are called 'red', which no prompt tells apart"):
        classify_rows(model, processor, data, class_names=["red", "red", "blue", "gray"])
    with pytest.raises(DataError, match="4 classes, but 1 name is given; 'red,green' is one name: give each by itself"):
        classify_rows(model, processor, data, class_names=["red,green"])
    with pytest.raises(DataError, match="4 classes, but 2 names"):
        classify_rows(model, processor, data, class_names=["a", "b"])
    with pytest.raises(DataError, match="label 3 has no class"):
        classify_rows(model, processor, numbers, class_names=["a", "b"])
    with pytest.raises(DataError, match="no column 'color'"):
        classify_rows(model, processor, data, label_column="color")
    with pytest.raises(HFContrastError, match="'a photo' has no {}"):
        classify_rows(model, processor, data, templates=["a photo"])


def test_two_processes_share_the_images_and_classes(model, processor, on_processes):
    data = colored(23, broken=(4,))
    alone = classify_rows(model, processor, data, class_names=NAMES)
    for together in on_processes(lambda rank: classify_rows(model, processor, data, class_names=NAMES, batch_size=3)):
        assert together == pytest.approx(alone)


def test_a_process_may_have_no_image_and_no_class(model, processor, on_processes):
    one = colored(4).select([0]).cast_column("label", Value("int64"))
    alone = classify_rows(model, processor, one, class_names=["red"])
    assert alone == {"top1": 1.0, "mean_per_class": 1.0}
    assert on_processes(lambda rank: classify_rows(model, processor, one, class_names=["red"])) == [alone, alone]


def test_an_evaluator_that_is_asked_again_and_again(model, processor):
    rows = as_rows(colored(20))
    transform = image_transform(processor)
    task = ZeroShot(lambda: evaluation_batches(rows, transform, 8), processor, NAMES)
    first = task(model)
    assert set(first) == {"top1", "mean_per_class"} and task(model) == first  # of four classes, five say nothing
    unlabeled = ZeroShot(lambda: [(torch.randn(3, 3, 16, 16), None)], processor, NAMES)
    with pytest.raises(DataError, match="no row has a label"):
        unlabeled(model)


def test_a_limit_takes_some_of_each_class():
    rows = as_rows(colored(20))
    assert sorted(share_out(rows, 8).dataset["label"][:]) == [0, 0, 1, 1, 2, 2, 3, 3]  # which come in turn
    assert share_out(rows, 100).num_rows == 20 and share_out(rows) is rows
    stream = as_rows(colored(20).to_iterable_dataset())
    assert [row["label"] for row in share_out(stream, 3).dataset] == [0, 1, 2] and share_out(stream) is stream


def test_a_limit_draws_from_the_whole_of_a_stream_whose_length_is_known():
    stream = load_rows("builtin/digits", split="test", streaming=True)
    chosen = share_out(stream, 40)
    assert chosen.num_rows == 40 == len(list(chosen.dataset))
    drawn = {row["image"]["bytes"] for row in chosen.dataset}
    first = {row["image"]["bytes"] for row in stream.dataset.take(80)}
    assert len(drawn - first) > 10
    remote = share_out(replace(stream, remote=True), 3)  # whose other rows would all be fetched
    assert [row["image"] for row in remote.dataset] == [row["image"] for row in stream.dataset.take(3)]


def test_images_that_make_no_batch_are_explained():
    def refuse(images, return_tensors):
        raise ValueError("unable to stack")

    with pytest.raises(DataError, match="makes no batch of these images: unable to stack"):
        image_transform(SimpleNamespace(image_processor=refuse))([])


def test_ensembles_and_files_of_templates(tmp_path):
    assert len(SEVEN) == 7 and len(set(GENERAL)) == len(GENERAL) > 10
    for templates in ENSEMBLES.values():
        assert check_templates(templates) == templates and all(t.format("cat") == fill(t, "cat") for t in templates)
    assert fill("a {} here", "{} or {0}") == "a {} or {0} here"
    file = tmp_path / "prompts.txt"
    file.write_text("# mine\na {}.\n\n  the {}  \n")
    assert find_templates(str(file)) == ("a {}.", "the {}") and find_templates("seven") == SEVEN
    with pytest.raises(HFContrastError, match="neither an ensemble .*seven.* nor a file"):
        find_templates("eighty")
    file.write_text("a photo\n")
    with pytest.raises(HFContrastError, match="has no {}"):
        find_templates(str(file))
    with pytest.raises(HFContrastError, match="no template"):
        check_templates([])


def test_rows_of_a_plain_data_set():
    rows = as_rows(colored(3), caption_column="captions", captioned=True)
    assert rows.captions == ("captions",) and rows.class_names == list(COLORS) and rows.num_rows == 3
    assert isinstance(rows.dataset[0]["image"], dict)  # undecoded
    with pytest.raises(DataError, match="no column of captions; its columns are label"):
        as_rows(colored(3).select_columns(["label", "image"]), captioned=True)
    with pytest.raises(DataError, match="opened without its captions"):
        as_rows(as_rows(colored(3)), captioned=True)
    assert isinstance(as_rows(rows).dataset, Dataset)


def test_any_image_tower_with_any_text_tower(processor, tmp_path):
    vision = ViTConfig(**LAYERS, image_size=16, patch_size=8)
    text = BertConfig(**LAYERS, vocab_size=len(WORDS), max_position_embeddings=LENGTH)
    config = VisionTextDualEncoderConfig.from_vision_text_configs(vision, text, projection_dim=20)
    VisionTextDualEncoderModel(config).save_pretrained(tmp_path)
    model = AutoModel.from_pretrained(tmp_path).eval()
    with torch.no_grad():
        expected = plain_class_embeddings(model, processor.tokenizer, NAMES, ["a photo of a {}."])
    torch.testing.assert_close(class_embeddings(model, processor, NAMES), expected, atol=1e-5, rtol=0)
    assert 0 <= classify_rows(model, processor, colored(8), class_names=NAMES)["top1"] <= 1


def test_a_text_does_not_depend_on_the_others_of_its_batch_or_on_control_tokens():
    model, tokenizer = tiny_clip(), tiny_tokenizer()
    tokenizer.padding_side = "left"
    alone = text_embeddings(model, tokenizer, ["a red square"])
    beside = text_embeddings(model, tokenizer, ["a red square", "a photo of the big dark gray square ."])
    torch.testing.assert_close(beside[:1], alone)
    ids = tokenize(model, tokenizer, ["red <eos> big"])["input_ids"][0].tolist()
    assert ids.count(tokenizer.eos_token_id) == 1 and ids[-1] == tokenizer.eos_token_id
