"""The contract of a method: :class:`Method`, and what its authors import with it."""

import inspect
from collections.abc import Mapping, Sequence
from typing import Any, Literal, Self

from torch import Tensor
from transformers import PreTrainedModel

from ..encoders.build import build_encoder
from ..encoders.features import encode, feature_size
from ..encoders.released import ReleasedEncoder
from ..errors import PluginError
from ..nn.random import sample_uniform
from ..view import View
from .contract import steps
from .contract.by_setting import BySetting
from .contract.checkpointing import encoder_can
from .contract.config import MethodConfig
from .contract.declaration import called, check_declaration
from .contract.forward import checked_batch, declare_forward, returned
from .contract.freezing import Frozen
from .contract.from_encoder import made_from_encoder
from .contract.frozen_features import FrozenFeatures
from .contract.kept_views import KeptViews
from .contract.loading import check_model_type, make_whole, with_own_names
from .contract.modules import ModulesOfMethod, copy_teachers
from .contract.moved import keep_moved_members
from .contract.old_names import follow_old_names
from .contract.output import MethodOutput
from .contract.progress import Phase, Progress
from .registry import class_made

__all__ = ["BySetting", "Frozen", "FrozenFeatures", "Method", "MethodConfig", "MethodOutput", "Phase", "Progress"]


class Method(KeptViews, ModulesOfMethod):
    """A self-supervised method: an encoder, heads beside it, and three steps.

    A subclass sets ``config_class`` and ``views``, builds its heads in ``__init__`` (ending with ``self.post_init()``) and
    defines :meth:`embed` and :meth:`objective`; most define :meth:`after_step` or declare ``teachers`` too. Everything else is
    optional. ``teachers`` names the moving averages: ``{"teacher_head": "head"}`` makes ``self.teacher_head`` a copy of
    ``self.head`` without gradients, and ``self.update_teachers(momentum)`` updates all of them.

    Batch entries are passed by name to the steps that have such an argument: the views by their keys, ``index``, ``labels``,
    ``input_ids`` and ``attention_mask``; any other argument without default is a column of the data, (B, ...) as a tensor.

    Modules keep the initialization of their own ``reset_parameters``.

    Attributes:
        encoder: The native transformers model that is published.
        feature_size: Width D of its features.
        progress: The state of the training (step, epoch, seed); set before every step.
        views: Declared: the crops and augmentations of the paper.
        view_encoders: Declared: views that not ``encoder`` gets but a released one, such as a teacher: name of the view -> attribute
            with its :class:`~hfcontrast.encoders.released.ReleasedEncoder`. The size of such a view concerns that one alone.
        teachers: Declared: moving averages: name of the copy -> name of the module that it follows.
        data_statistics: Declared: settings with the default None that :meth:`compute_data_statistics` computes from images of
            the data before the training.
        needs_colors: Declared: whether it makes sense of images of three channels alone, red, green and blue.
        constant_lr: Declared: names of modules whose learning rate follows no schedule (SimSiam's predictor).
        compiled_modules: Declared: paths of the modules that ``train.compile`` compiles, of a ``ModuleList`` each of its
            modules, where the method calls the encoder's layers itself. (): the encoder and its teachers.
        collapse_advice: Declared: what to change when the embeddings collapse; ends a sentence.
        min_images: Declared: fewest images of a micro-batch, over all processes, that the loss can learn from: 2 where it
            compares images, 1 where each has its own target; :class:`BySetting` where that depends on a setting.
        min_images_normalized: Declared: fewest images that batch normalization in the heads needs at once: 1 without any, 2
            where it sees all views together, 3 where it sees one view (two normalized rows are 1 and -1, whatever they
            were); :class:`BySetting` where that depends on a setting.
    """

    config_class: type[MethodConfig]
    views: tuple[View, ...] = ()
    view_encoders: dict[str, str] = {}
    constant_lr: tuple[str, ...] = ()
    collapse_advice: str = "lower optim.lr, raise train.batch_size, or weaken the augmentation"
    min_images: int | BySetting = 2
    min_images_normalized: int | BySetting = 1
    data_statistics: tuple[str, ...] = ()
    needs_colors: bool = False
    progress: Progress = Progress(0, 1)
    main_input_name = "pixel_values"
    accepts_loss_kwargs = False  # the loss is a mean: transformers' Trainer divides it by the micro-batches of a step
    base_model_prefix = ""
    supports_gradient_checkpointing = True
    _supports_sdpa = True
    _supports_flash_attn = True

    def __init_subclass__(cls, **kwargs):
        super().__init_subclass__(**kwargs)
        follow_old_names(cls)
        if not inspect.isabstract(cls) and not cls.__dict__.get("abstract", False):
            check_declaration(cls, Method, MethodConfig)
            class_made(cls)
        declare_forward(cls, Method)

    def __init__(self, config: MethodConfig):
        if self._tied_weights_keys:
            config.tie_word_embeddings = True  # without it transformers ties nothing, words or not
        super().__init__(config)
        self.encoder = build_encoder(config.backbone_config)
        self.supports_gradient_checkpointing = encoder_can(self.encoder)
        self.feature_size = feature_size(self.encoder)
        self._finished: tuple[str, ...] | None = None  # the parameters that post_init has found
        self._momentum_update, self._computing = None, False
        self._still: tuple[str, ...] = ()
        self._unstepped_passes, self._draws_by_key = 0, False  # see contract/unstepped.py

    # What an author writes.

    def embed(self, **batch: Tensor) -> dict[str, Tensor]:
        """Maps views to embeddings of each sample, (B, ...) each. Needs most of the memory, and must not mix samples.

        With ``train.grad_cache`` it is called with a few samples at a time, so heads with batch normalization belong in
        :meth:`objective`.
        """
        raise NotImplementedError

    def objective(self, embeddings: dict[str, Tensor], **batch: Tensor) -> MethodOutput:
        """Maps the embeddings to the loss of the global batch (see ``hfcontrast.nn.gather``). Changes no state."""
        raise NotImplementedError

    def before_step(self, progress: Progress) -> None:
        """Called before the forward passes of an optimizer step: sets temperatures and other schedules."""

    def after_step(self, outputs: list[MethodOutput], progress: Progress) -> None:
        """Called after the optimizer step with one output per micro-batch: updates teachers, queues, memory banks, centers."""

    def frozen(self) -> dict[str, Frozen]:
        """Which parameters are frozen at the beginning of a training, and how long; may depend on the configuration.

        They get gradients, which are clipped with the others and then dropped, so that the optimizer skips them. What is never
        trained gets ``requires_grad_(False)`` instead.

        Returns:
            :class:`Frozen` by names of modules or parameters: ``{"head.last": Frozen(epochs=1)}``. Nothing by default.
        """
        return {}

    def after_loading(self, names: frozenset[str]) -> None:
        """Called once, after released weights were loaded into the encoder of a new run: sets what has to fit them.

        Args:
            names: Tensors of the encoder's ``state_dict`` that were loaded.
        """

    def export_encoder(self) -> PreTrainedModel:
        """The encoder that is evaluated and published: a native model, made of modules and parameters of this method."""
        return self.encoder

    def frozen_features(self) -> dict[str, FrozenFeatures]:
        """What frozen encoders make of views, always the same: ``train.cache_features`` computes it once and keeps it.

        Returns:
            :class:`FrozenFeatures` by the batch key of the view; ``embed`` then gets their entry, and not the view.
        """
        return {}

    def learned_from(self) -> list[ReleasedEncoder]:
        """Released encoders that the published one has learned from, for its card; the weights that it starts from are not among them."""
        return []

    def visualize(self, **batch: Tensor) -> dict[str, Tensor]:
        """The method's predictions as images: columns of a sheet by their headings, from left to right.

        Called after the training in evaluation mode, without gradients, on one process only (so it must not gather), with
        the batch entries that it names: images without augmentation under the keys of the views, and ``index``.

        Returns:
            Images (B, 3, H, W) or several side by side (B, P, 3, H, W), normalized as the views are; nothing by default.
        """
        return {}

    @classmethod
    def compute_data_statistics(cls, images: Tensor, options: dict[str, Any]) -> dict[str, Any]:
        """Computes the settings that ``data_statistics`` names; called once per run, which keeps the result.

        Args:
            images: (N, 3, H, W) images without augmentation, of the size of the first view, RGB in [0, 1], some hundreds from
                all parts of the data.
            options: The method's settings in the recipe.

        Returns:
            The settings by name, as JSON has them.
        """
        return {}

    # What an author calls.

    def random_key(self, purpose: int, per: Literal["epoch", "step"] = "step") -> tuple[int, int, int]:
        """The key of a step's random numbers: the run's seed, the step or epoch, and the purpose.

        For functions of ``hfcontrast.nn`` that draw other than uniform numbers: ``sample_others``, ``shared_normal``,
        ``shared_generator``. They draw the same numbers in a resumed run, and with any number of processes.

        Args:
            purpose: A number for what they are used for: other purposes get other numbers.
            per: Whether they change with every epoch or with every optimizer step.
        """
        progress = self.progress
        if not self._draws_by_key:
            self._draws_by_key = True
        return progress.seed, progress.epoch if per == "epoch" else progress.step, purpose

    def random_uniform(
        self, index: Tensor, count: int, purpose: int, per: Literal["epoch", "step"] = "epoch"
    ) -> Tensor:
        """Uniform random numbers, such as for masks: a function of the run's seed, the epoch or step, and the sample.

        Args:
            index: (B,) the samples' positions in their data set.
            count: Numbers for each.
            purpose: A number for what they are used for: other purposes get other numbers.
            per: Whether they change with every epoch or with every optimizer step.

        Returns:
            (B, count) in [0, 1).
        """
        return sample_uniform(index, count, *self.random_key(purpose, per))

    def forward(
        self, *values: Tensor, return_loss: bool = True, return_dict: bool | None = None, **batch: Tensor
    ) -> MethodOutput | tuple[Any, ...]:
        """``objective(embed(...))``; each is passed the batch entries that it names.

        The signature of a class names its own entries: ``inspect.signature(SimCLR.forward)``.

        Args:
            values: Entries of the batch in the order of that signature.
            return_loss: Whether the output has the loss.
            return_dict: False: a tuple of the output's entries, the loss first. None: as the configuration says.
            batch: Entries of the batch, (B, ...) each. Tensors that no step takes are refused, but for those that batches
                usually have, such as ``labels``.

        Raises:
            ArgumentError: An entry is unknown or missing, or images lack the dimension of the views.
        """
        batch = checked_batch(self, values, batch)
        output = steps.objective(self, steps.embed(self, batch), batch)
        return returned(output, return_loss, self.config.return_dict if return_dict is None else return_dict)

    def encode(self, pixel_values: Tensor, encoder: PreTrainedModel | None = None) -> Tensor:
        """Features of crops of one size, all in one pass through the encoder.

        Args:
            pixel_values: (B, V, C, H, W).
            encoder: Another encoder than ``self.encoder``, such as a teacher.

        Returns:
            (B, V, D).
        """
        features = encode(self.encoder if encoder is None else encoder, pixel_values.flatten(0, 1))
        return features.unflatten(0, pixel_values.shape[:2])

    def post_init(self) -> None:
        """Finishes the construction: initial weights first, then the teachers as copies of them."""
        if "_still" not in vars(self):
            raise PluginError(f"{called(type(self))}: its __init__ does not begin with super().__init__(config)")
        super().post_init()
        copy_teachers(self)
        self._finished = tuple(name for name, _ in self.named_parameters())
        self._frozen = tuple(name for name, parameter in self.named_parameters() if not parameter.requires_grad)

    @classmethod
    def from_pretrained(cls, *args, **kwargs):
        """As in transformers; a teacher that the checkpoint does not have starts as a copy of its source.

        Raises:
            PluginError: What lies there is another method's, or no configuration of this method.
        """
        wants_info = kwargs.pop("output_loading_info", False)
        check_model_type(cls, args[0] if args else kwargs.get("pretrained_model_name_or_path"), kwargs)
        model, info = super().from_pretrained(*args, output_loading_info=True, **kwargs)
        make_whole(model, info)
        return (model, info) if wants_info else model

    @classmethod
    def from_encoder(cls, encoder: Any, *, views: Sequence[View] | None = None, **settings: Any) -> Self:
        """The method around an encoder that has its weights already; heads start at random, teachers as copies.

        Args:
            encoder: A model of transformers (of one with a head for a task the model below it), a model of ``timm.create_model``, or
                the folder or Hub name of one. Its weights are copied, in float32; frozen ones stay frozen. Of a model with an image and a text tower the image
                tower is taken, by methods that learn from texts the whole model.
            views: Views other than the method's own, such as smaller ones; they become ``method.views``, and are saved with it.
            settings: Those of the method's configuration.

        Raises:
            ArgumentError: It cannot be used, or there is no such setting.
            ValueError: A setting is out of its range.
        """
        return made_from_encoder(cls, encoder, settings, views)

    def load_state_dict(self, state_dict: Mapping[str, Any], *args: Any, **kwargs: Any) -> Any:
        """As in torch; files of ``save_pretrained`` may name tensors in other ways than the modules, which is understood."""
        return super().load_state_dict(with_own_names(self, state_dict), *args, **kwargs)


follow_old_names(Method)
keep_moved_members(Method)
