"""Retrieval against hand-computed values and a plain, slow version of the benchmarks' definition."""

import logging
from statistics import median

import pytest
import torch
from torch.nn import functional as F

from hfcontrast.data import load_rows
from hfcontrast.encoders import build_encoder
from hfcontrast.encoders.model_config import backbone_config
from hfcontrast.errors import DataError, HFContrastError
from hfcontrast.evaluation import ranks, recall
from hfcontrast.evaluation.counts import told_numbers
from hfcontrast.evaluation.inputs import as_rows, image_transform
from hfcontrast.evaluation.recall import Ranks, retrieval_recall, unique_text_recall, unique_texts
from hfcontrast.evaluation.registry import get_evaluator
from hfcontrast.evaluation.retrieval import Retrieval, caption_batches, retrieve_rows
from hfcontrast.evaluation.rows import prepared_rows
from tests.evaluation.conftest import colored, tiny_clip, tiny_processor, tiny_siglip


@pytest.fixture(scope="module")
def model():
    return tiny_clip()


@pytest.fixture(scope="module")
def processor():
    return tiny_processor()


def plain_recall(images, texts, owners, ks):
    """One query after the other, sorted, without ties."""
    similarity = [[F.cosine_similarity(i, t, dim=0).item() for t in texts.double()] for i in images.double()]
    found = {"image_to_text": [], "text_to_image": []}
    for number, row in enumerate(similarity):
        right = [owners[text] == number for text in sorted(range(len(texts)), key=lambda t: -row[t])]
        if any(right):
            found["image_to_text"].append(1 + right.index(True))
    for text, owner in enumerate(owners):
        if owner < 0:
            continue
        order = sorted(range(len(images)), key=lambda i: -similarity[i][text])
        found["text_to_image"].append(1 + order.index(owner))
    scores = {f"{name}_median_rank": float(median(places)) for name, places in found.items()}
    for name, places in found.items():
        scores |= {f"{name}_r{k}": sum(place <= k for place in places) / len(places) for k in ks}
    return scores


def test_by_hand():
    # Similarities, with the right pairs in brackets:
    #            t0     t1     t2     t3
    #   i0     [0.9]  [0.1]   0.8    0.2
    #   i1      0.7    0.6   [0.5]  [0.4]
    texts = torch.eye(4)
    images = torch.tensor([[0.9, 0.1, 0.8, 0.2], [0.7, 0.6, 0.5, 0.4]])
    found = retrieval_recall(images, texts, torch.tensor([0, 0, 1, 1]), ks=(1, 2, 3))
    # Images: i0 finds t0 first; before t2, the best of i1, stand t0 and t1.
    assert found["image_to_text_r1"] == 0.5 and found["image_to_text_r2"] == 0.5 and found["image_to_text_r3"] == 1.0
    assert found["image_to_text_median_rank"] == 2.0
    # Texts, divided by the norms 1.225 and 1.122: t0 0.735 > 0.624, t1 0.082 < 0.535, t2 0.653 > 0.446, t3 0.163 < 0.356.
    assert found["text_to_image_r1"] == 0.5 and found["text_to_image_r2"] == 1.0
    assert found["text_to_image_median_rank"] == 1.5


@pytest.mark.parametrize("chunk", [1, 40, 1 << 24])
def test_it_is_the_plain_search(chunk, monkeypatch):
    monkeypatch.setattr(ranks, "CHUNK", chunk)
    images = torch.randn(30, 8)
    owners = torch.randint(0, 30, (70,))
    owners[:6] = 0  # several captions of one image, some images have none
    owners[-4:] = -1
    texts = 0.8 * images[owners] + torch.randn(70, 8)
    expected = plain_recall(images, texts, owners.tolist(), (1, 5, 10))
    found = retrieval_recall(images, texts, owners)
    assert found == pytest.approx(expected)
    assert 0.1 < found["image_to_text_r1"] < found["image_to_text_r10"] <= 1
    assert 0.1 < found["text_to_image_r1"] < found["text_to_image_r10"] < 1
    assert len(set(owners.tolist()) - {-1}) < 30


def test_the_whole_matrix_is_never_there(monkeypatch):
    monkeypatch.setattr(ranks, "CHUNK", 100)
    largest = []
    product = recall.similarities
    monkeypatch.setattr(recall, "similarities", lambda a, b: largest.append(len(a) * len(b)) or product(a, b))
    images = torch.randn(50, 4)
    retrieval_recall(images, images.repeat(1, 1), torch.arange(50))
    assert max(largest) <= 100 and sum(largest) == 2 * 50 * 50


def test_a_perfect_encoder():
    images = torch.randn(40, 16)
    found = retrieval_recall(images, 3 * images.repeat_interleave(5, 0), torch.arange(40).repeat_interleave(5))
    assert all(value == 1.0 for value in found.values())


@pytest.mark.parametrize("value", [1.0, 0.0, 1e-9, float("nan"), float("inf")])
@pytest.mark.parametrize("noise", [0.0, 1e-8])
def test_a_collapsed_encoder_finds_what_chance_does(value, noise):
    images = torch.full((100, 37), value) + noise * torch.randn(100, 37) * value
    found = retrieval_recall(images, images[:, :].clone(), torch.arange(100))
    finite = value < float("inf")
    for name in ("image_to_text", "text_to_image"):
        chance = [k / 100 if finite else 0.0 for k in (1, 5, 10)]  # what is not a number finds nothing
        assert [found[f"{name}_r{k}"] for k in (1, 5, 10)] == pytest.approx(chance)
        assert found[f"{name}_median_rank"] == pytest.approx(50.5) if finite else found[f"{name}_median_rank"] >= 100
    half = torch.randn(100, 37)
    for found in (
        retrieval_recall(half, images, torch.arange(100)),
        retrieval_recall(images, half, torch.arange(100)),
    ):
        assert found["image_to_text_r10"] <= 0.2 and found["text_to_image_r10"] <= 0.2


def shuffled_recall(better, equal, right, k, trials=4000):
    """How often one of the right candidates is among the first k when equals are shuffled; and the mean place of the first."""
    order = torch.rand(trials, equal + right).argsort(dim=1)
    first = better + 1 + (order < right).double().argmax(dim=1)
    return (first <= k).double().mean().item(), first.double().mean().item()


@pytest.mark.parametrize("better, equal, right", [(0, 1, 1), (2, 6, 1), (0, 3, 2), (1, 7, 4), (0, 0, 3), (3, 5, 1)])
def test_ties_count_as_the_expectation_over_their_orders(better, equal, right):
    ranks = Ranks(*(torch.tensor([count]) for count in (better, equal, right)))
    for k in (1, 3, 5):
        share, place = shuffled_recall(better, equal, right, k)
        assert ranks.found(k).item() == pytest.approx(share, abs=0.04)
        if right == 1:
            assert ranks.found(k).item() == pytest.approx(min(max((k - better) / (equal + 1), 0), 1))
    assert ranks.expected().item() == pytest.approx(place, abs=0.15)


def test_a_collapsed_encoder_with_several_captions_an_image():
    owners = torch.arange(20).repeat_interleave(5)
    found = retrieval_recall(torch.ones(20, 3), torch.ones(100, 3), owners)
    missed = [sum_of_missed(k) for k in (1, 5, 10)]
    assert [found[f"image_to_text_r{k}"] for k in (1, 5, 10)] == pytest.approx([1 - one for one in missed])
    assert [found[f"text_to_image_r{k}"] for k in (1, 5, 10)] == pytest.approx([0.05, 0.25, 0.5])


def sum_of_missed(k):
    """The probability that none of 5 captions among 100 is one of k drawn ones."""
    missed = 1.0
    for drawn in range(k):
        missed *= (95 - drawn) / (100 - drawn)
    return missed


def test_one_broken_feature_loses_and_hides_nothing():
    images = torch.eye(5)
    texts = torch.eye(5)
    texts[2, 0] = float("nan")
    found = retrieval_recall(images, texts, torch.arange(5))
    assert found["image_to_text_r1"] == 0.8 and found["text_to_image_r1"] == 0.8


def test_captions_of_one_reading():
    # Images 0 and 1 each have the caption "a dog", on top of which image 1 has one of its own.
    dog, own = [1.0, 0.0, 0.0], [0.0, 1.0, 0.0]
    texts = torch.tensor([dog, dog, own])
    images = torch.tensor([[1.0, 0.0, 0.2], [0.9, 1.0, 0.0]])
    found = retrieval_recall(images, texts, torch.tensor([0, 1, 1]), ks=(1, 2))
    # Image 0: the rank is 1 or 2, as image 1's caption is equal. Image 1 finds its own one first.
    assert found["image_to_text_r1"] == 0.75 and found["image_to_text_r2"] == 1.0
    assert found["image_to_text_median_rank"] == 1.25
    # Among unique texts "a dog" is right for both: only its own caption, which image 1 does not share, has one image.
    unique = unique_text_recall(images, texts, torch.tensor([0, 1, 1]), torch.tensor([7, 7, -3]), ks=(1, 2))
    assert unique["image_to_text_r1"] == 1.0 and unique["text_to_image_r1"] == 1.0
    assert unique["image_to_text_median_rank"] == unique["text_to_image_median_rank"] == 1.0
    # Two equal captions of one image do not compete.
    twice = retrieval_recall(images[:1], texts[:2], torch.tensor([0, 0]), ks=(1,))
    assert twice["image_to_text_r1"] == 1.0


def test_pairs_of_equal_captions_are_found_in_half_of_the_orders():
    """A perfect encoder of 40 images with 20 captions, each of two images, beside what published code makes of it."""
    features = torch.eye(20).repeat(2, 1)
    found = retrieval_recall(features, features, torch.arange(40))
    assert [found[f"image_to_text_r{k}"] for k in (1, 5)] == [0.5, 1.0]
    assert [found[f"text_to_image_r{k}"] for k in (1, 5)] == [0.5, 1.0]
    identity = torch.arange(20).repeat(2)
    assert unique_texts(identity) == (20, 1.0) and unique_texts(torch.arange(9)) == (9, 0.0)
    unique = unique_text_recall(features, features, torch.arange(40), identity)
    assert unique.keys() == found.keys() and all(value == 1.0 for value in unique.values())


@pytest.mark.parametrize("chunk", [1, 40, 1 << 24])
def test_unique_texts_are_the_plain_search_too(chunk, monkeypatch):
    monkeypatch.setattr(ranks, "CHUNK", chunk)
    images, different = torch.randn(12, 6), torch.randn(9, 6)
    identity, owners = torch.randint(0, 9, (30,)), torch.randint(-1, 12, (30,))
    found = unique_text_recall(images, different[identity], owners, 1000 - 7 * identity, ks=(1, 3))
    right = {(i, t) for i, t in zip(owners.tolist(), identity.tolist()) if i >= 0}
    kept = sorted(set(identity.tolist()))
    similarity = F.cosine_similarity(images.double()[:, None], different.double()[None], dim=-1)
    to_text, to_image = [], []
    for i in sorted({i for i, _ in right}):
        order = sorted(kept, key=lambda t: -similarity[i, t])
        to_text.append(1 + min(order.index(t) for t in kept if (i, t) in right))
    for t in sorted({t for _, t in right}):
        order = sorted(range(12), key=lambda i: -similarity[i, t])
        to_image.append(1 + min(order.index(i) for i in range(12) if (i, t) in right))
    for name, places in (("image_to_text", to_text), ("text_to_image", to_image)):
        assert found[f"{name}_r3"] == pytest.approx(sum(place <= 3 for place in places) / len(places))
        assert found[f"{name}_median_rank"] == pytest.approx(median(places))


def test_unique_texts_stand_beside_where_captions_repeat(model, processor):
    data = colored(12)  # four colors: their names repeat
    rows = as_rows(data, captioned=True)
    evaluation = Retrieval(lambda: caption_batches(rows, image_transform(processor), 5), processor, ks=(1, 3))
    found = evaluation(model)
    unique = len(set(data["caption"]))
    assert evaluation.counts == {"images": 12, "texts": 12, "unique_texts": unique} and unique < 12
    plain = {name for name in found if not name.endswith("_unique_texts")}
    assert {f"{name}_unique_texts" for name in plain} == found.keys() - plain and len(plain) == 6
    different = data.remove_columns("caption").add_column(
        "caption", [f"{'a ' * n}red" for n in range(1, 10)] + ["big", "small", "dark"]
    )
    assert retrieve_rows(model, processor, different, ks=(1, 3)).keys() == plain


def test_images_without_captions_and_captions_without_images_are_candidates_only():
    images, texts = torch.eye(3), torch.tensor([[0.8, 0.0, 1.0], [0.6, 0.2, 0.0], [1.0, 0.0, 0.0]])
    found = retrieval_recall(images, texts, torch.tensor([0, -1, 0]), ks=(1, 2))
    assert found["text_to_image_r1"] == 0.5 and found["text_to_image_r2"] == 1.0  # image 2 stands before the first's
    assert found["image_to_text_r1"] == 1.0  # of image 0 alone
    found = retrieval_recall(images, texts, torch.tensor([0, -1, -1]), ks=(1, 2, 3))
    assert found["image_to_text_r2"] == 0.0 and found["image_to_text_r3"] == 1.0  # two strangers stand before


def test_what_cannot_be_evaluated():
    with pytest.raises(ValueError, match="3 texts, 2 images, no pair"):
        retrieval_recall(torch.randn(2, 3), torch.randn(3, 3), torch.tensor([-1, -1, -1]))
    with pytest.raises(ValueError, match="image 2, but there are 2"):
        retrieval_recall(torch.randn(2, 3), torch.randn(1, 3), torch.tensor([2]))
    with pytest.raises(ValueError, match="no pair"):
        retrieval_recall(torch.randn(2, 3), torch.randn(3, 3), torch.tensor([1]))


def by_hand(model, processor, data, column, numbers):
    """The features with nothing but transformers."""
    captions = [data[n][column] if isinstance(data[n][column], list) else [data[n][column]] for n in numbers]
    with torch.no_grad():
        pixels = processor.image_processor([data[n]["image"] for n in numbers], return_tensors="pt").pixel_values
        images = model.get_image_features(pixel_values=pixels)
        texts = [
            model.get_text_features(**processor.tokenizer(text, return_tensors="pt", **extra(model)))
            for several in captions
            for text in several
        ]
    texts = torch.cat([getattr(text, "pooler_output", text) for text in texts])
    owners = torch.tensor([place for place, several in enumerate(captions) for _ in several])
    return getattr(images, "pooler_output", images), texts, owners


def extra(model):
    siglip = model.config.model_type == "siglip"
    return {"padding": "max_length", "max_length": 12} if siglip else {}


@pytest.mark.parametrize("column", ["caption", "captions"])
@pytest.mark.parametrize("build", [tiny_clip, tiny_siglip])
def test_rows_are_evaluated_as_by_hand(build, column, processor, caplog):
    model, data = build(), colored(23, broken=(5,))
    expected = by_hand(model, processor, data, column, [n for n in range(23) if n != 5])
    caplog.set_level(logging.WARNING)
    rows = as_rows(data, caption_column=column, captioned=True)
    transform = image_transform(processor)
    found = Retrieval(lambda: caption_batches(rows, transform, 6), processor).embed(model)
    for one, other in zip(found, expected):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=0)
    assert "1 image left out" in caplog.text
    scores = retrieve_rows(model, processor, data, caption_column=column, ks=(1, 3))
    plain = retrieval_recall(*found, ks=(1, 3))
    assert {name: scores[name] for name in plain} == pytest.approx(plain)
    stream = retrieve_rows(model, processor, data.to_iterable_dataset(3), caption_column=column, ks=(1, 3))
    assert stream == pytest.approx(scores)


def test_captions_that_are_empty_or_missing(processor, caplog):
    data = colored(6)
    captions = [["red", "", None], [], None, ["  big\n red "], ["blue\ufffd"], ["blue"]]
    data = data.remove_columns("captions").add_column("captions", captions)
    rows = as_rows(data, caption_column="captions", captioned=True)
    caplog.set_level(logging.WARNING)
    (_, first), (_, second) = caption_batches(rows, image_transform(processor), 3)
    assert first == [["red"], [], []] and second == [["big red"], [], ["blue"]]
    assert "3 images have no usable caption" in caplog.text


def evaluated(model, processor, captions):
    """The evaluator's figures of images with these captions, after a second evaluation."""
    data = colored(len(captions)).remove_columns("caption").add_column("caption", captions)
    own = as_rows(data, caption_column="caption", captioned=True)
    limits = {"max_train": None, "max_test": None}
    rows = prepared_rows(None, own, processor, size=16, batch_size=5, tokenizer=processor, **limits)
    evaluator = get_evaluator("retrieval")
    return [evaluator.evaluate(model, rows, evaluator.settings_class()) for _ in range(2)][1]


def test_what_any_encoder_has_is_left_out(model, processor):
    found = evaluated(model, processor, ["red"] * 12)  # one text among the unique ones, which belongs to all images
    assert found.counts["unique_texts"] == 1 and found.chance["text_to_image_r1_unique_texts"].value == 1
    assert {name.rpartition("_r")[0] for name in found.figures if "median" not in name} == {
        "image_to_text",
        "text_to_image",
    }
    assert not [name for name in found.figures if name.endswith("unique_texts")]
    found = evaluated(model, processor, ["red", "", ""])
    assert found.figures.keys() == {"text_to_image_r1", "text_to_image_median_rank"}


def test_images_without_a_caption_are_no_queries_and_named_once(model, processor, caplog):
    found = evaluated(model, processor, ["", "red", "blue", "green red", "a", "big", "small"])
    assert told_numbers(found.counts_of("image_to_text_r1")) == "6 of 7 images, 6 texts, 1 uncaptioned image"
    assert told_numbers(found.counts_of("text_to_image_r1")) == "7 images, 6 texts"
    assert caplog.text.count("1 image has no usable caption") == 1


def test_modes_come_back(model, processor):
    model.train()
    model.text_model.eval()
    modes = [module.training for module in model.modules()]
    retrieve_rows(model, processor, colored(4))
    assert [module.training for module in model.modules()] == modes
    model.eval()


def test_what_cannot_be_used_is_reported(model, processor):
    vit = build_encoder(backbone_config({"model_type": "vit", "hidden_size": 32, "num_hidden_layers": 1}, [32]))
    with pytest.raises(HFContrastError, match="ViTModel has no text tower"):
        retrieve_rows(vit, processor, colored(4))
    with pytest.raises(DataError, match="no column 'captoin' .did you mean 'caption'"):
        retrieve_rows(model, processor, colored(4), caption_column="captoin")
    bare = colored(4).remove_columns(["caption", "captions"])
    with pytest.raises(DataError, match="no column of captions; its columns are image, label, number"):
        retrieve_rows(model, processor, bare)
    empty = bare.add_column("caption", [""] * 4)
    with pytest.raises(DataError, match="no image with a caption to evaluate"):
        retrieve_rows(model, processor, empty)


@pytest.mark.parametrize("count", [23, 1])
def test_two_processes_evaluate_as_one(count, model, processor, on_processes):
    data = colored(count, broken=(4,) if count > 4 else ())
    alone = retrieve_rows(model, processor, data, caption_column="captions")
    together = on_processes(lambda rank: retrieve_rows(model, processor, data, caption_column="captions", batch_size=3))
    assert together[0] == together[1] == pytest.approx(alone)


def test_rows_of_load_rows(model, processor, colors_folder):
    rows = load_rows(colors_folder, split="test", captioned=True, caption_column="captions")
    stream = load_rows(colors_folder, split="test", captioned=True, caption_column="captions", streaming=True)
    whole = retrieve_rows(model, processor, rows)
    assert whole == pytest.approx(retrieve_rows(model, processor, stream)) and whole["text_to_image_r5"] < 1
    assert retrieve_rows(model, processor, rows, limit=4)["text_to_image_r5"] == 1.0  # where there are no five images
