"""Mistakes of authors of methods: each is one sentence of the contract suite, and of the class or the run where these detect it."""

import copy

import numpy as np
import pytest
import torch
from huggingface_hub.dataclasses import strict
from torch import nn
from transformers import AutoModel

from hfcontrast.errors import PluginError
from hfcontrast.methods import registry
from hfcontrast.methods.base import Frozen, Method, MethodConfig, MethodOutput
from hfcontrast.methods.contract.construction import check_built
from hfcontrast.methods.contract.declaration import check_written
from hfcontrast.nn import MLPHead
from hfcontrast.testing import ContractViolation, build, check_method, random_batch
from hfcontrast.testing.learning import check_learns
from hfcontrast.testing.small import TINY_RESNET
from hfcontrast.view import View
from tests.methods.test_contract import Sound, SoundConfig


def config(strictly=True, **fields):
    """A configuration with fields (type, default)."""
    body = {"model_type": "hfcontrast_wrong", "__module__": __name__}
    body |= {name: fields.pop(name) for name in [*fields] if callable(fields[name])}
    body["__annotations__"] = {name: kind for name, (kind, _) in fields.items()}
    made = type("WrongConfig", (MethodConfig,), body | {name: default for name, (_, default) in fields.items()})
    return strict(made) if strictly else made


def built(more):
    """A constructor that does one thing more before post_init()."""

    def __init__(self, config):
        Method.__init__(self, config)
        self.head = nn.Linear(self.feature_size, 8)
        self.register_buffer("mean", torch.zeros(8))
        more(self)
        self.post_init()

    return {"__init__": __init__}


def changed(**parts):
    """An objective whose output has other parts; a function is given the embeddings."""

    def objective(self, embeddings):
        output = Sound.objective(self, embeddings)
        for name, value in parts.items():
            setattr(output, name, value(embeddings["z"]) if callable(value) else value)
        return output

    return {"objective": objective}


def without_post_init(self, config):
    Method.__init__(self, config)
    self.head = nn.Linear(self.feature_size, 8)


def without_the_base(self, config):
    nn.Module.__init__(self)
    self.post_init()


def added_later(self, config):
    Sound.__init__(self, config)
    self.later = nn.Linear(8, 8)


def takes_more(self, config, width):
    Sound.__init__(self, config)


def embed_as(function):
    return {"embed": lambda self, pixel_values: function(self, Sound.embed(self, pixel_values))}


class OldStyle(MethodConfig):
    model_type = "hfcontrast_wrong_old"

    def __init__(self, width=3, **kwargs):
        super().__init__(**kwargs)
        self.width = width


class Untyped(MethodConfig):
    model_type = "hfcontrast_wrong_untyped"
    width = 3


@strict
class Grows(MethodConfig):
    model_type = "hfcontrast_wrong_grows"
    width: int = 8

    def __post_init__(self, **kwargs):
        self.width *= 2
        super().__post_init__(**kwargs)


def tie(self):
    self.other = nn.Linear(self.feature_size, 8)
    self.other.weight = self.head.weight


def freeze(self):
    self.requires_grad_(False)


def counted(self, outputs, progress):
    self.update_teachers(0.9)
    self.count = getattr(self, "count", 0) + 1


def grow(self, outputs, progress):
    self.mean = torch.cat([self.mean, outputs[0].state["mean"]])


def average_with_graph(self, outputs, progress):
    for old, new in zip(self.teacher_head.parameters(), self.head.parameters()):
        old.mul_(0.9).add_(0.1 * new)


@torch.no_grad()
def moves_the_head(self, outputs, progress):
    self.head.weight.add_(1)


def move_unsaved(self, outputs, progress):
    self.scratch += 1


def noise(self, embeddings):
    return Sound.objective(self, {"z": embeddings["z"] + torch.randn_like(embeddings["z"])})


def numpy_noise(self, embeddings):
    return Sound.objective(self, {"z": embeddings["z"] + float(np.random.rand())})


def unsaved(self):
    self.register_buffer("grid", torch.ones(8), persistent=False)
    self.head.register_buffer("steps", torch.zeros(1), persistent=False)


def filled(self):
    Sound.reset_parameters(self)
    nn.init.zeros_(self.scratch)


def teacher_in_embed(self, z):
    self.update_teachers(0.9)
    return z


def sometimes(self, z):
    return {"z": z["z"] + self.extra(z["z"]) if self.progress.step % 2 == 0 else z["z"]}


def remembered(self, embeddings):
    return Sound.objective(self, {"z": self._z})


def kept(self, z):
    self._z = z["z"]
    return z


def reads_whole(self, embeddings):
    return Sound.objective(self, {"z": embeddings["whole"]})


def lazily(self, z):
    if not hasattr(self, "late"):
        self.late = nn.Linear(8, 8)
    return {"z": self.late(z["z"])}


def moved_input(self, pixel_values):
    return Sound.embed(self, pixel_values.mul_(2))


def now_and_then(self, embeddings):
    output = Sound.objective(self, embeddings)
    return MethodOutput(
        loss=output.loss, state=output.state, metrics={"a": output.loss.detach()} if self.progress.step else {}
    )


IN_THE_CLASS = [
    ({"teachers": ["head"]}, "teachers is ['head'], expected names of copies and of the modules that they follow"),
    ({"teachers": {"head": "head"}}, "teachers has a copy called 'head', a name that is taken"),
    ({"teachers": {"encoder": "head"}}, "teachers has a copy called 'encoder', a name that is taken"),
    ({"constant_lr": "head"}, "constant_lr is 'head', expected a tuple of names"),
    ({"compiled_modules": "head"}, "compiled_modules is 'head', expected a tuple of names"),
    ({"data_statistics": "width"}, "data_statistics is 'width', expected a tuple of names"),
    ({"after_steps": lambda self, outputs, progress: None}, "defines after_steps, which nothing calls or reads; did you mean"),
    ({"befor_step": lambda self, progress: None}, "did you mean before_step?"),
    ({"export_encoders": lambda self: None}, "did you mean export_encoder?"),
    ({"teacher": {"teacher_head": "head"}}, "did you mean teachers?"),
    ({"constant_lrs": ("head",)}, "did you mean constant_lr?"),
    ({"before_step": lambda self: None}, "before_step(self) cannot be called as before_step(progress)"),
    ({"after_step": lambda self, progress: None}, "after_step(self, progress) cannot be called as after_step(outputs, progress)"),
    ({"compute_data_statistics": lambda self, images, options: {}}, "compute_data_statistics(self, images, options) cannot be called as compute_data_statistics(images, options)"),
    ({"objective": lambda self: None}, "objective(self) cannot be called as objective(embeddings, labels=...)"),
    ({"embed": lambda self, pixel_values, /: None}, "takes pixel_values by position only, and batch entries are passed by name"),
    ({"__init__": takes_more}, "__init__(self, config, width) cannot be called as __init__(config)"),
]  # fmt: skip
WHEN_IT_IS_BUILT = [
    ({"__init__": without_post_init}, "its __init__ ends without self.post_init()"),
    ({"__init__": added_later}, "later.weight was added after self.post_init()"),
    ({"teachers": {"teacher_head": "haed"}}, "follow 'haed', which is not a module of it when post_init() is called; its modules are"),
    ({"teachers": {"copied": "gain"}} | built(lambda self: setattr(self, "gain", nn.Parameter(torch.ones(1)))), "follow 'gain'"),
    ({"compiled_modules": ("encoder.layerz",)}, "compiled_modules names what it does not have ("),
    ({"compiled_modules": ("mean",)}, "compiled_modules names a Tensor, expected a module or a ModuleList; its modules are encoder, head"),
    ({"constant_lr": ("haed",)}, "constant_lr names 'haed', and there is no such module; its modules are encoder, head"),
    (built(lambda self: setattr(self, "embed", nn.Linear(2, 2))), "self.embed is shadowed by embed of the class"),
    (built(lambda self: setattr(self, "loss_function", nn.MSELoss())), "self.loss_function is shadowed by"),
    (built(lambda self: setattr(self, "heads", [nn.Linear(8, 8)])), "the parameters in self.heads are not the method's, as it is a list"),
    (built(lambda self: setattr(self.head, "more", {"a": nn.Linear(8, 8)})), "the parameters in self.head.more are not the method's"),
    (built(lambda self: setattr(self, "student", self.encoder)), "are one tensor under two names, which cannot be saved"),
    (built(tie), "head.weight and other.weight are one tensor under two names"),
    (built(lambda self: setattr(self, "lazy", nn.LazyLinear(3))), "lazy.weight has no size yet"),
    ({"export_encoder": lambda self: copy.deepcopy(self.encoder)}, "export_encoder() returned a model whose"),
    ({"config_class": config(marks=(frozenset, frozenset((1,))))}, "config.json cannot hold the setting marks"),
    ({"config_class": Grows}, "the setting width is 16 before saving and 32 after loading"),
    (built(unsaved), "buffer grid is persistent=False and is lost on loading: make it persistent, or fill it in reset_parameters"),
    (built(lambda self: self.register_buffer("grid", torch.full((8,), torch.ones(1).item()), persistent=False)), "it cannot be loaded again"),
    ({"post_init": lambda self: (Sound.post_init(self), freeze(self))}, "none of its parameters is trainable"),
]  # fmt: skip
IN_A_STEP = [
    (changed(metrics={"std": 0.5}), "metrics['std'] is float 0.5, expected a scalar tensor"),
    (changed(metrics=lambda z: {"std": z.detach().std((0, 1))}), "metrics['std'] is Tensor of shape (8,), expected a scalar"),
    (changed(metrics=lambda z: {"loss": z.detach().mean()}), "a metric is called 'loss', which the log reserves"),
    (changed(metrics=lambda z: {"step": z.detach().mean()}), "a metric is called 'step', which the log reserves"),
    (changed(metrics=[1]), "metrics is list [1], expected a dict"),
    (changed(embeddings=lambda z: z.detach().mean((1, 2))), "embeddings are Tensor of shape (8,), expected (B, ..., D)"),
    (changed(loss=None), "the loss must be a scalar tensor, and is None"),
    ({"objective": lambda self, embeddings: None}, "objective() returned NoneType, expected MethodOutput"),
    (embed_as(teacher_in_embed), "update_teachers() belongs in after_step(); a forward pass must not change state"),
]  # fmt: skip
OF_THE_SUITE = [
    ({"config_class": Untyped}, "Untyped.width = 3 is not a setting, as it has no type: write width: int = 3"),
    ({"config_class": OldStyle}, "OldStyle defines __init__: write settings as typed fields"),
    ({"config_class": config(num_labels=(int, 3))}, "has a setting 'num_labels', a name of transformers or of the recipe"),
    ({"config_class": config(name=(str, "x"))}, "has a setting 'name'"),
    ({"data_statistics": ("clusters",)}, "`data_statistics` names 'clusters', which is not a setting"),
    ({"views": (View(key="crops"),)}, "is made under the key 'crops', which neither embed() nor objective() takes; they take pixel_values"),
    ({"embed": lambda self, pixel_value: None}, "is made under the key 'pixel_values', which neither"),
    (built(lambda self: setattr(self, "anchors", torch.ones(3))), "self.anchors is a tensor that is neither parameter nor buffer"),
    (built(lambda self: setattr(self, "anchors", [torch.ones(3)])), "self.anchors is a tensor that is neither"),
    (embed_as(lambda self, z: z["z"]), "embed() returned Tensor, expected a dict of tensors by name"),
    (embed_as(lambda self, z: z | {"extra": None}), "embed()['extra'] is NoneType, expected a tensor"),
    (embed_as(lambda self, z: z | {"mean": z["z"].mean()}), "embed()['mean'] has no rows for 8 images"),
    ({"embed": moved_input}, "embed() changed pixel_values in place"),
    (changed(state={"keys": [1, 2]}), "state['keys'] is list, expected a tensor"),
    (changed(embeddings=lambda z: z), "the output's embeddings are not detached"),
    (changed(loss=lambda z: z.detach().mean()), "the loss has no graph"),
    ({"objective": now_and_then}, "the metrics of step 1 are ['a'], and [] before"),
    (embed_as(sometimes) | built(lambda self: setattr(self, "extra", nn.Linear(8, 8))), "no gradient reaches extra.weight in step 1"),
    (embed_as(kept) | {"objective": remembered}, "self._z keeps a tensor with its graph"),
    (embed_as(lambda self, z: z | {"whole": z["z"]} if len(z["z"]) == 8 else z) | {"objective": reads_whole}, "embedded in two halves, the batch fails with KeyError"),
    (embed_as(lazily), "late.weight was added after self.post_init()"),
    ({"after_step": grow}, "a step changes size or type of mean"),
    ({"after_step": average_with_graph}, "after_step() leaves teacher_head.weight with a graph"),
    ({"after_step": counted}, "self.count changes from step to step and is not saved"),
    ({"frozen": lambda self: {"haed": Frozen(1)}}, "frozen() names 'haed', which is not a module or parameter of it; its modules are encoder, head"),
    ({"frozen": lambda self: {"head": 1}}, "frozen() returned {'head': 1}, expected hfcontrast.Frozen by names"),
    ({"frozen": lambda self: {"teacher_head": Frozen(1)}}, "frozen() names 'teacher_head', which is never trained"),
    ({"frozen": lambda self: {"head": Frozen(steps=2)}, "after_step": moves_the_head}, "head is frozen until step 2, and step 1 updates it"),
    ({"objective": noise}, "a step draws from the generator of torch, whose numbers differ between processes"),
    ({"objective": numpy_noise}, "a step draws from the generator of numpy, whose numbers differ between processes"),
    ({"visualize": lambda self, pixel_values: [pixel_values]}, "visualize(...) returned list"),
    ({"visualize": lambda self, pixel_values: {"a": pixel_values[:, :, 0]}}, "visualize() returned shape (8, 2, 32, 32) for 'a', expected images"),
    ({"visualize": lambda self, pixel_values, labels: {}}, "Wrong: visualize(...) raised TypeError"),
    ({"after_step": lambda self, outputs, progress: outputs.loss}, "Wrong: after_step(outputs, progress) raised AttributeError: 'list' object has no attribute 'loss'"),
    ({"after_step": lambda self, outputs, progress: outputs[0].state["y"]}, "Wrong: after_step(outputs, progress) raised KeyError: 'y'"),
    ({"after_step": lambda self, outputs, progress: None}, "teachers has 'teacher_head' follow 'head', and no step updates it"),
    ({"before_step": lambda self, progress: progress.loss}, "Wrong: before_step(progress) raised AttributeError"),
    ({"phases": lambda self, steps_per_epoch, batch_size: None}, "Wrong: phases(steps_per_epoch, batch_size) returned None, expected a list of instances of hfcontrast.Phase"),
    ({"config_class": config(training_phases=lambda self, steps_per_epoch, batch_size: self.none)}, "WrongConfig: training_phases(steps_per_epoch, batch_size) raised AttributeError"),
    ({"fewest_images": classmethod(lambda cls, options: 2)}, "fewest_images(options) returned int 2, expected (min_images, min_images_normalized)"),
    ({"data_statistics": ("levels",), "compute_data_statistics": classmethod(lambda cls, images, options: None), "config_class": config(levels=(list | None, None))}, "compute_data_statistics(images, options) returned None, expected a dict with 'levels'"),
    ({"data_statistics": ("levels",), "compute_data_statistics": classmethod(lambda cls, images, options: {"levels": images}), "config_class": config(levels=(list | None, None))}, "compute_data_statistics() returned Tensor for 'levels', expected numbers"),
    (built(lambda self: self.keep_in_eval_mode("haed")), "keep_in_eval_mode('haed') names no module of it; its modules are encoder, head"),
    ({"__init__": without_the_base}, "its __init__ does not begin with super().__init__(config)"),
    ({"reset_parameters": filled, "after_step": move_unsaved} | built(lambda self: self.register_buffer("scratch", torch.zeros(1), persistent=False)), "a step changes the buffer scratch, which is not saved"),
    (embed_as(lambda self, z: {"z": z["z"] + torch.ones(8)}), "a step mixes tensors of the CPU with those of the device"),
]  # fmt: skip


def wrong(body):
    return type("Wrong", (Sound,), {"config_class": SoundConfig, "__module__": __name__} | body)


@pytest.mark.parametrize("body, words", IN_THE_CLASS)
def test_the_class_is_refused_by_the_run_and_by_the_suite(body, words):
    method = wrong(body)  # its module can be imported, for the sake of the others in it
    with pytest.raises(PluginError) as error:
        check_written(method, Method)
    assert words in str(error.value) and f"method {__name__}.Wrong" in str(error.value)
    with pytest.raises(ContractViolation) as violation:
        check_method(method)
    assert words in str(violation.value)


@pytest.mark.parametrize("body, words", WHEN_IT_IS_BUILT)
def test_what_has_been_built_is_refused_by_the_run_and_by_the_suite(body, words):
    method = wrong(body)
    with pytest.raises(PluginError) as error:
        check_built(build(method))
    assert words in str(error.value)
    with pytest.raises(ContractViolation) as violation:
        check_method(method)
    assert words in str(violation.value)


@pytest.mark.parametrize("body, words", IN_A_STEP)
def test_a_step_is_refused_by_the_run_and_by_the_suite(body, words):
    method = wrong(body)
    with pytest.raises(PluginError) as error:
        build(method)(pixel_values=torch.randn(8, 2, 3, 32, 32))
    assert words in str(error.value)
    with pytest.raises(ContractViolation) as violation:
        check_method(method)
    assert words in str(violation.value)


@pytest.mark.parametrize("body, words", OF_THE_SUITE)
def test_the_suite_refuses(body, words):
    with pytest.raises(ContractViolation) as violation:
        check_method(wrong(body))
    assert words in str(violation.value)


def test_names_near_a_hook_that_are_used_or_far_are_accepted():
    class Helped(Sound):
        constants = ("a",)
        view = "a name that is read below"

        def embeds(self, pixel_values):
            return super().embed(pixel_values)

        def embed(self, pixel_values):
            assert self.view
            return self.embeds(pixel_values)

        def measured_width(self):
            return 3

    check_written(Helped, Method)


def test_a_helper_whose_name_is_near_a_hooks_is_a_warning():
    with pytest.warns(UserWarning, match="Wrong: defines froze, which nothing calls or reads; did you mean frozen"):
        check_written(wrong({"froze": lambda self, epochs: 1}), Method)
    with pytest.warns(UserWarning, match="did you mean views"):
        check_written(wrong({"view": 3}), Method)
    with pytest.raises(PluginError, match="did you mean before_step"):
        check_written(wrong({"before_steps": lambda self, progress: None}), Method)


def test_weights_tied_as_transformers_declares_them_are_fine(tmp_path):
    class Tied(Sound):
        _tied_weights_keys = {"other.weight": "head.weight"}
        __init__ = built(tie)["__init__"]

        def embed(self, pixel_values):
            features = self.encode(pixel_values)
            return {"z": self.head(features) + self.other(features)}

        def after_step(self, outputs, progress):
            assert self.other.weight is self.head.weight
            super().after_step(outputs, progress)

    check_method(Tied, TINY_RESNET, learning_steps=10)
    build(Tied).save_pretrained(tmp_path)
    loaded = Tied.from_pretrained(tmp_path)
    assert loaded.other.weight is loaded.head.weight


def test_a_teacher_with_the_momentum_one_is_fine():
    def after_step(self, outputs, progress):
        self.update_teachers(1.0)

    check_learns(build(wrong({"after_step": after_step})), random_batch(Sound, 8), 3)


def test_settings_come_back_as_what_they_were(tmp_path, monkeypatch):
    for name in ("_in_process", "_claims"):
        monkeypatch.setattr(registry, name, getattr(registry, name).copy())

    @strict
    class KeptConfig(MethodConfig):
        model_type = "hfcontrast_settings_kept"
        scales: tuple = (0.1, 0.2)
        sizes: tuple[int, ...] | None = (1, 2)
        ranges: list[tuple[int, int]] | None = None
        weights: dict[int, float] | None = None
        plain: list | None = None

    class Kept(Sound):
        config_class = KeptConfig

    registry.register(Kept)
    given = {"scales": (1, 2), "ranges": [(1, 2), (3, 4)], "weights": {3: 0.5}, "plain": [1, [2]]}
    method = build(Kept, **given)
    check_built(method)
    method.save_pretrained(tmp_path)
    loaded = AutoModel.from_pretrained(tmp_path).config
    assert {name: getattr(loaded, name) for name in given} == given and loaded.sizes == (1, 2)


def test_dropout_in_a_head_and_a_buffer_that_is_filled_again_are_fine():
    class Dropping(Sound):
        def __init__(self, config):
            Method.__init__(self, config)
            self.head = nn.Linear(self.feature_size, 8)
            self.drop = nn.Dropout(0.2)
            self.register_buffer("mean", torch.zeros(8))
            self.register_buffer("scratch", torch.zeros(8), persistent=False)
            self.keep_in_eval_mode("head")
            self.post_init()

        reset_parameters = filled

        def objective(self, embeddings):
            return super().objective({"z": self.drop(embeddings["z"]) + self.scratch})

    check_method(Dropping, TINY_RESNET, learning_steps=10)


def test_a_list_that_names_registered_modules_is_fine():
    method = build(wrong(built(lambda self: setattr(self, "_parts", [self.head, MLPHead(4, 4, 4)][:1]))))
    check_built(method)
