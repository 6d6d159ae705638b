"""Writes docs/encoders.md: which encoders train, and how their features are read, found by training each of them.

Usage: python tests/encoders/write_table.py [NAME ...]; with names only these are tried, and the table is printed.
"""

import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from importlib.metadata import version
from pathlib import Path

import card_reader
import timm_families
import torch
import vision_types
from encoder_runs import IMAGE, Outcome, compare_card, outcome_of, write_data

from hfcontrast.commands.arguments import DataSource

PAGE = Path(__file__).parents[2] / "docs" / "encoders.md"
_HEAD = """# Encoders

Any vision model of transformers and any of timm can be the `backbone` of a recipe, or is refused in one sentence before the training starts. The tables come from a test: a tiny
random model of each architecture was trained by one step, published, and loaded in a process without hfcontrast, where the lines of its card gave the features that the run had
evaluated, and that `hfcontrast evaluate` and `hfcontrast embed` compute. Made with {versions} by

<!-- not run: trains some 300 models, which takes half an hour -->
```bash
python tests/encoders/write_table.py
```

*Features* is the line that the card of a run shows, in terms of the `outputs` of the model; *pipeline* what it shows for `pipe = pipeline("image-feature-extraction", ...)`.
Methods whose class token no loss trains, such as `mae` and `simmim`, publish the mean of the patches instead, and their cards say so.
"""


def versions() -> str:
    """The versions that the table belongs to."""
    return f"transformers {version('transformers')} and timm {version('timm')}"


def run_towers(name: str, data: DataSource, output: Path) -> Outcome:
    """What becomes of a model with an image and a text tower, trained by CLIP's or SigLIP's objective."""
    backbone = vision_types.tiny_towers(name)
    method = "siglip" if name.startswith("siglip") else "clip"
    text = {"vocab_size": 600} | ({} if method == "siglip" else {"max_length": 24})
    return outcome_of(backbone, data, output, method={"name": method}, text=text, eval={"zero_shot": []})


def all_outcomes(root: Path, names: Iterable[str] = ()) -> dict[str, Outcome]:
    """What becomes of every encoder, or of these; timm's are called ``timm/FAMILY``, and two towers ``towers/NAME``."""
    root.mkdir(parents=True, exist_ok=True)
    data, outcomes, folders = write_data(root), {}, {}
    known = [] if names else vision_types.model_types()
    wanted = list(names) or [
        *known,
        *(f"timm/{family}" for family in timm_families.timm_families()),
        *(f"towers/{name}" for name in known if vision_types.has_two_towers(name)),
    ]
    for name in wanted:
        folder = root / name.replace("/", "+")
        if name.startswith("towers/"):
            outcome = run_towers(name.partition("/")[2], data, folder)
        elif name.startswith("timm/"):
            family = name.partition("/")[2]
            views = {"all": {"size": timm_families.SIZES.get(family, vision_types.SIZE)}}
            outcome = outcome_of(timm_families.tiny_timm(family), data, folder, views=views)
        else:
            outcome = outcome_of(vision_types.tiny_backbone(name), data, folder)
        outcomes[name] = outcome
        if outcome.line:
            folders[name] = folder
        print(f"{name}: {outcome.refused or outcome.line} {outcome.problems or ''}", file=sys.stderr, flush=True)
    _read_cards(root, folders, outcomes)
    return outcomes


def _read_cards(root: Path, folders: dict[str, Path], outcomes: dict[str, Outcome]) -> None:
    """Runs the lines of all cards in one process that cannot import hfcontrast."""
    script = [sys.executable, card_reader.__file__, IMAGE, *(folder.name for folder in folders.values())]
    done = subprocess.run(script, cwd=root, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(done.stderr[-2000:])
    found = json.loads((root / "found.json").read_text())
    for name, folder in folders.items():
        compare_card(folder, found[folder.name], outcomes[name])


def page(outcomes: dict[str, Outcome]) -> str:
    """The page of the documentation."""
    parts = {"": {}, "timm/": {}, "towers/": {}}
    for name, outcome in outcomes.items():
        prefix = next((prefix for prefix in ("timm/", "towers/") if name.startswith(prefix)), "")
        parts[prefix][name.removeprefix(prefix)] = outcome
    heads = {
        "": "## transformers\n\nBy `model_type`, as in `backbone: {model_type: dinov2}`.",
        "timm/": "## timm\n\nOne architecture of each family (a file of `timm.models`), as in `backbone: timm/resnet18`.",
        "towers/": "## Images with text\n\nModels with an image and a text tower, trained by the methods `clip` and `siglip`. "
        "Their image towers stand above too. `hfcontrast evaluate`\nand `hfcontrast embed` also take those that have no learned scale (`align`, `flava`, "
        "`tipsv2`, `altclip`), by the features that their images and texts are found to have. Where these\ndiffer in width, or texts have none "
        "(`blip-2`), texts are not compared with images, which is said; `siglip2` (NaFlex), whose images are patches with their places, is refused.",
    }
    text = _HEAD.format(versions=versions())
    for prefix, head in heads.items():
        text += f"\n{head}\n\n{_trained(parts[prefix])}{_refused(parts[prefix])}"
    return text


def _trained(outcomes: dict[str, Outcome]) -> str:
    rows = ["| architecture | features | pipeline |", "|---|---|---|"]
    rows += [
        f"| `{name}` | `{outcome.line}` | {f'`{outcome.pipeline}`' if outcome.pipeline else ''} |"
        for name, outcome in sorted(outcomes.items())
        if outcome.line
    ]
    return "\n".join(rows) + "\n"


def _refused(outcomes: dict[str, Outcome]) -> str:
    """Refused architectures by the sentence, which has their names."""
    sentences: dict[str, list[str]] = {}
    for name, outcome in sorted(outcomes.items()):
        if outcome.refused:
            sentence = re.sub(rf"(?<![\w-])'?{re.escape(name)}'?(?![\w-])", "NAME", outcome.refused)
            sentences.setdefault(" ".join(sentence.split()), []).append(name)
    if not sentences:
        return ""
    rows = ["\nRefused:\n", "| architecture | sentence |", "|---|---|"]
    for sentence, names in sorted(sentences.items(), key=lambda item: item[1]):
        rows.append(f"| {', '.join(f'`{name}`' for name in names)} | {sentence.replace('|', '&#124;')} |")
    return "\n".join(rows) + "\n"


if __name__ == "__main__":
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        found = all_outcomes(Path(folder), sys.argv[1:])
    for encoder, outcome in found.items():
        for problem in outcome.problems:
            print(f"problem: {encoder}: {problem}", file=sys.stderr)
    if sys.argv[1:]:
        print(page(found))
    else:
        PAGE.write_text(page(found), encoding="utf-8")
