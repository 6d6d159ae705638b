"""Fine-tuning: it learns what a linear probe cannot, from the allowed rows, equally on one process and two, and without side effects."""

import copy
from types import SimpleNamespace

import pytest
import torch
from accelerate.utils import DistributedType
from torch import nn
from torch.nn import functional as F
from transformers import ResNetConfig, ResNetModel, ViTConfig

from hfcontrast.encoders import build_encoder
from hfcontrast.encoders.lora import add_lora, merged_state_dict
from hfcontrast.errors import RecipeError
from hfcontrast.evaluation import finetune_training, shuffled_rows
from hfcontrast.evaluation.features import extract_features
from hfcontrast.evaluation.finetune import FineTuning, finetune_accuracy
from hfcontrast.evaluation.finetune_training import lr_factor, parameter_groups, shift_and_flip
from hfcontrast.evaluation.linear_probe import linear_accuracy
from hfcontrast.evaluation.shuffled_rows import ShuffledRows, chosen_rows, shuffled
from hfcontrast.evaluation.tuned import trainable_names
from hfcontrast.nn.batch_norm import synchronize_batch_norm
from hfcontrast.recipe.sections import EvalSection
from hfcontrast.recipe.tasks import check_tasks, evaluation_tasks
from hfcontrast.run_evaluation import check_whole_weights
from tests.evaluation.conftest import online

PLAIN = FineTuning(epochs=4, lr=3e-3, batch_size=16, crop=0.0, flip=0.0)


def vit(seed=0, **changes):
    torch.manual_seed(seed)
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    dropout = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    return build_encoder(ViTConfig(**{**sizes, **dropout, "image_size": 8, "patch_size": 4, **changes}))


def resnet(seed=0):
    torch.manual_seed(seed)
    return ResNetModel(ResNetConfig(embedding_size=4, hidden_sizes=[4, 8], depths=[1, 1], layer_type="basic"))


def corners(count, seed=0, size=8, noise=0.1):
    """Two corners are bright or dark: the class says whether they are alike (XOR), and no single pixel says anything."""
    generator = torch.Generator().manual_seed(seed)
    signs = torch.randint(0, 2, (count, 2), generator=generator)
    pixels = noise * torch.randn(count, 3, size, size, generator=generator)
    half = size // 2
    pixels[:, :, :half, :half] += (2.0 * signs[:, 0] - 1)[:, None, None, None]
    pixels[:, :, half:, half:] += (2.0 * signs[:, 1] - 1)[:, None, None, None]
    return pixels, signs[:, 0] ^ signs[:, 1]


def batches(pixels, labels, size=10):
    return lambda: list(zip(pixels.split(size), labels.split(size)))


class Large:
    """A bank that says that it is too large to keep, and notes what is read of it; some rows cannot be read."""

    too_large = True

    def __init__(self, pixels, labels, broken=()):
        self.pixels, self.all_labels, self.broken, self.read = pixels, labels, set(broken), []

    def labels(self):
        return self.all_labels

    def __call__(self):
        return self.in_order(range(len(self.pixels)))

    def in_order(self, positions):
        for start in range(0, len(positions), 7):
            there = [i for i in positions[start : start + 7] if i not in self.broken]
            self.read += there
            yield self.pixels[there], self.all_labels[there]


NOISY = FineTuning(epochs=15, lr=0.02, batch_size=32, crop=0.0)


def test_it_learns_what_a_linear_probe_cannot():
    bank, queries = (batches(*corners(count, seed, noise=1.5), 64) for count, seed in ((256, 0), (100, 1)))
    encoder = resnet()
    frozen = online(bank, queries, linear={})(encoder, thorough=True)
    assert finetune_accuracy(encoder, bank, queries, NOISY) > 0.9 > frozen["linear_accuracy"] + 0.2
    bank, queries = (torch.cat(part) for part in zip(*bank())), (torch.cat(part) for part in zip(*queries()))
    (bank, classes), (queries, truth) = bank, queries
    assert linear_accuracy(bank.flatten(1), classes, queries.flatten(1), truth) < 0.7


@pytest.mark.parametrize("make", [vit, resnet])
def test_encoder_and_random_state_are_left_alone(make):
    encoder = make()
    encoder.train()
    next(encoder.children()).eval()
    next(encoder.parameters()).requires_grad_(False)
    state = copy.deepcopy(encoder.state_dict())
    modes = [module.training for module in encoder.modules()]
    trained = [parameter.requires_grad for parameter in encoder.parameters()]
    drawn = torch.get_rng_state()
    with torch.no_grad():  # as somebody may call it
        finetune_accuracy(encoder, batches(*corners(40)), batches(*corners(10)), PLAIN)
    assert torch.equal(torch.get_rng_state(), drawn)
    assert all(torch.equal(value, state[name]) for name, value in encoder.state_dict().items())
    assert [module.training for module in encoder.modules()] == modes
    assert [parameter.requires_grad for parameter in encoder.parameters()] == trained
    assert all(parameter.grad is None for parameter in encoder.parameters())


@pytest.fixture
def trained_models(monkeypatch):
    """The classifiers that were trained, as they were at the end."""
    found, fit = [], finetune_training.fit
    monkeypatch.setattr(finetune_training, "fit", lambda model, *rest: found.append(model) or fit(model, *rest))
    return found


def test_a_seed_decides_everything_and_the_global_state_nothing(trained_models):
    settings = FineTuning(epochs=2, batch_size=16)
    encoder = vit(hidden_dropout_prob=0.2)
    for number, seed in enumerate([0, 0, 1]):
        torch.manual_seed(number)
        chosen = FineTuning(**{**vars(settings), "seed": seed})
        finetune_accuracy(encoder, batches(*corners(48)), batches(*corners(20)), chosen)
    first, same, other = (torch.cat([p.flatten() for p in model.parameters()]) for model in trained_models)
    assert torch.equal(first, same) and not torch.allclose(first, other, atol=1e-4)


def test_what_only_the_training_froze_moves_and_what_is_named_stays(trained_models):
    encoder = vit()
    encoder.embeddings.position_embeddings.requires_grad_(False)
    start = copy.deepcopy(encoder.state_dict())
    teacher = copy.deepcopy(encoder).requires_grad_(False)
    named = [name for name in trainable_names(encoder) if not name.endswith("position_embeddings")]
    for evaluated, trained, still in [(encoder, None, 0), (teacher, None, 0), (teacher, named, 1)]:
        finetune_accuracy(evaluated, batches(*corners(48)), batches(*corners(20)), PLAIN, trained)
        state = trained_models[-1].encoder.state_dict()
        same = [name for name, value in state.items() if torch.equal(value, start[name])]
        assert same == ["embeddings.position_embeddings"][:still]


def test_of_an_encoder_with_lora_the_adapters_are_trained(trained_models):
    encoder = vit()
    add_lora(encoder, r=2, loaded=[name for name, _ in encoder.named_parameters()])
    for name, parameter in encoder.named_parameters():
        if ".lora_B." in name:
            nn.init.normal_(parameter)
    merged = merged_state_dict(encoder)
    finetune_accuracy(encoder, batches(*corners(48)), batches(*corners(20)), PLAIN)
    ended = {name.replace(".base_layer", ""): value for name, value in trained_models[-1].encoder.state_dict().items()}
    assert all(torch.equal(ended[name], value) for name, value in merged.items())  # theirs, merged, stay
    new = [value for name, value in ended.items() if ".lora_B." in name]
    assert new and all(value.any() for value in new)


def test_weights_that_are_not_decayed():
    encoder = vit()
    assert [group["weight_decay"] for group in parameter_groups(encoder, 0.3)] == [0.3, 0.0]
    names = {id(parameter): name for name, parameter in encoder.named_parameters()}
    decayed, spared = ({names[id(p)] for p in group["params"]} for group in parameter_groups(encoder, 0.3))
    assert all(name.endswith("weight") and "layernorm" not in name for name in decayed)
    assert {"embeddings.cls_token", "embeddings.position_embeddings", "layernorm.weight"} <= spared


def test_the_learning_rate_rises_and_falls():
    factors = [lr_factor(step, 20, 0.2) for step in range(20)]
    assert factors[:4] == pytest.approx([0.25, 0.5, 0.75, 1.0]) and factors[4] == 1.0
    assert factors[12] == pytest.approx(0.5) and 0 < factors[-1] < 0.02
    assert [lr_factor(step, 1, 0.1) for step in range(1)] == [1.0]
    assert lr_factor(2, 3, 1.0) == 1.0


def test_rows_without_a_label_and_unknown_classes():
    pixels, labels = corners(64)
    queries, truth = corners(40, seed=1)
    expected = finetune_accuracy(vit(), batches(pixels, labels), batches(queries, truth), PLAIN)
    hidden = torch.cat([torch.full_like(pixels[:5], float("nan")), pixels]), F.pad(labels, (5, 0), value=-1)
    more = torch.cat([queries, queries[:10]]), F.pad(truth, (0, 10), value=-1)
    assert finetune_accuracy(vit(), batches(*hidden), batches(*more), PLAIN) == expected
    unknown = torch.cat([queries, queries]), torch.cat([truth, torch.full((40,), 17)])
    assert finetune_accuracy(vit(), batches(pixels, labels), batches(*unknown), PLAIN) == expected / 2
    shifted = finetune_accuracy(vit(), batches(pixels, labels * 7 + 3), batches(queries, truth * 7 + 3), PLAIN)
    assert shifted == expected
    with pytest.raises(ValueError, match="there is none to train on"):
        finetune_accuracy(vit(), batches(hidden[0][:5], hidden[1][:5]), batches(queries, truth), PLAIN)
    with pytest.raises(ValueError, match="there is none to evaluate on"):
        finetune_accuracy(vit(), batches(pixels, labels), batches(queries, -truth - 1), FineTuning(epochs=1))


def test_numbers_that_are_not_finite_are_chance_and_no_crash():
    pixels, labels = corners(40)
    labels = torch.arange(40) % 4
    encoder = vit()
    for parameter in encoder.parameters():
        nn.init.constant_(parameter, float("nan"))
    assert finetune_accuracy(encoder, batches(pixels, labels), batches(pixels, labels), PLAIN) == 0.25
    pixels = pixels.clone()
    pixels[3] = float("inf")
    assert finetune_accuracy(vit(), batches(pixels, labels), batches(pixels, labels), PLAIN) == 0.25
    queries = corners(8)[0]
    queries[:4] = float("nan")
    assert finetune_accuracy(vit(), batches(*corners(40)), batches(queries, corners(8)[1]), PLAIN) <= 0.5


@pytest.mark.parametrize("count", [1, 3, 17])
def test_very_small_banks(count):
    pixels, _ = corners(count)
    labels = torch.arange(count)
    assert 0 <= finetune_accuracy(resnet(), batches(pixels, labels), batches(pixels, labels), PLAIN) <= 1


def test_a_share_of_the_labels_is_that_of_each_class_and_the_same_rows_for_all():
    labels = torch.cat([torch.zeros(50), torch.ones(20), torch.full((7,), -1), torch.full((3,), 5)]).long()
    tenth, half = chosen_rows(labels, 0.1, seed=3), chosen_rows(labels, 0.5, seed=3)
    assert labels[tenth].bincount().tolist() == [5, 2, 0, 0, 0, 1]
    assert labels[half].bincount().tolist() == [25, 10, 0, 0, 0, 2]
    assert set(tenth.tolist()) < set(half.tolist()) and tenth.tolist() == sorted(tenth.tolist())
    assert not torch.equal(tenth, chosen_rows(labels, 0.1, seed=4))
    assert chosen_rows(labels, 1.0, seed=3).tolist() == (labels >= 0).nonzero().flatten().tolist()


def test_two_encoders_are_trained_on_the_same_rows():
    pixels, labels = corners(60)
    settings = FineTuning(**{**vars(PLAIN), "label_share": 0.2, "epochs": 2})
    read = []
    for encoder in (vit(), resnet(3)):
        bank = Large(pixels, labels)
        finetune_accuracy(encoder, bank, batches(*corners(8)), settings)
        read.append(bank.read[7:])  # the first batch is looked at for the shape
    assert read[0] == read[1] and len(set(read[0])) == 12 and len(read[0]) == 24
    assert read[0][:12] != read[0][12:]


def test_rows_that_are_read_again_and_rows_in_memory_train_alike():
    pixels, labels = corners(60)
    queries = batches(*corners(40, seed=1))
    expected = finetune_accuracy(vit(), batches(pixels, labels), queries, PLAIN)
    assert finetune_accuracy(vit(), Large(pixels, labels), queries, PLAIN) == expected
    broken = Large(pixels, labels, broken=range(0, 60, 3))
    assert 0 <= finetune_accuracy(vit(), broken, queries, PLAIN) <= 1
    assert set(broken.read) == {i for i in range(60) if i % 3}


def test_an_epoch_is_every_row_once_in_another_order_each_time():
    pixels, labels = torch.arange(50.0).view(50, 1, 1, 1), torch.arange(50) // 25  # sorted by class
    rows = ShuffledRows(batches(pixels, labels))
    epochs = [list(rows.epoch(number, 16)) for number in (0, 1, 0)]
    orders = [torch.cat([pixels.flatten() for pixels, _, _ in epoch]).tolist() for epoch in epochs]
    assert [len(part) for part, _, _ in epochs[0]] == [13, 13, 12, 12]
    assert sorted(orders[0]) == sorted(orders[1]) == list(range(50)) and orders[0] != orders[1]
    assert orders[0] == orders[2] and all(0 < part.float().mean() < 1 for _, part, _ in epochs[0])
    assert all(torch.equal(label, pixels.flatten().long() // 25) for pixels, label, _ in epochs[0])


def test_a_stream_that_cannot_be_kept_is_shuffled_in_a_buffer(monkeypatch):
    pixels, labels = torch.arange(60.0).view(60, 1, 1, 1), torch.arange(60) // 20 - 1
    monkeypatch.setattr(shuffled_rows, "HELD_BYTES", 4 * 10)  # ten of the rows
    rows = ShuffledRows(batches(pixels, labels, 7), label_share=0.5)
    assert rows.buffer == 10 and rows._held is None
    found = list(rows.epoch(0, 8))
    order = torch.cat([part.flatten() for part, _, _ in found]).long()
    assert [len(part) for part, _, _ in found] == [7, 7, 6] and len(set(order.tolist())) == 20
    assert torch.equal(torch.cat([part for _, part, _ in found]), order // 20 - 1) and (order >= 20).all()
    assert order.tolist() != sorted(order.tolist())
    assert set(order.tolist()) == set(torch.cat([p.flatten() for p, _, _ in rows.epoch(1, 8)]).long().tolist())
    whole = list(shuffled(zip(pixels, labels), 1000, torch.Generator().manual_seed(0)))
    assert sorted(int(row) for row, _ in whole) == list(range(60))


def test_shifts_are_by_whole_pixels_and_reflect_what_is_missing():
    pixels = torch.randn(5, 3, 8, 6)
    draws = torch.tensor([[0.5, 0.5, 0.9], [0.0, 0.5, 0.9], [0.99, 0.5, 0.9], [0.5, 0.99, 0.9], [0.5, 0.0, 0.1]])
    moved = shift_and_flip(pixels, draws, crop=0.25, flip=0.5)  # up to 2 pixels in both directions
    padded = F.pad(pixels, (2, 2, 2, 2), mode="reflect")
    expected = [
        pixels[0],
        padded[1, :, 0:8, 2:8],
        padded[2, :, 4:12, 2:8],
        padded[3, :, 2:10, 4:10],
        padded[4, :, 2:10, 0:6].flip(2),
    ]
    torch.testing.assert_close(moved, torch.stack(expected))
    assert torch.equal(shift_and_flip(pixels, draws, 0.0, 0.0), pixels)
    assert shift_and_flip(pixels[:0], draws[:0], 0.1, 0.5).shape == (0, 3, 8, 6)


def weights_and_score(encoder, bank, settings, queries=None):
    """The accuracy, and the weights of the classifier at its end."""
    found, fit = [], finetune_training.fit
    finetune_training.fit = lambda model, *rest: found.append(model) or fit(model, *rest)
    try:
        score = finetune_accuracy(encoder, bank, queries or (lambda: []), settings)
    finally:
        finetune_training.fit = fit
    return score, {name: value.detach().clone() for name, value in found[0].state_dict().items()}


def share_of(pixels, labels, number, count=2):
    return batches(pixels[number::count], labels[number::count])


def test_two_processes_train_what_one_does(on_processes):
    """Also with rows without a label, a share of them, and unequal numbers of rows; without batch statistics exactly so."""
    pixels, labels = corners(61)
    labels[::7] = -1
    queries, truth = corners(33, seed=1)
    settings = FineTuning(epochs=3, lr=3e-3, batch_size=16, label_share=0.8)

    def work(number):
        return weights_and_score(
            vit(), share_of(pixels, labels, number), settings, share_of(queries, truth, number)
        ), weights_and_score(
            vit(), Large(pixels[number::2], labels[number::2]), settings, share_of(queries, truth, number)
        )

    score, weights = weights_and_score(vit(), batches(pixels, labels), settings, batches(queries, truth))
    for results in on_processes(work):
        for found, other in results:
            assert found == score
            for name, value in weights.items():
                # Attention does not depend on the keys' bias: its gradient is rounding, which Adam blows up.
                if "key" not in name and "k_proj.bias" not in name:
                    torch.testing.assert_close(other[name], value, rtol=1e-3, atol=1e-4)


def test_two_processes_with_batch_statistics_of_their_own(on_processes):
    """Synchronized as in training or not, with one process almost without rows: equal weights and statistics at the end.

    A process without any leaves no trace: what it makes of no images is not a statistic.
    """
    pixels, labels = corners(40)
    shares = [(pixels[:39], labels[:39]), (pixels[39:], labels[39:])]

    def work(number):
        synchronized = synchronize_batch_norm(resnet())
        even = weights_and_score(
            synchronized, share_of(pixels, labels, number), PLAIN, share_of(pixels, labels, number)
        )
        uneven = weights_and_score(synchronized, batches(*shares[number]), PLAIN, batches(*shares[number]))
        none = weights_and_score(resnet(), batches(pixels[: 40 - 40 * number], labels[: 40 - 40 * number]), PLAIN,
                                 batches(pixels[: 40 - 40 * number], labels[: 40 - 40 * number]))  # fmt: skip
        return even, uneven, none

    results = on_processes(work)
    for (score, weights), (other_score, other) in zip(*results, strict=True):
        assert score == other_score and 0 <= score <= 1
        for name, value in weights.items():
            torch.testing.assert_close(other[name], value, rtol=1e-5, atol=1e-6)
    _, alone = weights_and_score(resnet(), batches(pixels, labels), PLAIN, batches(pixels, labels))
    _, beside_none = results[0][2]
    assert any("running_var" in name for name in alone)
    for name, value in alone.items():
        torch.testing.assert_close(beside_none[name], value, rtol=1e-4, atol=1e-5, msg=name)


def test_a_thorough_evaluation_fine_tunes_where_it_was_asked_for():
    bank, queries = batches(*corners(40)), batches(*corners(20, seed=1))
    encoder, asked = vit(), PLAIN.model_dump()
    before = online(bank, queries, linear={})(encoder, thorough=True)
    evaluation = online(bank, queries, linear={}, finetune=asked)
    assert "finetune_accuracy" not in evaluation(encoder)
    scores = evaluation(encoder, thorough=True)
    assert scores.pop("finetune_accuracy") == finetune_accuracy(encoder, bank, queries, PLAIN)
    assert scores == before and evaluation.missing(before) == ["finetune_accuracy"]
    assert evaluation.missing({"knn_accuracy": 0.5, "feature_std": 0.5}) == ["linear_accuracy", "finetune_accuracy"]
    assert evaluation.missing({"feature_std": 0.5}) == []  # without labels there is nothing more to evaluate
    assert "finetune_accuracy" not in evaluation.raw_pixels(torch.device("cpu"))
    hidden = online(bank, lambda: [(corners(8)[0], torch.full((8,), -1))], finetune=asked)
    assert "finetune_accuracy" not in hidden(encoder, thorough=True)


def test_features_of_the_given_encoder_are_the_same_afterwards():
    encoder = resnet().train()
    before, _ = extract_features(encoder, batches(*corners(8))())
    finetune_accuracy(encoder, batches(*corners(40)), batches(*corners(8)), PLAIN)
    assert torch.equal(extract_features(encoder, batches(*corners(8))())[0], before)


@pytest.mark.parametrize("wrong", [{"epochs": 0}, {"label_share": 0.0}, {"label_share": 1.5}, {"seed": -1}])
def test_settings_out_of_range(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        FineTuning(**wrong)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_on_a_gpu():
    bank, queries = (batches(*corners(count, seed, noise=1.5), 64) for count, seed in ((256, 0), (100, 1)))
    drawn = torch.cuda.get_rng_state()
    assert finetune_accuracy(resnet().cuda(), bank, queries, NOISY) > 0.9
    assert torch.equal(torch.cuda.get_rng_state(), drawn)


@pytest.mark.parametrize("kind", ["FSDP", "DEEPSPEED"])
def test_sharded_weights_are_refused(kind):
    training = SimpleNamespace(accelerator=SimpleNamespace(distributed_type=DistributedType[kind]))
    with pytest.raises(RecipeError, match=f"eval.tasks.finetune trains a copy.*not with {kind}"):
        check_whole_weights(training)


def test_recipes_have_the_same_settings_and_defaults():
    assert evaluation_tasks(EvalSection(finetune=True))["finetune"][1] == FineTuning()
    assert "finetune" not in evaluation_tasks(EvalSection())
    assert evaluation_tasks(EvalSection(finetune={"epochs": 3}))["finetune"][1].epochs == 3
    assert check_tasks(EvalSection(finetune={"epochz": 3})) == [
        (("finetune", "epochz"), "unknown key; did you mean 'epochs'?")
    ]


def test_layer_decay_reaches_the_optimizer(monkeypatch):
    """BEiT's and MAE's: an encoder of two layers, its embeddings three steps below the classifier."""
    seen = []

    class Spy(torch.optim.AdamW):
        def step(self, *arguments):
            seen.append([(group["lr"], group["lr_scale"]) for group in self.param_groups])
            return super().step(*arguments)

    monkeypatch.setattr(torch.optim, "AdamW", Spy)
    settings = FineTuning(**{**vars(PLAIN), "epochs": 1, "layer_decay": 0.5})
    finetune_accuracy(vit(), batches(*corners(16)), batches(*corners(8)), settings)
    layers = vit().config.num_hidden_layers
    for groups in seen:
        peak = max(lr for lr, _ in groups)
        assert all(lr == pytest.approx(peak * scale) for lr, scale in groups)
        assert {scale for _, scale in groups} == {0.5**distance for distance in range(layers + 2)}


def test_layer_decay_has_a_range():
    with pytest.raises(ValueError, match="layer_decay"):
        FineTuning(layer_decay=1.5)
