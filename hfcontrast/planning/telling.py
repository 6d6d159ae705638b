"""The five lines that say what was chosen, and why."""

from ..recipe import Recipe
from .choice import FEW_EPOCHS, MOST_EPOCHS, SIZES_IN_WORDS, SMALL, Choice, size_of, small
from .images import ImageFacts
from .kinds import COLORS, KINDS
from .machine import Machine

_NAMED = 4  # classes at most


def five_lines(
    facts: ImageFacts, machine: Machine, chosen: Choice, recipe: Recipe, name: str, picked: bool
) -> list[str]:
    """What was found, and what was chosen.

    Args:
        facts: The images.
        machine: The machine.
        chosen: What was chosen.
        recipe: The recipe with it.
        name: What the recipe is called.
        picked: Whether the recipe was chosen too, and not named.
    """
    settings = recipe.train
    size = next(iter(recipe.views.values()))["size"]
    images = f" and images of at most {SMALL} px" if small(facts) else ""
    why = f", the one for {SIZES_IN_WORDS[size_of(machine)]}{images}" if picked else ""
    length = f"{settings.epochs:g} epochs" if settings.epochs else f"{settings.steps} steps"
    if settings.minutes:
        length = f"{settings.minutes:g} {'minute' if settings.minutes == 1 else 'minutes'}, about {_rounded(chosen.epochs)} passes over the images by a guess, until the first steps are measured"
    advice = ""
    if chosen.capped:
        advice = f" (more than {MOST_EPOCHS:,} passes are not made)"
    elif settings.minutes and chosen.epochs < FEW_EPOCHS:
        advice = f": few (--time {_longer(chosen)} would make {FEW_EPOCHS} of them)"
    views = KINDS[chosen.kind]
    return [
        f"images:  {images_in_words(facts)}",
        f"machine: {machine.describe()}",
        f"recipe:  {name}{why}: {recipe.method.name} at {size} px, views for {chosen.kind} ({views.said}{_because(facts, chosen)}; --kind changes it)",
        f"length:  {length}{advice}; {settings.batch_size} {'image' if settings.batch_size == 1 else 'images'} a step, learning rate {recipe.optim.lr:g}",
        f"output:  {settings.output}; its recipe.yaml has all settings, and key.path=value changes any of them",
    ]


def _because(facts: ImageFacts, chosen: Choice) -> str:
    """Why colors are left alone, where labeled images showed it."""
    if chosen.kind != COLORS or facts.colors is None or not facts.colors.decisive:
        return ""
    return f", as colors tell these classes apart: {facts.colors.describe()}"


def images_in_words(facts: ImageFacts) -> str:
    """The images, in a line."""
    parts = [f"{facts.count:,}"]
    if facts.classes:
        more = ", ..." if len(facts.classes) > _NAMED else ""
        parts[0] += (
            f" in {len(facts.classes)} classes ({', '.join(facts.classes[:_NAMED])}{more}), which the evaluation{' and the choice of the views use' if facts.colors else ' alone uses'}"
        )
    else:
        parts[0] += " without labels"
    bands = f"{facts.channels} channels (data.channels)" if facts.channels else ""
    parts.append(bands or ("gray" if facts.all_gray else "color" if facts.gray < 0.05 else f"{facts.gray:.0%} gray"))
    if facts.deep:
        shown = (
            facts.window
            and f", of which the values {facts.window[0]:,g} to {facts.window[1]:,g} are used (data.window)"
        )
        parts.append(f"more than 8 bits a channel{shown or ''}")
    lying = "portrait" if facts.portrait > 0.9 else "landscape" if facts.portrait < 0.1 else ""
    square = facts.width == facts.height
    parts.append(f"{facts.width} x {facts.height} px at the median" + (f", {lying}" if lying and not square else ""))
    if facts.unreadable:
        parts.append(f"{facts.unreadable:.0%} of a sample cannot be read")
    if facts.captions:
        parts.append(
            f"captions in the column {facts.captions}, which this recipe does not read and photos/captions learns from"
        )
    how = "" if facts.classes else " without labels, by neighbors that two views share,"
    return "; ".join([", ".join(parts), f"evaluated{how} on {facts.test}"])


def _rounded(number: float) -> str:
    return f"{number:.1f}" if number < 3 else f"{float(f'{number:.2g}'):,.0f}"


def _longer(chosen: Choice) -> str:
    minutes = chosen.minutes * FEW_EPOCHS / chosen.epochs
    return f"{minutes / 60:.0f}h" if minutes >= 90 else f"{minutes:.0f}m"
