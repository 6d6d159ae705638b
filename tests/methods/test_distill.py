"""Distillation: its forward pass put together by hand, the teacher's normalization, resuming with its teacher, and its card."""

import shutil

import pytest
import torch
from torch.nn import functional as F

from hfcontrast.benchmarks.step import floor
from hfcontrast.encoders import build_encoder, encode
from hfcontrast.encoders.model_config import backbone_config
from hfcontrast.encoders.released import open_released
from hfcontrast.errors import CheckpointError, RecipeError
from hfcontrast.losses import seed_loss
from hfcontrast.methods.base import Progress
from hfcontrast.methods.contract.steps import start_step
from hfcontrast.methods.distill import Distill
from hfcontrast.methods.distill.method import adjusted, paired
from hfcontrast.publishing.card import build_card
from hfcontrast.publishing.export import export_encoder
from hfcontrast.publishing.processor import build_processor
from hfcontrast.recipe import load_recipe
from hfcontrast.testing import build, check_method, random_batch
from hfcontrast.training.build import build_training
from hfcontrast.training.loop import start, train
from hfcontrast.training.notices import unlike_released

CNN = {"model_type": "resnet", "embedding_size": 8, "hidden_sizes": [8, 16], "depths": [1, 1], "layer_type": "basic"}
TEACHER = {**CNN, "hidden_sizes": [8, 24]}


@pytest.mark.slow
@pytest.mark.parametrize("weights, targets", [((1.0, 0.0), "features"), ((0.5, 1.0), "standardized")])
def test_it_keeps_the_contract(weights, targets):
    regression, relational = weights
    check_method(
        Distill,
        teacher=TEACHER,
        targets=targets,
        regression_weight=regression,
        relational_weight=relational,
        queue_size=20,
        hidden_dim=16,
        teacher_temperature=0.1,
    )


def released(folder, seed=0, mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.4)):
    """A folder with a published encoder."""
    torch.manual_seed(seed)
    encoder = build_encoder(backbone_config(TEACHER, [32]))
    processor = build_processor(encoder, 32, 1.0, mean, std)
    export_encoder(encoder, processor, folder, None, encoder.state_dict())
    return folder


def test_the_loss_is_that_of_the_parts():
    """Two large crops and two small ones: SimReg's deep head in one pass of its batch statistics, pairs one by one."""
    method = build(
        Distill, CNN, teacher=TEACHER, relational_weight=0.3, queue_size=6, hidden_dim=10, teacher_temperature=0.1
    )
    batch = random_batch(Distill, 4)
    large, seen = torch.randn(2, 4, 2, 3, 32, 32)
    small = batch["local_pixel_values"]
    features = torch.cat(
        [encode(method.encoder, v.flatten(0, 1)).unflatten(0, v.shape[:2]) for v in (large, small)], dim=1
    )
    (first, norm, _, second), (third, other_norm, _, last) = method.projector
    hidden = F.batch_norm(features.flatten(0, 1) @ first.weight.T, None, None, norm.weight, norm.bias, True).relu()
    middle = hidden @ second.weight.T + second.bias
    hidden = F.batch_norm(middle @ third.weight.T, None, None, other_norm.weight, other_norm.bias, True).relu()
    predictions = (hidden @ last.weight.T + last.bias).unflatten(0, features.shape[:2])
    targets = torch.stack([encode(open_released(TEACHER).model, view) for view in seen.unbind(1)], dim=1)
    distance = relational = 0
    pairs = [(0, 0), (1, 1), (2, 0), (2, 1), (3, 0), (3, 1)]
    for student, teacher in pairs:
        p, t = predictions[:, student], targets[:, teacher]
        distance = distance + (2 - 2 * F.cosine_similarity(p, t)).mean() / len(pairs)
        relational = relational + seed_loss(p, t, method.queue.rows, 0.2, 0.1) / len(pairs)
    output = method(pixel_values=large, local_pixel_values=small, teacher_pixel_values=seen)
    torch.testing.assert_close(output.loss, distance + 0.3 * relational, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(output.metrics["regression"], distance.detach(), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(output.state["keys"], targets.flatten(0, 1), rtol=1e-4, atol=1e-5)


def test_features_are_centered_or_standardized_over_the_batch():
    features = torch.tensor([[[1.0, 5.0]], [[3.0, 5.0]], [[5.0, 8.0]]])
    assert adjusted(features, "features") is features
    assert adjusted(features, "centered").flatten(0, 1).tolist() == [[-2, -1], [0, -1], [2, 2]]
    expected = torch.tensor([[-2, -1], [0, -1], [2, 2]]) / torch.tensor([8 / 3, 2.0]).sqrt()
    torch.testing.assert_close(adjusted(features, "standardized").flatten(0, 1), expected, rtol=1e-4, atol=1e-5)


def test_a_student_that_is_its_teacher_has_no_loss():
    method = build(Distill, TEACHER, teacher=TEACHER, projector="linear").eval()
    method.encoder.load_state_dict(open_released(TEACHER).model.state_dict())
    with torch.no_grad():
        method.projector[0].weight.copy_(torch.eye(24))
        method.projector[0].bias.zero_()
    pixels = torch.randn(3, 1, 3, 32, 32)
    assert method(pixel_values=pixels, teacher_pixel_values=pixels).loss.item() == pytest.approx(0, abs=1e-6)


def test_the_teacher_gets_its_own_normalization(tmp_path):
    folder = str(released(tmp_path / "teacher"))
    method = build(Distill, CNN, teacher=folder, image_mean=[0.1, 0.2, 0.3], image_std=[0.5, 0.6, 0.7])
    assert method.config.teacher_mean == [0.5, 0.4, 0.3] and method.config.teacher_std == [0.2, 0.3, 0.4]
    images = torch.rand(2, 1, 3, 32, 32)

    def normalized(mean, std):
        return (images - torch.tensor(mean)[:, None, None]) / torch.tensor(std)[:, None, None]

    expected = method.teacher(normalized([0.5, 0.4, 0.3], [0.2, 0.3, 0.4])[:, 0])
    found = method.teach(normalized([0.1, 0.2, 0.3], [0.5, 0.6, 0.7]))[:, 0]
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_the_teacher_is_no_part_of_what_is_saved(tmp_path):
    folder = released(tmp_path / "teacher")
    method = build(Distill, CNN, teacher=str(folder))
    start_step(method, Progress(0, 1))
    assert {name.partition(".")[0] for name in method.state_dict()} == {"encoder", "projector", "teacher_fingerprint"}
    method.save_pretrained(tmp_path / "method")
    shutil.move(folder, tmp_path / "elsewhere")
    loaded = Distill.from_pretrained(tmp_path / "method")  # heads and all, without the teacher
    with pytest.raises(RecipeError, match="method.teacher: .*teacher' is neither a folder"):
        loaded.teacher  # noqa: B018
    loaded.config.teacher = str(tmp_path / "elsewhere")
    start_step(loaded, Progress(0, 1))
    loaded.config.teacher, loaded._teacher, loaded._compared = str(released(tmp_path / "other", seed=1)), None, False
    with pytest.raises(CheckpointError, match="other weights than the teacher that this training was begun with"):
        start_step(loaded, Progress(0, 1))


def recipe(folder, teacher, **changes):
    return load_recipe(
        {
            "method": {"name": "distill", "teacher": str(teacher), "hidden_dim": 16, **changes.pop("method", {})},
            "backbone": CNN,
            "data": {"path": "builtin/digits", "split": "test[:32]", "workers": 0},
            "views": {"view": {"size": 16}, "local": {"size": 8}, "teacher": {"size": 32}, **changes.pop("views", {})},
            "train": {"steps": 3, "batch_size": 8, "checkpoint_every": 1, "device": "cpu", "output": str(folder)},
            "eval": {"baselines": False},
            **changes,
        }
    )


def test_a_run_is_resumed_with_its_teacher_wherever_that_lies(tmp_path):
    teacher = released(tmp_path / "teacher")
    training = build_training(recipe(tmp_path / "run", teacher))
    train(training)
    moved = recipe(tmp_path / "run", shutil.move(teacher, tmp_path / "moved"))
    assert start(build_training(moved))[0] == 3
    changed = build_training(recipe(tmp_path / "run", released(tmp_path / "other", seed=1)))
    start(changed)
    with pytest.raises(CheckpointError, match="'.*other' has other weights"):
        start_step(changed.method, Progress(3, 4))
    with pytest.raises(CheckpointError, match="method.hidden_dim: 16 -> 8"):
        build_training(recipe(tmp_path / "run", tmp_path / "moved", method={"hidden_dim": 8}))


def test_the_card_names_the_teacher_and_passes_its_license_on(tmp_path):
    teacher = released(tmp_path / "teacher")
    (teacher / "README.md").write_text("---\nlicense: mit\nbase_model: someone/base\n---\nA teacher.\n")
    training = build_training(recipe(tmp_path / "run", teacher))
    notes = {"evaluation": {"test_images": 5}, "trained": {}}
    card = build_card(training, notes, 1.0, "digits")
    assert card.data.license == "mit" and card.data.base_model == ["someone/base"]
    assert (
        "It was distilled from the released encoder `teacher`" in card.text
        and "its teacher was trained on" in card.text
    )
    assert str(tmp_path) not in card.content
    own = build_card(
        build_training(recipe(tmp_path / "own", teacher, publish={"license": "cc-by-4.0"})), notes, 1.0, "digits"
    )
    assert own.data.license == "cc-by-4.0"
    (teacher / "README.md").unlink()
    assert build_card(training, notes, 1.0, "digits").data.license is None


def test_another_size_than_the_teachers_and_random_weights_are_said(tmp_path):
    teacher = released(tmp_path / "teacher")
    views = load_recipe(recipe(tmp_path / "a", teacher).to_dict(), ["views.teacher.size=48"]).resolved_views(Distill)
    (told,) = unlike_released(build(Distill, CNN, teacher=str(teacher)), views)
    assert told.startswith("views.teacher.size is 48, and ") and "was released for 32 px" in told
    (told,) = unlike_released(build(Distill, CNN, teacher=TEACHER), views)
    assert "random weights" in told


def test_wrong_settings_are_one_sentence(tmp_path):
    teacher = released(tmp_path / "teacher")
    for settings, told in (
        ({"teacher": None}, "teacher is missing: name a released encoder"),
        ({"regression_weight": 0}, "both 0: nothing would be learned"),
        ({"student_temperature": 0}, "student_temperature is 0, expected a number above 0"),
        ({"relational_weight": -1}, "relational_weight is -1, expected 0 or more"),
        ({"queue_size": 0}, "queue_size is 0"),
    ):
        with pytest.raises(RecipeError, match=told):
            recipe(tmp_path / "run", teacher, method=settings)
    with pytest.raises(RecipeError, match="method.teacher: .*/none' is neither a folder"):
        build_training(recipe(tmp_path / "run", tmp_path / "none"))
    with pytest.raises(RecipeError, match="'.*teacher' has 24 features, and teacher_dim is 3"):
        build_training(recipe(tmp_path / "run", teacher, method={"teacher_dim": 3})).method.teacher  # noqa: B018
    with pytest.raises(RecipeError, match="views.teacher.count is that of views.view"):
        paired(torch.zeros(2, 1, 3), torch.zeros(2, 2, 3))


def test_small_crops_can_be_left_out(tmp_path):
    teacher = released(tmp_path / "teacher")
    training = build_training(recipe(tmp_path / "run", teacher, views={"local": {"count": 0}}))
    batch = training.augmentation(next(training.loader.iter_from(0)), "cpu")
    assert "local_pixel_values" not in batch and training.method(**batch).loss.isfinite()
    assert load_recipe(training.recipe.to_dict()).fingerprint() == training.recipe.fingerprint()
    with pytest.raises(RecipeError, match="views.view.count: is 0, and the method needs this view"):
        recipe(tmp_path / "none", teacher, views={"view": {"count": 0}, "teacher": {"crop_of": None}}).resolved_views()


def test_the_teachers_own_copy_of_a_size_that_it_cannot_take_is_refused(tmp_path):
    patches = {"model_type": "vit", "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "patch_size": 8}
    odd = recipe(tmp_path / "run", "", method={"teacher": patches}, views={"teacher": {"size": 20}})
    with pytest.raises(RecipeError, match="view 'teacher' is 20 px, but encoder 'vit' cuts patches of 8 px"):
        build_training(odd)


def test_the_floor_of_a_benchmark_has_the_teachers_pass_over_its_own_view(tmp_path):
    training = build_training(recipe(tmp_path / "run", released(tmp_path / "teacher")))
    batch = training.augmentation(next(training.loader.iter_from(0)), "cpu")
    sizes = {"teacher": [], "student": []}
    for name, model in (("teacher", training.method.teacher.model), ("student", training.method.encoder)):
        model.register_forward_pre_hook(
            lambda _, args, kwargs, seen=sizes[name]: seen.append((args or list(kwargs.values()))[0].shape[-1]),
            with_kwargs=True,
        )
    floor(training, batch)
    assert sizes == {"teacher": [32], "student": [16, 8]}
