"""Why a trained encoder may not beat a baseline: the likeliest causes, found from the facts of the run, each with what to try.

A rule looks at the facts and returns a cause, with how likely it is beside the others on a scale of its own; the three likeliest are told.
The scale was set by hand, from what helped in runs on photographs.
"""

import math
from collections.abc import Callable

from .cause import Cause, RunFacts

TOLD = 3
ENOUGH_STEPS, ENOUGH_EPOCHS = 2000, 50  # below either, more of them help most
FEW_IMAGES = 1000
RELEASED, WITH_TEXTS = "photos/continue", "photos/captions"  # recipes that start from released weights
RELEASED_BATCH = 128  # images of a step by these recipes
SMALL_BATCH = 64
SMALL_CROP = 0.15  # share of the image
SMALL_VIEW = 64  # pixels
FLAT_LOSS = 0.02  # share of the first loss by which it must have fallen
SEEN = 0.1  # of the way from chance to 1 that some encoder gets where labels are about what is seen


def likeliest_causes(facts: RunFacts) -> list[Cause]:
    """The three likeliest causes, the likeliest first."""
    found = [cause for rule in RULES if (cause := rule(facts)) is not None]
    return sorted(found, key=lambda cause: -cause.weight)[:TOLD]


def collapse(facts: RunFacts) -> Cause | None:
    """All images have become alike."""
    if facts.constant:
        return Cause(
            100, "the loss was the same in every step, so nothing was learned", [f"optim.lr={facts.lr / 3:.2g}"]
        )
    if not facts.collapsed:
        return None
    what = f"the features have collapsed: all images look alike to the encoder{f' ({facts.advice})' if facts.advice else ''}"
    return Cause(99, what, [f"optim.lr={facts.lr / 3:.2g}", *facts.every_view(scale=[0.3, 1.0])])


def overwritten(facts: RunFacts) -> Cause | None:
    """Released weights were changed too fast."""
    if not facts.released or not facts.lower_than("starting_point"):
        return None
    return Cause(
        90,
        "the learning rate is high for pretrained weights, whose features were overwritten",
        [f"optim.lr={facts.lr / 10:.2g}"],
    )


def understated(facts: RunFacts) -> Cause | None:
    """kNN says little of methods that predict parts of an image."""
    if not facts.predictive or "linear_accuracy" in facts.lost_to or "knn_accuracy" not in facts.lost_to:
        return None
    if "linear_accuracy" in facts.scores.get("trained", {}):
        others = [one["linear_accuracy"] for one in facts.baselines if "linear_accuracy" in one]
        if not others or max(others) >= facts.scores["trained"]["linear_accuracy"]:
            return None
        return Cause(95, "kNN understates methods of masked images: by the linear probe the encoder is better", [])
    return Cause(
        88, "kNN understates methods of masked images, which a linear probe tells", ["eval.linear_probe=true"], True
    )


def too_few_steps(facts: RunFacts) -> Cause | None:
    """The schedule was over before much was learned."""
    need = max(
        ENOUGH_STEPS / facts.steps, ENOUGH_EPOCHS / max(facts.epochs, 0.01) if facts.steps < 10 * ENOUGH_STEPS else 0
    )
    weight = 85 if need > 4 else 72 if need > 1 else 20
    times = min(max(2 ** math.ceil(math.log2(max(need, 2))), 2), 16)
    if facts.minutes:
        more = f"train.minutes={facts.minutes * times:g}"
    else:
        more = f"train.steps={max(facts.steps * times, ENOUGH_STEPS)}"
    what = (
        f"{facts.steps:,} steps, {_passes(facts.epochs)} over the images, are few"
        if need > 1
        else "a longer training learns more"
    )
    return Cause(weight, what, [more], True)


def flat_loss(facts: RunFacts) -> Cause | None:
    """The loss has hardly fallen."""
    if len(facts.losses) < 10 or facts.constant or facts.collapsed:
        return None
    tenth = max(len(facts.losses) // 10, 1)
    first, last = (sum(part) / tenth for part in (facts.losses[:tenth], facts.losses[-tenth:]))
    if first - last > FLAT_LOSS * abs(first) or facts.steps < 300:
        return None
    what = f"the loss hardly fell, from {first:.3g} to {last:.3g}: the learning rate {facts.lr:g} does not fit"
    return Cause(80, what, [f"optim.lr={facts.lr / 3:.2g}"])


def too_few_tests(facts: RunFacts) -> Cause | None:
    """The difference is one that so few test images cannot show."""
    if not facts.test_images:
        return None
    gaps = []
    for key, names in facts.lost_to.items():
        own = facts.scores["trained"][key]
        gaps += [(facts.scores[name][key] - own, own) for name in names if name in facts.scores]
    if not gaps:
        return None
    gap, own = max(gaps)
    share = (own * facts.test_images + 1) / (
        facts.test_images + 2
    )  # smoothed: of few images, none or all are right by luck too
    error = 2 * math.sqrt(2 * share * (1 - share) / facts.test_images)
    if gap > error:
        return None
    difference = "equal figures may hide one" if round(gap, 3) <= 0 else f"this one is of {100 * gap:.1f}"
    what = (
        f"{facts.test_images:,} test images are few (one is {100 / facts.test_images:.2g} points): a difference below {100 * error:.0f} points "
        f"can be luck, and {difference}"
    )
    return Cause(78, f"{what}; name more in eval.path or eval.split", [])


def color(facts: RunFacts) -> Cause | None:
    """The views change the colors by which classes are told apart."""
    changed = {"hue": 0.0, "grayscale": 0.0, "saturation": 0.1}
    overrides = facts.every_view(**changed)
    strong = any(
        view.get("jitter", 1) and (view["hue"] >= 0.05 or view["grayscale"] >= 0.1 or view["saturation"] >= 0.3)
        for view in facts.views.values()
    )
    if not strong:
        return None
    by_pixels = facts.lower_than("raw_pixels")
    what = "the augmentation changes colors"
    if by_pixels:
        return Cause(76, f"{what}, and raw pixels score higher: color may tell these classes apart", overrides)
    return Cause(35, f"{what}: where color tells your images apart, that is lost", overrides)


def upside_down(facts: RunFacts) -> Cause | None:
    """The views turn images upside down, as those of recipes for drawn shapes do."""
    if not any(view["vertical_flip"] for view in facts.views.values()):
        return None
    return Cause(
        68,
        "the augmentation turns images upside down, which photographs never are",
        facts.every_view(vertical_flip=0.0),
    )


def small_crops(facts: RunFacts) -> Cause | None:
    """Crops show too little of an image."""
    smallest = min(view["scale"][0] for view in facts.views.values())
    if smallest >= SMALL_CROP or len(facts.views) > 2:  # of multi-crop the small ones are meant
        return None
    what = f"crops of {smallest:.0%} of an image may show nothing of what its class is"
    return Cause(50, what, facts.every_view(scale=[0.3, 1.0]))


def few_images(facts: RunFacts) -> Cause | None:
    """There are few images to learn from."""
    if facts.released or facts.images is None or facts.images >= FEW_IMAGES:
        return None
    what = f"{facts.images:,} images are few to learn from with random weights: start from pretrained ones"
    if not (facts.texts or facts.predictive):  # whose encoders any architecture can be
        return Cause(60, what, ["backbone={pretrained: facebook/dinov2-small}", "optim.lr=1e-4"])
    batch = [f"train.batch_size={facts.batch_size}"] if facts.batch_size < RELEASED_BATCH else []
    return Cause(60, what, batch, recipe=WITH_TEXTS if facts.texts else RELEASED)


def other_labels(facts: RunFacts) -> Cause | None:
    """No encoder finds the classes."""
    chance, best = facts.scores.get("chance", {}), []
    for key in ("knn_accuracy", "linear_accuracy"):
        reached = [scores[key] for name, scores in facts.scores.items() if name != "chance" and key in scores]
        if reached and key in chance:
            best.append((max(reached) - chance[key]) / max(1 - chance[key], 1e-9))
    if not best:
        return None
    if max(best) < SEEN:
        return Cause(82, "nothing is far above chance: the labels may not be about what images look like", [])
    return Cause(15, "the labels may be about something that the augmentation removes", [])


def small_batch(facts: RunFacts) -> Cause | None:
    """There is little to compare an image with."""
    if facts.predictive or facts.batch_size >= SMALL_BATCH or (facts.images or 0) < 4 * SMALL_BATCH:
        return None
    return Cause(
        45, f"a batch of {facts.batch_size} images leaves little to tell each apart from", ["train.batch_size=128"]
    )


def small_views(facts: RunFacts) -> Cause | None:
    """Details cannot be seen."""
    size = max(view["size"] for view in facts.views.values())
    if size > SMALL_VIEW:
        return None
    overrides = [f"views.{name}.size={view['size'] * 2}" for name, view in facts.views.items()]
    return Cause(30, f"at {size} px details are lost", overrides)


RULES: tuple[Callable[[RunFacts], Cause | None], ...] = (
    collapse,
    overwritten,
    understated,
    too_few_steps,
    flat_loss,
    too_few_tests,
    color,
    upside_down,
    small_crops,
    few_images,
    other_labels,
    small_batch,
    small_views,
)


def _passes(count: float) -> str:
    number = f"{count:,.0f}" if count >= 10 else f"{count:.2g}"
    return f"{number} pass{'es' * (number != '1')}"
