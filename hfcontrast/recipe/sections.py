"""The sections of a recipe: a typed model each, with the meaning of every setting."""

from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field

from .early_stopping import EarlyStoppingSection
from .optimization import OptimSection
from .publish import PublishSection
from .section_base import Count, Positive, Section, Share

Channels = Annotated[list[Share], Field(min_length=1)]


class MethodSection(Section):
    """Which method is trained; its own settings stand beside the name."""

    model_config = ConfigDict(extra="allow")

    name: str = Field(description="The method's name, as `hfcontrast methods` lists it.")

    @property
    def options(self) -> dict[str, Any]:
        """The method's own settings, without the name."""
        return dict(self.model_extra or {})


class SourceFields(Section):
    """Where rows come from; what `datasets.load_dataset` calls them."""

    path: str | None = Field(None, description="Data set; null: the one of `data`.")
    name: str | None = Field(None, description="Configuration (subset) of the data set.")
    data_dir: str | None = Field(
        None, description="Folder with the data, within the data set or for a packaged format."
    )
    data_files: str | list[str] | dict[str, str | list[str]] | None = Field(
        None, description="Files of the data set: one pattern, a list, or a mapping from split to either."
    )
    revision: str | None = Field(None, description="Branch, tag or commit of a data set on the Hub.")
    image_column: str | None = Field(
        None, description="Column with the images, or a field of one, COLUMN.FIELD; null: `image`, else the first one."
    )
    image_key: str | None = Field(
        None,
        description="Which image of a webdataset archive's samples, where they have several: what its name ends in behind the key, such "
        "as `left.jpg`, or `left` for any extension.",
    )
    label_column: str | None = Field(
        None, description="Column with the class labels; null: `label`, else the first one."
    )
    caption_column: str | None = Field(
        None,
        description="Column with the captions (texts or lists of texts), or a field of one, COLUMN.FIELD; null: `caption`, "
        "`captions`, `text` or `txt`. Read by methods that learn from texts.",
    )


class DataSection(SourceFields):
    """What is trained on, and how it is read."""

    path: str = Field(
        description="Anything `datasets.load_dataset` takes (a Hub name, a folder, imagefolder, parquet, webdataset), "
        "a folder made by save_to_disk, or builtin/shapes, builtin/digits, builtin/colored_digits. In Python also an open data set."
    )
    split: str = Field("train", description="Split that is trained on; slices such as train[:80%] work.")
    streaming: bool = Field(False, description="Read the rows as they come instead of preparing them on disk first.")
    workers: Annotated[int, Field(ge=0)] | Literal["auto"] = Field(
        "auto", description="Processes that decode and crop, for each training process; 0: none beside it."
    )
    cache: bool | Literal["auto"] = Field(
        "auto",
        description="Keep the decoded images in memory, each from when it is first needed; auto: when all of them take less than a quarter of "
        "what is free; true: as many as find room.",
    )
    cache_size: Count | Literal["auto"] | None = Field(
        None,
        description="Images with more pixels than a square of so many pixels a side are made that small when they are decoded, which saves memory and "
        "time; auto: one and a half times what the smallest crops of the views need, so that views look the same. Null: as they are.",
    )
    max_unreadable: Share = Field(0.01, description="Share of unreadable rows, in [0, 1], above which the run stops.")
    max_pixels: Count = Field(
        89_478_485,
        description="Pixels of an image, width times height, above which it counts as unreadable. JPEGs are decoded at a reduced size "
        "where the crops stay twice as large as the views.",
    )
    open_addresses: bool = Field(
        False,
        description="Open addresses (http://..., file://...) that rows hold instead of images, and files of this machine that a data set "
        "from elsewhere names. The data set's own files are always opened; anything else is an unreadable row.",
    )
    window: tuple[float, float] | None = Field(
        None,
        description="The values of grays of more than 8 bits (16-bit PNG and TIFF, floats) that become black and white, such as [0, 4095] of a "
        "12-bit camera; what lies beyond is clipped. Null: the range of the format. `hfcontrast train --images` measures it.",
    )
    channels: Count | None = Field(
        None,
        description="Channels of the images; null: three, and any image is made RGB. Another number takes images of exactly so many, such as "
        "multi-band TIFF: color augmentation is left out, the mean and deviation of each are measured, and released weights are adapted.",
    )
    shuffle_block: Count = Field(1024, description="Rows that are shuffled together when streaming.")
    epoch_rows: Count | None = Field(
        None, description="Rows that count as one epoch; null: all (a stream of unknown length needs a number)."
    )
    mean: Channels | None = Field(
        None, description="Mean of each color, in [0, 1]; null: the pretrained encoder's own, else ImageNet's."
    )
    std: Annotated[list[Positive], Field(min_length=1)] | None = Field(
        None, description="Standard deviation of each color; null: the pretrained encoder's own, else ImageNet's."
    )

    def contradictions(self) -> Iterator[tuple[str, str]]:
        channels = self.channels or 3
        wrong = [(name, own) for name in ("mean", "std") if (own := getattr(self, name)) and len(own) != channels]
        for name, own in wrong:
            kind = "numbers from 0 to 1" if name == "mean" else "numbers above 0"
            yield name, f"expected a list of {channels} {kind} or null, got {own}"
        if not wrong and (self.mean is None) != (self.std is None):
            yield ("std" if self.std is None else "mean"), "mean and std go together: give both or neither"
        if self.window is not None and not self.window[0] < self.window[1]:
            yield "window", f"the darkest value is to be below the brightest one, got {list(self.window)}"
        if self.streaming and self.cache is True:
            yield "cache", "a stream cannot be kept in memory; use cache: auto, or streaming: false"

    def decoded_by(self) -> tuple[str, ...]:
        """Settings on decoding that are not the default: what depends on others is as it was without them."""
        return ("window",) * (self.window is not None) + ("channels",) * self.other_channels

    @property
    def other_channels(self) -> bool:
        """Whether images have another number of channels than three."""
        return self.channels not in (None, 3)

    def source(self) -> dict[str, Any]:
        """What `hfcontrast.data` needs to open the training rows, as keyword arguments."""
        own = {*SourceFields.model_fields, "split", "streaming", "open_addresses", "max_pixels", *self.decoded_by()}
        return {name: getattr(self, name) for name in sorted(own)}


class TextSection(Section):
    """How captions become tokens, for methods that learn from texts."""

    tokenizer: str | None = Field(
        None,
        description="Folder or Hub name of a tokenizer; null: that of backbone.pretrained, else one is trained on the captions.",
    )
    vocab_size: Annotated[int, Field(ge=514)] = Field(
        8192, description="Entries of a tokenizer that is trained on the captions, at most."
    )
    max_length: Annotated[int, Field(ge=3)] | None = Field(
        None,
        description="Tokens of a caption at most, those at its ends included; longer ones are cut off and counted. Null: what "
        "the pretrained text tower or the tokenizer takes, else 77, or 64 for SigLIP (which transformers' pipelines need).",
    )
    training_captions: Count = Field(
        1_000_000, description="Captions that a tokenizer is trained on, at most: the first ones."
    )


class TrainSection(Section):
    """How long, how fast and where to training runs."""

    output: str | None = Field(None, description="Folder for everything the run leaves; null: outputs/RECIPE_NAME.")
    batch_size: Count = Field(
        256, description="Samples in one optimizer step, over all processes and micro-batches together."
    )
    accumulation: Count = Field(1, description="Micro-batches that a step is computed in, each with a loss of its own.")
    grad_cache: Count | None = Field(
        None,
        description="Samples of a process that are embedded at once: the exact gradients of the whole batch in the memory "
        "of so many, for one more forward pass; not for encoders with batch normalization. Null: all of them.",
    )
    epochs: Positive | None = Field(
        None, description="Passes over the data; this, steps or minutes. A run may be resumed with another length."
    )
    steps: Count | None = Field(None, description="Optimizer steps; this, epochs or minutes.")
    minutes: Positive | None = Field(
        None,
        description="Minutes for the whole run, evaluation and baselines included; this, epochs or steps. The first steps are measured and "
        "taken back, and the number of steps is then fixed.",
    )
    precision: Literal["fp32", "bf16", "fp16", "auto"] = Field(
        "auto",
        description="Arithmetic of the model; auto: bf16 on a GPU that has it and on a CPU that computes it faster (AMX, AVX512-BF16), else "
        "fp32; a run keeps what it was begun with on a CPU.",
    )
    compile: bool = Field(False, description="Compile the model with torch.compile.")
    gradient_checkpointing: bool = Field(False, description="Recompute activations in the backward pass: less memory.")
    channels_last: bool | Literal["auto"] = Field("auto", description="Memory format of images and convolutions.")
    sync_batchnorm: bool = Field(
        True,
        description="Batch statistics over all processes; false: each has its own, and the running ones are averaged.",
    )
    seed: int = Field(0, ge=0, lt=2**32, description="Seed of the weights, the order of the data and the augmentation.")
    cache_features: bool = Field(
        False,
        description="Compute what a frozen encoder (a teacher, a locked tower) makes of each image and crop once, keep it on the disk, and train on "
        "that; views.NAME.repeat_after says how many crops an image has.",
    )
    log_every: Count = Field(10, description="Steps between two log lines.")
    checkpoint_every: Count | None = Field(
        None, description="Steps between two checkpoints; null: one each epoch, with minutes ten in all."
    )
    keep_checkpoints: Count = Field(2, description="Newest checkpoints that are kept.")
    resume: Literal["auto", "never"] = Field(
        "auto",
        description="auto: resume from the newest checkpoint in the output folder; never: begin at step 0, in a folder that holds no "
        "run (one that does is refused).",
    )
    device: Literal["auto", "cpu", "cuda", "mps"] = Field("auto", description="What to compute on.")

    def contradictions(self) -> Iterator[tuple[str, str]]:
        if self.output is not None and not self.output.strip():
            yield "output", "it is empty: name a folder, or leave it out for outputs/RECIPE_NAME"
        lengths = [name for name in ("epochs", "steps", "minutes") if getattr(self, name) is not None]
        if not lengths:
            yield "epochs", "the length of the training is missing: set epochs, steps or minutes, e.g. epochs: 100"
        if len(lengths) > 1:
            told = (
                f"{lengths[0]} and {lengths[1]} are both" if len(lengths) == 2 else "epochs, steps and minutes are all"
            )
            yield lengths[-1], f"{told} set: keep one of them"
        if self.grad_cache is not None and self.accumulation > 1:
            yield "grad_cache", "grad_cache and accumulation both cut the batch into pieces: keep one of them"
        if self.batch_size % self.accumulation:
            yield "accumulation", f"batch_size {self.batch_size} cannot be cut into {self.accumulation} equal parts"
        if self.precision == "fp16" and self.device == "cpu":
            yield "precision", "fp16 needs a GPU; on cpu use bf16 or fp32"


class EvalSection(SourceFields):
    """How the encoder is evaluated while it trains and at the end."""

    every: Count | None = Field(None, description="Steps between two evaluations; null: only at the start and the end.")
    split: str | None = Field(
        None,
        description="Split to evaluate on; null: test, else validation, else a folder of such a name beside one called train, else a "
        "fifth of the training rows, which are then not trained on by classifiers.",
    )
    tasks: dict[str, bool | dict[str, Any] | None] = Field(
        {},
        description="Evaluators and their settings, beside those that every run has where its data allow them: "
        "{linear: {}, finetune: {epochs: 30}}; false: not this one. A short form below with another value is an error.",
    )
    knn_k: Count | None = Field(
        None, description="Short for tasks.knn.k: nearest train features that classify an image; null: its default, 20."
    )
    knn_temperature: Positive | None = Field(
        None,
        description="Short for tasks.knn.temperature: a neighbor weighs exp(cosine similarity / temperature); null: its default, 0.07.",
    )
    linear_probe: bool = Field(
        False,
        description="Short for tasks.linear: fit a linear classifier to the features too, before and after the training.",
    )
    finetune: bool | dict[str, Any] = Field(
        False,
        description="Short for tasks.finetune: train the whole encoder with a linear classifier too, before and after the training, "
        "which takes minutes: true, or settings such as {epochs: 30}.",
    )
    max_train: Count | None = Field(
        20000, description="Training rows that classifiers (kNN, probe, fine-tuning) are fitted to, at most; null: all."
    )
    max_test: Count | None = Field(10000, description="Rows that are evaluated on, at most; null: all.")
    zero_shot: list[dict[str, Any]] | None = Field(
        None,
        description="Short for tasks.zero-shot.tasks: classification by the names of classes, for models with a text tower; null: on "
        "the test rows, where they have class names. [] for none.",
    )
    retrieval: bool = Field(
        True,
        description="Short for tasks.retrieval: find the captions of images and the images of captions, for models with a text tower.",
    )
    batch_size: Count = Field(256, description="Images encoded at once.")
    baselines: bool | Literal["encoder"] = Field(
        True, description="Evaluate the untrained encoder and raw pixels too; encoder: the untrained encoder only."
    )


class TrackSection(Section):
    """Where the curves go, beside the run's own metrics.jsonl."""

    to: list[Literal["tensorboard", "wandb", "trackio"]] = Field([], description="Trackers that get the metrics.")
    project: str = Field("hfcontrast", description="Project that the run is filed under.")
    run_name: str | None = Field(None, description="Name of the run; null: that of the output folder.")


SECTIONS: dict[str, type[Section]] = {
    "method": MethodSection,
    "data": DataSection,
    "text": TextSection,
    "optim": OptimSection,
    "train": TrainSection,
    "eval": EvalSection,
    "early_stopping": EarlyStoppingSection,
    "track": TrackSection,
    "publish": PublishSection,
}
