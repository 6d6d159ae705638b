"""The contract suite itself: it refuses every kind of broken method, and says why."""

import random

import pytest
import torch
from huggingface_hub.dataclasses import strict
from torch import nn
from torch.nn import functional as F

from hfcontrast import testing
from hfcontrast.losses import nt_xent
from hfcontrast.methods.base import Method, MethodConfig, MethodOutput
from hfcontrast.nn import all_mean, gather
from hfcontrast.testing import ContractViolation, build, check_method, random_batch
from hfcontrast.view import View


@strict
class SoundConfig(MethodConfig):
    """Configuration of the method that is then broken in every way."""

    model_type = "hfcontrast_sound"


class Sound(Method):
    """A small method with a teacher and a running mean, which fulfils the contract."""

    config_class = SoundConfig
    views = (View(count=2),)
    teachers = {"teacher_head": "head"}

    def __init__(self, config):
        super().__init__(config)
        self.head = nn.Linear(self.feature_size, 8)
        self.register_buffer("mean", torch.zeros(8))
        self.post_init()

    def reset_parameters(self):
        nn.init.zeros_(self.mean)

    def embed(self, pixel_values):
        return {"z": self.head(self.encode(pixel_values))}

    def objective(self, embeddings):
        z = embeddings["z"]
        loss = nt_xent(gather(z), 0.5)
        return MethodOutput(loss=loss, metrics={"norm": z.detach().norm()}, state={"mean": z.detach().mean((0, 1))})

    def after_step(self, outputs, progress):
        self.mean.lerp_(all_mean(torch.stack([output.state["mean"] for output in outputs]).mean(0)), 0.1)
        self.update_teachers(0.9)


@strict
class PhasesOfTheirOwnKindConfig(SoundConfig):
    model_type = "hfcontrast_phases_of_their_own_kind"

    def training_phases(self, steps_per_epoch, batch_size):
        return [("method.pause", steps_per_epoch)]


class PhasesOfTheirOwnKind(Sound):
    config_class = PhasesOfTheirOwnKindConfig


class ChangesStateInForward(Sound):
    def objective(self, embeddings):
        output = super().objective(embeddings)
        self.mean.lerp_(output.state["mean"], 0.1)
        return output


class TeacherWithGradient(Sound):
    def post_init(self):
        super().post_init()
        self.teacher_head.requires_grad_(True)

    def embed(self, pixel_values):
        features = self.encode(pixel_values)
        return {"z": self.head(features) + self.teacher_head(features)}


class UnusedParameter(Sound):
    def __init__(self, config):
        super().__init__(config)
        self.spare = nn.Linear(3, 3)
        self.post_init()


class MetricsWithGraph(Sound):
    def objective(self, embeddings):
        output = super().objective(embeddings)
        return MethodOutput(loss=output.loss, metrics={"norm": embeddings["z"].norm()}, state=output.state)


class StateWithGraph(Sound):
    def objective(self, embeddings):
        output = super().objective(embeddings)
        return MethodOutput(loss=output.loss, state={"mean": embeddings["z"].mean((0, 1))})


class LocalBatchOnly(Sound):
    def objective(self, embeddings):
        output = super().objective(embeddings)
        return MethodOutput(loss=nt_xent(embeddings["z"], 0.5), state=output.state)


class LocalStateOnly(Sound):
    def after_step(self, outputs, progress):
        self.mean.lerp_(outputs[0].state["mean"], 0.1)
        self.update_teachers(0.9)


class GoesUphill(Sound):
    def objective(self, embeddings):
        output = super().objective(embeddings)
        return MethodOutput(loss=2 * output.loss.detach() - output.loss, state=output.state)


class ExportsItself(Sound):
    def export_encoder(self):
        return self


class ExportsAnotherNetwork(Sound):
    def export_encoder(self):
        return nn.Sequential(self.encoder)


class ExportsWithAHook(Sound):
    """Its encoder works only with something that is not saved with it."""

    def __init__(self, config):
        super().__init__(config)
        self.encoder.register_forward_hook(self._doubled)

    @staticmethod
    def _doubled(module, inputs, outputs):
        outputs.pooler_output = 2 * outputs.pooler_output
        return outputs


class CountsCallsOfALayer(Sound):
    """Its encoder does something else when a layer is called once more, as gradient checkpointing does."""

    def __init__(self, config):
        super().__init__(config)
        self.calls = 0
        for layer in [part for part in self.encoder.modules() if isinstance(part, nn.Linear)][:1]:
            layer.register_forward_pre_hook(self._scaled)

    def _scaled(self, module, inputs):
        self.calls += 1
        return inputs[0] * (1 + self.calls % 2)


class ForgetsWhenSaved(Sound):
    def __init__(self, config):
        super().__init__(config)
        self.offset = random.random()  # neither a parameter nor a buffer

    def embed(self, pixel_values):
        return {"z": super().embed(pixel_values)["z"] + self.offset}


class LossOfEveryImage(Sound):
    def objective(self, embeddings):
        return MethodOutput(loss=embeddings["z"].square().mean((1, 2)))


class LossIsNoNumber(Sound):
    def objective(self, embeddings):
        return MethodOutput(loss=embeddings["z"].sum() * float("nan"))


class ReturnsTheLossAlone(Sound):
    def objective(self, embeddings):
        return super().objective(embeddings).loss


class NormalizesOneView(Sound):
    """Of two rows batch normalization makes 1 and -1, which say nothing of them; in double precision, where it is so to the last bit."""

    def __init__(self, config):
        super().__init__(config)
        self.norm = nn.BatchNorm1d(8, eps=1e-12).double()
        self.post_init()

    def objective(self, embeddings):
        views = [self.norm(view.double()).float() for view in embeddings["z"].unbind(1)]
        output = super().objective({"z": torch.stack(views, dim=1)})
        return MethodOutput(loss=output.loss, state=output.state)


class NormalizesInEmbedOfAConvolution(Sound):
    """Right with a ViT, which is what it was tried with."""

    def __init__(self, config):
        super().__init__(config)
        self.norm = nn.BatchNorm1d(8) if config.backbone_config.model_type == "resnet" else nn.LayerNorm(8)
        self.post_init()

    def embed(self, pixel_values):
        z = super().embed(pixel_values)["z"]
        return {"z": self.norm(z.flatten(0, 1)).view_as(z)}


class ViewsBeforeImages(Sound):
    def embed(self, pixel_values):
        return {"z": super().embed(pixel_values)["z"].transpose(0, 1)}


def test_a_sound_method_passes():
    check_method(Sound)


@pytest.mark.parametrize(
    "method, words",
    [
        (
            PhasesOfTheirOwnKind,
            "returned list [('method.pause', 5)], expected a list of instances of hfcontrast.Phase",
        ),
        (ChangesStateInForward, "forward() changed mean; state changes belong in after_step()"),
        (TeacherWithGradient, "a gradient reaches the teacher's teacher_head.weight"),
        (UnusedParameter, "no gradient reaches spare.weight; freeze it or use it"),
        (MetricsWithGraph, "metrics['norm'] is not detached"),
        (StateWithGraph, "state['mean'] is not detached"),
        (LocalBatchOnly, "2 processes have the loss"),
        (LocalStateOnly, "state of mean differ by"),
        (GoesUphill, "nothing is learned from 8 images"),
        (ExportsItself, "export_encoder() returned ExportsItself, expected the native transformers model"),
        (ExportsAnotherNetwork, "export_encoder() returned Sequential"),
        (ExportsWithAHook, "the exported encoder has other features"),
        (CountsCallsOfALayer, "is another one under gradient checkpointing"),
        (ForgetsWhenSaved, "before saving and"),
        (LossOfEveryImage, "the loss must be a scalar"),
        (LossIsNoNumber, "the loss is nan on random images"),
        (ReturnsTheLossAlone, "objective() returned Tensor, expected MethodOutput"),
        (NormalizesOneView, "says that it learns from 2 images, and the encoder's largest gradient is"),
        (NormalizesInEmbedOfAConvolution, "with a convolutional encoder: embedded in two halves, the gradient of"),
        (ViewsBeforeImages, "embed()['z'] has 2 rows for 8 images"),
    ],
)
def test_a_broken_method_is_refused(method, words):
    with pytest.raises(ContractViolation) as error:
        check_method(method)
    assert words in str(error.value)


def test_gradients_are_compared_not_only_losses(monkeypatch):
    """A gather without gradients to the other processes has the right loss: only its gradients are wrong."""

    def without_gradient(local):
        gathered = gather(local.detach()).clone()
        rows = len(local)
        number = torch.distributed.get_rank() if torch.distributed.is_initialized() else 0
        gathered[number * rows : (number + 1) * rows] = local
        return gathered

    class OneSided(Sound):
        def objective(self, embeddings):
            output = super().objective(embeddings)
            return MethodOutput(loss=nt_xent(without_gradient(embeddings["z"]), 0.5), state=output.state)

    method = build(OneSided)
    with pytest.raises(ContractViolation, match="gradients of .* differ by"):
        testing.check_processes(method, random_batch(OneSided, 8))


def test_a_small_method_is_always_the_same():
    first, second = build(Sound), build(Sound)
    assert all(torch.equal(a, b) for a, b in zip(first.state_dict().values(), second.state_dict().values()))
    assert first.training
    batch = random_batch(Sound, 6)
    assert batch["pixel_values"].shape == (6, 2, 3, 32, 32) and batch["labels"].tolist() == [0, 1, 2, 0, 1, 2]
    assert F.mse_loss(batch["pixel_values"], random_batch(Sound, 6)["pixel_values"]) == 0
