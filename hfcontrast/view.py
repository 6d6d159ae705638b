"""View: how one kind of crop is cut from an image and augmented. Imported by methods and by data."""

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, Literal

PROBABILITIES = (  # of the operations of a view, as its fields are called
    "horizontal_flip",
    "vertical_flip",
    "rotate",
    "jitter",
    "grayscale",
    "sobel",
    "blur",
    "noise",
    "solarize",
    "cutout",
)


@dataclass(frozen=True)
class View:
    """A random crop with augmentation, drawn for each (seed, epoch, sample, view).

    The operations are applied in this order: crop and resize (antialiased), flips, rotation, color jitter (the four in a
    random order, as in the papers), grayscale, Sobel filters, blur, noise, solarization, normalization, cutout. The meanings
    and ranges are torchvision's (``RandomResizedCrop``, ``ColorJitter``, ``RandomGrayscale``, ``GaussianBlur``, ``GaussianNoise``,
    ``RandomSolarize``), those of the Sobel filters DeepCluster's (Caron et al., 2018) and those of cutout DeVries and Taylor's
    (2017): with them this is every augmentation that SimCLR's figure 4 shows. A probability of 0 switches an operation off. Values
    from black to white, or from one end of ``data.window`` to the other, count as 0..1.

    Args:
        name: What the recipe calls this view (``views.NAME.size=96``); unique within a method.
        key: The batch key under which the crops are passed to the method. Views with one key have one size and are
            stacked in order along the V dimension: (B, V, C, H, W).
        count: How many such crops are cut from each image; 0 leaves the view out, where the method can do without it.
        size: Side of the square crop after resizing, in pixels.
        scale: Range of the crop's share of the image area, within (0, 1].
        ratio: Range of the crop's aspect ratio (width / height), drawn log-uniformly.
        interpolation: How the crop is resized.
        horizontal_flip: Probability of mirroring left to right.
        vertical_flip: Probability of mirroring top to bottom.
        rotate: Probability of a rotation by 90, 180 or 270 degrees, each as often as the others.
        jitter: Probability that the color jitter (the next four) is applied at all.
        brightness: The factor is drawn from [max(0, 1 - brightness), 1 + brightness].
        contrast: As brightness, towards the image's mean gray.
        saturation: As brightness, towards the pixel's gray.
        hue: The shift is drawn from [-hue, hue] turns of the color circle, at most 0.5.
        grayscale: Probability of dropping the color.
        sobel: Probability that the color is dropped and the gray image's gradients are taken (Sobel filters, edge pixels
            repeated at the edges): red is half gray plus an eighth of the gradient to the right, green the same downwards, blue
            half gray.
        blur: Probability of a Gaussian blur.
        blur_sigma: Range of the blur's standard deviation, in pixels of the resized crop.
        noise: Probability of adding Gaussian noise, to each color of each pixel by itself; the sum is clipped.
        noise_std: Range of the noise's standard deviation, in units of the range from black to white.
        solarize: Probability of inverting all values at or above the threshold.
        solarize_threshold: Threshold of the solarization, in 0..255.
        cutout: Probability of setting a square to 0 after the normalization, which is the mean color. Its center may be any pixel, and
            what lies beyond the edges is cut off.
        cutout_size: Side of that square, as a share of the crop's side; 0.5 is the paper's for CIFAR-10 (16 of 32 pixels).
        unaugmented: So many of the crops, the last ones, are the whole image (its middle, where it is narrower or wider than
            ``ratio`` allows), resized and without any of the operations. SimCLR's figure 5 compares augmentations on one
            of two branches in this way.
        crop_of: Another view whose crops these are too, box, flips and rotation, at this view's size and with its own color
            augmentation; scale, ratio, flips and rotation of this one are then without effect. None: crops of its own.
        repeat_after: Epochs after which the crops of an image (boxes, flips and rotations, not colors) come again: so many different ones
            each image has. None: every epoch has new ones.

    Raises:
        ValueError: A value is out of its range.
    """

    name: str = "view"
    key: str = "pixel_values"
    count: int = 1
    size: int = 224
    scale: tuple[float, float] = (0.08, 1.0)
    ratio: tuple[float, float] = (3 / 4, 4 / 3)
    interpolation: Literal["bilinear", "bicubic"] = "bicubic"
    horizontal_flip: float = 0.5
    vertical_flip: float = 0.0
    rotate: float = 0.0
    jitter: float = 0.8
    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0
    hue: float = 0.0
    grayscale: float = 0.0
    sobel: float = 0.0
    blur: float = 0.0
    blur_sigma: tuple[float, float] = (0.1, 2.0)
    noise: float = 0.0
    noise_std: tuple[float, float] = (0.05, 0.15)
    solarize: float = 0.0
    solarize_threshold: int = 128
    cutout: float = 0.0
    cutout_size: float = 0.5
    unaugmented: int = 0
    crop_of: str | None = None
    repeat_after: int | None = None

    def __post_init__(self):
        for field in fields(self):  # YAML and JSON give lists
            if isinstance(value := getattr(self, field.name), list):
                object.__setattr__(self, field.name, tuple(value))
        for name in PROBABILITIES:
            self._require(0 <= getattr(self, name) <= 1, name, "a probability between 0 and 1")
        for name in ("brightness", "contrast", "saturation"):
            self._require(getattr(self, name) >= 0, name, "0 or more")
        self._require(0 <= self.hue <= 0.5, "hue", "between 0 and 0.5 turns")
        self._require(self.count >= 0, "count", "0 or more")
        self._require(self.size >= 2, "size", "2 pixels or more")  # of one, no library resizes all images to it
        self._require(0 < self.scale[0] <= self.scale[1] <= 1, "scale", "a range (low, high) within (0, 1]")
        self._require(0 < self.ratio[0] <= self.ratio[1], "ratio", "a range (low, high) above 0")
        self._require(0 < self.blur_sigma[0] <= self.blur_sigma[1], "blur_sigma", "a range (low, high) above 0")
        self._require(0 <= self.solarize_threshold <= 255, "solarize_threshold", "between 0 and 255")
        self._require(0 < self.noise_std[0] <= self.noise_std[1], "noise_std", "a range (low, high) above 0")
        self._require(0 < self.cutout_size <= 1, "cutout_size", "a share of the side within (0, 1]")
        self._require(self.unaugmented >= 0, "unaugmented", "0 or more")
        self._require(self.repeat_after is None or self.repeat_after >= 1, "repeat_after", "1 epoch or more, or null")
        self._require(self.interpolation in ("bilinear", "bicubic"), "interpolation", "bilinear or bicubic")

    def without_color(self) -> "View":
        """The view of images whose channels are no colors: saturation, hue, grayscale and Sobel filters are left out."""
        return replace(self, saturation=0.0, hue=0.0, grayscale=0.0, sobel=0.0)

    def _require(self, condition: bool, name: str, expected: str) -> None:
        if not condition:
            raise ValueError(f"view '{self.name}': {name} is {getattr(self, name)!r}, expected {expected}")


def as_views(views: Any) -> tuple[View, ...]:
    """The views of one method, checked.

    Args:
        views: A list or tuple of :class:`View`.

    Raises:
        ValueError: It is something else or empty, or the views do not fit each other (see :func:`check_views`).
    """
    several = isinstance(views, list | tuple)
    wrong = next((view for view in views if not isinstance(view, View)), None) if several else views
    if wrong is not None or not views:
        got = f"one of {type(wrong).__name__}" if several and views else "none" if several else type(views).__name__
        hint = ": give its views, method.views" if hasattr(views, "views") else ""
        if isinstance(views, View):
            hint = ": put it in a list, [view]"
        elif isinstance(views, Mapping):
            hint = ": settings of the method's own views are set by replace, [replace(view, size=96) for view in method.views]"
        raise ValueError(f"views: expected a list of View, got {got}{hint}")
    check_views(tuple(views))
    return tuple(views)


def check_views(views: tuple[View, ...]) -> None:
    """Checks what holds between the views of one method.

    Raises:
        ValueError: Two views share a name, views stacked under one key differ in size, or a view has the crops of one that is not
            there, has another number of them, or takes its own from a third.
    """
    names = [view.name for view in views]
    if repeated := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"views must have different names, but {', '.join(map(repr, repeated))} occurs more than once")
    sizes: dict[str, int] = {}
    for view in views:
        if sizes.setdefault(view.key, view.size) != view.size:
            raise ValueError(
                f"views under one batch key are stacked and must have one size, but '{view.key}' has "
                f"{sizes[view.key]} px and {view.size} px (view '{view.name}')"
            )
    for view in views:
        if view.crop_of is not None:
            _check_crops(view, {other.name: other for other in views})


def _check_crops(view: View, views: dict[str, View]) -> None:
    source = views.get(view.crop_of or "")
    if source is None or source is view:
        names = ", ".join(repr(name) for name in views if name != view.name)
        raise ValueError(
            f"view '{view.name}': crop_of is {view.crop_of!r}, expected another view: {names or 'there is none'}"
        )
    if source.crop_of is not None:
        raise ValueError(
            f"view '{view.name}': crop_of is {view.crop_of!r}, whose crops are those of {source.crop_of!r}: name that one"
        )
    if source.count != view.count:
        raise ValueError(
            f"view '{view.name}' has the crops of view '{source.name}' and must have as many: count is {view.count} and "
            f"{source.count}"
        )
    if view.repeat_after is not None:
        raise ValueError(
            f"view '{view.name}': repeat_after is that of view '{source.name}', whose crops it has: set it there"
        )
