"""Members of version 0.1 that are elsewhere now: classes that define them and code that calls them keep working, with one warning."""

import contextlib
import warnings

import pytest
import torch
from huggingface_hub.dataclasses import strict

from hfcontrast.errors import PluginError
from hfcontrast.methods.base import Method, MethodConfig, MethodOutput, Phase, Progress
from hfcontrast.methods.contract import arguments, steps
from hfcontrast.methods.contract.calling import fewest_images_of, phases_of
from hfcontrast.methods.contract.modules import compiled_modules, copy_teachers
from hfcontrast.methods.contract.old_names import MOVED, RENAMED
from hfcontrast.testing import build, random_batch
from hfcontrast.training.step import OptimizerStep
from hfcontrast.view import View

# Beside what torch and transformers have: what an author writes, declares and calls.
WRITTEN = {"embed", "objective", "before_step", "after_step", "frozen", "after_loading", "export_encoder", "visualize"}
WRITTEN |= {"learned_from", "frozen_features"}
DECLARED = {"views", "view_encoders", "teachers", "constant_lr", "compiled_modules", "collapse_advice", "min_images"}
DECLARED |= {"min_images_normalized", "data_statistics", "compute_data_statistics", "needs_colors"}


CALLED = {"encode", "random_uniform", "random_key", "update_teachers", "keep_in_eval_mode", "progress"}
CALLED |= {"from_encoder"}


@strict
class FormerConfig(MethodConfig):
    """Configuration of Former."""

    model_type = "hfcontrast_former"
    wide: bool = False


class Current(Method):
    """A method without old members."""

    config_class = FormerConfig
    views = (View(count=2, size=16),)
    teachers = {"teacher": "encoder"}

    def __init__(self, config):
        super().__init__(config)
        self.calls = []
        self.head = torch.nn.Linear(self.feature_size, 4)
        self.post_init()

    def embed(self, pixel_values):
        return {"z": self.head(self.encode(pixel_values))}

    def objective(self, embeddings, labels=None, input_ids=None):
        return MethodOutput(loss=embeddings["z"].square().mean())


def former():
    """A class that overrides every member of version 0.1, and calls that of its base."""

    class Former(Current):
        """A method of a plugin that has not been changed for years."""

        @classmethod
        def needs_labels(cls):
            return not super().needs_labels()

        @classmethod
        def needs_captions(cls):
            return super().needs_captions()

        @classmethod
        def needed_columns(cls):
            return (*super().needed_columns(), "depth")

        @classmethod
        def fewest_images(cls, options):
            least, normalized = super().fewest_images(options)
            return least + 5, normalized + bool(options.get("wide"))

        def phases(self, steps_per_epoch, batch_size):
            return [*super().phases(steps_per_epoch, batch_size), Phase("method.wide", 3, 3, "it is narrow")]

        def compiled_parts(self):
            return [*super().compiled_parts(), self.head]

        def start_step(self, progress):
            super().start_step(progress)
            self.calls.append("start_step")

        @contextlib.contextmanager
        def computing(self):
            with super().computing():
                self.calls.append("computing")
                yield

        def checked(self, output):
            self.calls.append("checked")
            return super().checked(output)

        def copy_teachers(self):
            super().copy_teachers()
            self.calls.append("copy_teachers")

        def after_backward(self, progress):
            self.calls.append("after_backward")

    return Former


def test_a_class_that_overrides_them_is_asked_and_warned_once():
    with pytest.warns(FutureWarning) as warned:
        cls = former()
        method = build(cls)
        assert arguments.needs_labels(cls) and not arguments.needs_captions(cls)
        assert arguments.needed_columns(cls) == ("depth",)
        assert fewest_images_of(cls, {"wide": True}) == (7, 2)
        assert [phase.setting for phase in phases_of(method, 1, 1)] == ["method.wide"]
        assert compiled_modules(method) == [method.encoder, method.teacher, method.head]
        step = OptimizerStep(method, torch.optim.SGD(method.head.parameters(), lr=0.1))
        step([random_batch(cls, 4, 32)], Progress(2, 10))
    assert method.calls == ["copy_teachers", "start_step", "computing", "computing", "checked", "after_backward"]
    assert method.progress.step == 2
    told = [str(warning.message) for warning in warned if "Former" in str(warning.message)]
    assert sorted(told) == sorted(
        f"method {__name__}.{cls.__qualname__}: {old} is called {new} now; the old name works until hfcontrast 0.3"
        for old, new in MOVED.items()
    )


def test_other_code_calls_them_with_one_warning():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        method = build(Current)
        steps.start_step(method, Progress(1, 10))
        output = method(**random_batch(Current, 4, 32))
        copy_teachers(method)
        assert compiled_modules(method) == [method.encoder, method.teacher]
    with pytest.warns(FutureWarning) as warned:
        for _ in range(2):
            assert not Current.needs_labels() and not method.needs_captions() and Current.needed_columns() == ()
            assert Current.fewest_images({}) == (2, 1) and method.phases(1, 1) == []
            assert method.compiled_parts() == [method.encoder, method.teacher]
            method.start_step(Progress(4, 10))
            assert method.progress.step == 4 and method.checked(output) is output
            method.copy_teachers()
            with method.computing(), pytest.raises(PluginError, match="belongs in after_step"):
                method.update_teachers(0.5)
    told = [str(warning.message) for warning in warned]
    assert len(told) == len(MOVED) - 1 and {warning.filename for warning in warned} == {__file__}


def test_an_author_meets_nothing_else():
    own = {name for kind in Method.__mro__ if kind.__module__.startswith("hfcontrast.") for name in vars(kind)}
    own |= set(Method.__annotations__)
    inherited = {name for kind in Method.__mro__ if not kind.__module__.startswith("hfcontrast.") for name in dir(kind)}
    public = {name for name in own - inherited if not name.startswith("_")}
    read_by_transformers = {"accepts_loss_kwargs"}  # by its Trainer; PreTrainedModel does not declare it
    assert public - set(MOVED) - set(RENAMED) - read_by_transformers == WRITTEN | DECLARED | CALLED
