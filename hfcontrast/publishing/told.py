"""What happened in a run, in the sentences of its card: each is made of the facts that ``result.json`` has (see :mod:`.facts`)."""

from collections.abc import Mapping, Sequence
from typing import Any

from ..evaluation.counts import counted

COMMIT = "git_commit"  # among versions, of the repository of the working directory
UNFINISHED = "unfinished"  # of an exported checkpoint: the steps that its run has in all
_TOWERS = {"": "encoder", "vision": "image tower", "text": "text tower"}
_PLACES = {"built-in": ", which comes with hfcontrast", "local": ", files of the machine that trained"}
_HUB = "https://huggingface.co/"


def told_start(start: Mapping[str, Any] | None, two_towers: bool) -> list[str]:
    """What weights a run started from, and what of them it has trained.

    Args:
        start: The fact ``start``.
        two_towers: Whether the encoder has an image and a text tower.
    """
    if start is None:
        return ["The training started from random weights."]
    parts = {part["tower"]: part for part in start["weights"]}
    found = []
    for tower, part in parts.items():
        what = "The training" if not tower else f"The {_TOWERS[tower]}"
        text = f"{what} started from the released weights {told_weights(part)}"
        if part["tensors"] < part["of_tensors"]:
            text += f", which gave {part['tensors']:,} of {part['of_tensors']:,} tensors; the others started at random"
        found.append(f"{text}.")
    if two_towers and "" not in parts:
        random = [_TOWERS[tower] for tower in ("vision", "text") if tower not in parts]
        found += [f"The {tower} started from random weights." for tower in random]
    locked = [_TOWERS[tower] for tower in start["locked"]]
    found += [f"The {tower} was locked: its released weights were not changed." for tower in locked]
    if start["lora"]:
        found.append(told_lora(start["lora"]))
    elif start.get("trainable_layers"):
        found.append(
            f"Its last {counted(start['trainable_layers'], 'layers')} were trained further; the layers below kept their weights."
        )
    elif not locked:
        found.append("Both towers were trained." if two_towers else "The whole encoder was trained further.")
    return found


def told_weights(part: Mapping[str, Any]) -> str:
    """Released weights by their name, with a link and the revision where they are on the Hub."""
    if not part["on_hub"]:
        behind = part["base_models"]
        of = f", trained from {listed([linked(name) for name in behind])}" if behind else ""
        return f"`{part['name']}`, a folder of the machine that trained{of}"
    revision = f", revision `{part['revision']}`" if part["revision"] else ""
    return f"{linked(part['name'])}{revision}"


def told_lora(lora: Mapping[str, Any]) -> str:
    """Which adapters a run has trained, and where they are."""
    targets = ", ".join(f"`{name}`" for name in lora["targets"])
    towers = listed([_TOWERS[tower] for tower in lora["towers"]])
    where = f" of the {towers}" if towers else ""
    beside = listed([f"`{name}`" for name in lora["trained_beside"]])
    return (
        f"LoRA adapters of rank {lora['r']} (alpha {lora['alpha']:g}) on {counted(lora['layers'], 'layers')}{where} ({targets}) were trained, "
        f"{lora['parameters']:,} parameters"
        + (f", and beside them {beside}" if beside else "")
        + "; the other released weights were kept. "
        "The adapters are merged into the weights here; the folder `adapter` has them by themselves."
    )


def told_data(facts: Mapping[str, Any], steps: int, batch_size: int) -> list[str]:
    """What a run was trained on: which rows there are, how many of them it has read, and what was left out.

    Args:
        facts: The facts ``data``.
        steps: Optimizer steps.
        batch_size: Rows of a step.
    """
    rows, read = facts["rows"], steps * batch_size
    settings = [f"configuration `{facts['config']}`"] if facts["config"] else []
    settings += [f"split `{facts['split']}`"]
    settings += [f"revision `{facts['revision']}`"] if facts["revision"] else []
    text = f"The data is {told_source(facts)}{_PLACES.get(facts['kind'], '')} ({', '.join(settings)}): "
    text += "a stream of unknown length" if rows is None else counted(rows, "images")
    if rows is not None and read < rows:
        text += f", of which {read:,} were read"
    elif rows is not None:
        text += (
            f", each read {_times(facts['epochs'])} times on average" if facts["epochs"] != 1 else ", each read once"
        )
    else:
        text += f", of which {counted(read, 'images')} were read"
    found = [f"{text}."]
    if held_out := facts.get("held_out"):
        found.append(
            f"Further {counted(held_out, 'images')} of the split, those of the evaluation, were held out of the training, as it learned from labels."
        )
    if facts["labels"]:
        found.append(
            "The training learned from its labels."
            if facts["labels"] == "used"
            else "The training did not see its labels."
        )
    if facts["unreadable"]:
        count = sum(facts["unreadable"].values())
        found.append(f"{counted(count, 'rows')} left out of the training: {told_causes(facts['unreadable'])}.")
    if facts["not_used"]:
        found.append(f"Not part of the data: {told_causes(facts['not_used'])}.")
    return found


def told_amount(facts: Mapping[str, Any], sizes: Sequence[int]) -> str:
    """How much a run has seen, as a limit of what its encoder can know.

    Args:
        facts: The facts ``data``.
        sizes: Sides of the views, in pixels.
    """
    rows = "a stream of images" if facts["rows"] is None else counted(facts["rows"], "images")
    return f"It has learned from {rows}, in crops of {max(sizes)} px: what these do not show, or is too small in them to be seen, it may not tell apart."


def _times(count: float) -> str:
    """How many times, with a decimal below 10."""
    return f"{count:,.0f}" if count >= 10 else f"{round(count, 1):g}"


def told_source(facts: Mapping[str, Any]) -> str:
    """Data by their name, with a link where they are on the Hub."""
    name, kind = facts["name"], facts["kind"]
    if kind == "memory":
        return name
    return f"[`{name}`]({_HUB}datasets/{name})" if kind == "hub" else f"`{name}`"


def told_causes(causes: Mapping[str, int]) -> str:
    """Causes with their counts: ``cannot be decoded (2), no caption (1)``."""
    return ", ".join(f"{cause} ({count:,})" for cause, count in causes.items())


def told_setups(setups: Sequence[Mapping[str, Any]] | None) -> str:
    """What the steps of a run were computed on, as the end of a sentence; empty where that was not noted."""
    if not setups:
        return ""
    parts = [
        f"on {one['device']}, {counted(one['processes'], 'processes') if one['processes'] > 1 else '1 process'}, {one['precision']}"
        for one in setups
    ]
    if len(set(parts)) == 1 and setups[0]["from_step"] == 0:
        return f" {parts[0]}"
    told = [f"from step {one['from_step']:,} {part}" for one, part in zip(setups, parts, strict=True)]
    return f", resumed in another environment: {'; '.join(told)}"


def told_versions(setups: Sequence[Mapping[str, Any]] | None, current: Mapping[str, str]) -> str:
    """The versions that a run was computed with, those of the last steps where they have changed."""
    versions = setups[-1]["versions"] if setups else current
    changed = setups is not None and any(one["versions"] != versions for one in setups)
    of = f" (of the steps from {setups[-1]['from_step']:,} on)" if setups and changed else ""
    packages = ", ".join(f"{package} {version}" for package, version in versions.items() if package != COMMIT)
    commit = f"; the working directory was at commit `{versions[COMMIT]}`" if COMMIT in versions else ""
    return f"Versions{of}: {packages}{commit}."


def told_early_stopping(state: Mapping[str, Any] | None) -> list[str]:
    """Which state of a run is published, and why; empty without early stopping.

    Args:
        state: What early stopping noted.
    """
    if not state or not state["published"]:
        return []
    knn = state["metric"] == "knn"
    key, name = ("knn", "kNN accuracy") if knn else ("view_agreement", "neighbors shared by two augmented views")
    end = (state["measurements"] or [state["start"]])[-1]
    shown = {
        who: f"{figures[key]:.1%}" if key in figures else "no finite features"
        for who, figures in (("start", state["start"]), ("best", state["best"]), ("end", end))
    }
    by = f"by {name} on a fifth of the training images" + ("" if knn else ", without labels")
    against = f"the end {shown['end']}, the start {shown['start']}"
    if state["published"] == "end":
        text = f"Published is the end of the training, {by}: {against}."
    elif state["published"] == "best":
        text = f"Published is the encoder of step {state['best_step']:,}, the best of {counted(len(state['measurements']), 'measurements')} {by}: {shown['best']}, {against}."
    else:
        text = f"Published is the start, as the training has not made it better {by}: {against}."
    found = [text]
    if "rankme" in end:
        found.append(
            f"Compared with the start, the last measurement keeps {end['shared_with_start']:.0%} of the nearest neighbors; RankMe {state['start']['rankme']:.1f} became "
            f"{end['rankme']:.1f}, alignment {state['start']['alignment']:.3f} {end['alignment']:.3f}, uniformity {state['start']['uniformity']:.2f} {end['uniformity']:.2f}."
        )
    if state["reductions"]:
        steps = listed([f"{step:,}" for step in state["reductions"]])
        found.append(
            f"The encoder got worse, so the best state was restored and the learning rate lowered at step {steps}."
        )
    if state["stopped_at"] is not None:
        found.append(f"The training was ended early, at step {state['stopped_at']:,}.")
    return found


def told_nothing(evaluation: Mapping[str, Any], labels: str | None) -> str:
    """Why a card has no table of figures.

    Args:
        evaluation: The fact ``evaluation``.
        labels: Of the training data.
    """
    if not evaluation:
        return "It was not evaluated."
    if evaluation.get("not_classified"):
        return "Nothing was classified: all labeled images that a classifier could be fitted to are test images."
    if doubled := evaluation.get("near_duplicates"):
        return f"All {doubled:,} labeled train images are near-duplicates of test images: nothing was classified."
    return "Nothing was classified" + (", as the data has no labels." if labels is None else ".")


def told_unfinished(notes: Mapping[str, Any], steps: int) -> str | None:
    """A sentence on a checkpoint that was exported before the end of its run; None at its end."""
    total = notes.get(UNFINISHED)
    return f"**This is an unfinished run: exported after step {steps:,} of {total:,}.**" if total else None


def linked(name: str) -> str:
    """A model of the Hub with its address."""
    return f"[`{name}`]({_HUB}{name})"


def listed(names: Sequence[str]) -> str:
    """Names as a sentence lists them."""
    return " and ".join(filter(None, (", ".join(names[:-1]), names[-1]))) if names else ""
