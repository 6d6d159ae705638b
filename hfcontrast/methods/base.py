"""The contract of a method: Method (and MethodConfig, MethodOutput, Progress and Phase, from modules of their own)."""

import contextlib
import inspect
from collections.abc import Iterator
from typing import Any, Literal

from torch import Tensor, nn
from transformers import PreTrainedModel

from ..encoders.build import build_encoder
from ..encoders.features import encode, feature_size
from ..errors import PluginError
from ..nn.random import sample_uniform
from ..view import View
from .contract import arguments
from .contract.calling import call_hook
from .contract.config import MethodConfig
from .contract.declaration import called, check_declaration
from .contract.freezing import Frozen, after_backward
from .contract.loading import check_model_type, make_whole
from .contract.modules import ModulesOfMethod
from .contract.old_names import follow_old_names
from .contract.output import MethodOutput
from .contract.progress import Phase, Progress
from .contract.returned import check_returned
from .registry import class_made


class Method(ModulesOfMethod):
    """A self-supervised method: an encoder, heads beside it, and three steps.

    A subclass sets ``config_class`` and ``views``, builds its heads in ``__init__`` (ending with ``self.post_init()``) and
    defines :meth:`embed` and :meth:`objective`. ``teachers`` names the moving averages: ``{"teacher_head": "head"}``
    makes ``self.teacher_head`` a copy of ``self.head`` that has no gradients; ``self.update_teachers(momentum)`` moves
    all of them.

    Steps are handed what they name: the views by their keys, ``index``, ``labels``, ``input_ids`` and ``attention_mask``; any
    other argument without default is a column of the data, (B, ...) as a tensor.

    Modules keep the initialization that they give themselves in ``reset_parameters``.

    Attributes:
        encoder: The native transformers model that is published.
        feature_size: Width D of its features.
        views: The paper's crops and distortions.
        teachers: Moving averages: name of the copy -> name of the module that it follows.
        constant_lr: Names of modules whose learning rate follows no schedule (SimSiam's predictor).
        collapse_advice: What to change when this method's embeddings collapse; ends a sentence.
        min_images: Fewest images of a micro-batch, over all processes, that the loss can learn from: 2 where it compares
            images, 1 where each has a target of its own.
        min_images_normalized: Fewest images that batch normalization in the heads has to see at once: 1 without any, 2 where
            it sees all views together, 3 where it sees one view (normalized, two rows are 1 and -1 whatever they were).
        data_statistics: Settings with the default None that :meth:`compute_data_statistics` finds from images of the data
            before the training.
        progress: Where the training is; set before every step.
    """

    config_class: type[MethodConfig]
    views: tuple[View, ...] = ()
    constant_lr: tuple[str, ...] = ()
    collapse_advice: str = "lower optim.lr, raise train.batch_size, or weaken the augmentation"
    min_images: int = 2
    min_images_normalized: int = 1
    data_statistics: tuple[str, ...] = ()
    progress: Progress = Progress(0, 1)
    main_input_name = "pixel_values"
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

    def __init__(self, config: MethodConfig):
        if self._tied_weights_keys:
            config.tie_word_embeddings = True  # without it transformers ties nothing, words or not
        super().__init__(config)
        self.encoder = build_encoder(config.backbone_config)
        self.feature_size = feature_size(self.encoder)
        self._momentum_update = None
        self._finished: tuple[str, ...] | None = None  # the parameters that post_init has found
        self._computing = False
        self._still: tuple[str, ...] = ()

    # What an author writes

    def embed(self, **batch: Tensor) -> dict[str, Tensor]:
        """Maps views to embeddings of each sample, (B, ...) each. All the memory is here, and nothing that mixes samples.

        With ``train.grad_cache`` it sees a few samples at a time. So heads that normalize by batch statistics belong into
        :meth:`objective`.
        """
        raise NotImplementedError

    def objective(self, embeddings: dict[str, Tensor], **batch: Tensor) -> MethodOutput:
        """Maps the embeddings to the loss of the global batch (see ``hfcontrast.nn.gather``). Changes no state."""
        raise NotImplementedError

    def before_step(self, progress: Progress) -> None:
        """Called before the forward passes of an optimizer step: temperatures and other schedules."""

    def after_step(self, outputs: list[MethodOutput], progress: Progress) -> None:
        """Called after the optimizer step with one output a micro-batch: teachers, queues, banks, centers."""

    def frozen(self) -> dict[str, Frozen]:
        """Which parameters stand still at the beginning of a training, and how long; may depend on the configuration.

        They get gradients, which are clipped with the others and then dropped, so that the optimizer passes over them. What is
        never trained gets ``requires_grad_(False)`` instead.

        Returns:
            :class:`Frozen` by names of modules or parameters: ``{"head.last": Frozen(epochs=1)}``. Nothing by default.
        """
        return {}

    def phases(self, steps_per_epoch: int, batch_size: int) -> list[Phase]:
        """What a training comes to only after some steps, such as queues that are full.

        Those that it is too short for are told before the first step; so are the ends of what :meth:`frozen` names with a
        setting.

        Args:
            steps_per_epoch: Optimizer steps in one pass over the data.
            batch_size: Images of one step, over all processes.
        """
        return []

    def export_encoder(self) -> PreTrainedModel:
        """The encoder that is evaluated and published: a native model, made of modules and parameters of this method."""
        return self.encoder

    def visualize(self, **batch: Tensor) -> dict[str, Tensor]:
        """What the method predicts, as images to look at: the columns of a sheet by their headings, from left to right.

        Called after the training in evaluation mode, without gradients, on one process only (so it must not gather), with
        the batch entries that it names: undistorted images under the keys of the views, and ``index``.

        Returns:
            Images (B, 3, H, W) or several side by side (B, P, 3, H, W), normalized as the views are; nothing by default.
        """
        return {}

    @classmethod
    def compute_data_statistics(cls, images: Tensor, options: dict[str, Any]) -> dict[str, Any]:
        """Finds the settings that ``data_statistics`` names; called once a run, the result is kept with it.

        Args:
            images: (N, 3, H, W) undistorted images of the size of the first view, RGB in [0, 1], some hundreds spread
                over the data.
            options: The method's settings in the recipe.

        Returns:
            The settings by name, as JSON has them.
        """
        return {}

    @classmethod
    def fewest_images(cls, options: dict[str, Any]) -> tuple[int, int]:
        """``min_images`` and ``min_images_normalized`` for the method's settings in a recipe; defaults are not among them."""
        return cls.min_images, cls.min_images_normalized

    def compiled_parts(self) -> list[nn.Module]:
        """What ``train.compile`` compiles: the encoder and its teachers; their layers, where a method runs these itself."""
        return [self.encoder, *(getattr(self, name) for name, source in self.teachers.items() if source == "encoder")]

    # What the base does

    def start_step(self, progress: Progress) -> None:
        """Begins an optimizer step: notes where the training is, then calls :meth:`before_step`."""
        self.progress = progress
        call_hook(self, "before_step", progress)

    def random_key(self, purpose: int, per: Literal["epoch", "step"] = "step") -> tuple[int, int, int]:
        """What random numbers of a training are a function of, beside the sample: the run's seed, the time and the purpose.

        For functions of ``hfcontrast.nn`` that draw something else than uniform numbers of samples: ``sample_others``,
        ``shared_normal``, ``shared_generator``. So neither a resumed run nor the number of processes changes what is drawn.

        Args:
            purpose: A number for what they are used for: other purposes get other numbers.
            per: Whether they change with every epoch or with every optimizer step.
        """
        progress = self.progress
        return progress.seed, progress.epoch if per == "epoch" else progress.step, purpose

    def random_uniform(
        self, index: Tensor, count: int, purpose: int, per: Literal["epoch", "step"] = "epoch"
    ) -> Tensor:
        """Uniform numbers for masks and the like: a function of the run's seed, the epoch or step, and the sample, as views are.

        Args:
            index: (B,) the samples' positions in their data set.
            count: Numbers for each.
            purpose: A number for what they are used for: other purposes get other numbers.
            per: Whether they change with every epoch or with every optimizer step.

        Returns:
            (B, count) in [0, 1).
        """
        return sample_uniform(index, count, *self.random_key(purpose, per))

    @classmethod
    def needs_labels(cls) -> bool:
        """Whether a step has ``labels`` as an argument without default."""
        return cls._needs("labels")

    @classmethod
    def needs_captions(cls) -> bool:
        """Whether a step has ``input_ids``, the tokens of captions, as an argument without default."""
        return cls._needs("input_ids")

    @classmethod
    def _needs(cls, name: str) -> bool:
        return name in arguments.required(cls.embed, 1) + arguments.required(cls.objective, 2)

    @classmethod
    def needed_columns(cls) -> tuple[str, ...]:
        """Arguments without default of a step that no batch has by itself: columns of the data, batched as tensors."""
        return arguments.columns(cls)

    def forward(self, **batch: Tensor) -> MethodOutput:
        """``objective(embed(...))``; each is handed the batch entries that it names."""
        with self.computing():
            embeddings = self.embed(**self._named_by(self.embed, batch))
            return self.checked(self.objective(embeddings, **self._named_by(self.objective, batch)))

    @contextlib.contextmanager
    def computing(self) -> Iterator[None]:
        """Around ``embed`` and ``objective``, which change nothing: teachers move in ``after_step``."""
        self._computing = True
        try:
            yield
        finally:
            self._computing = False

    def checked(self, output: MethodOutput) -> MethodOutput:
        """The output of ``objective``, as it is.

        Raises:
            PluginError: It is not what it should be.
        """
        check_returned(output, MethodOutput, called(type(self)))
        return output

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
        self.copy_teachers()
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
        make_whole(model, info["missing_keys"])
        return (model, info) if wants_info else model

    _named_by = staticmethod(arguments.named_by)


follow_old_names(Method)
Method.after_backward = after_backward
