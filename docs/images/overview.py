"""Draws docs/images/overview.jpg: images, two views of each, and the nearest neighbors by the features of a run's encoder.

    accelerate launch -m hfcontrast.run recipes/simclr_resnet.yaml
    python docs/images/overview.py outputs/simclr_resnet

The images are generated (builtin/shapes), so the sheet can be redistributed.
"""

import sys
from pathlib import Path

import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor
from transformers import AutoImageProcessor, AutoModel

from hfcontrast import load_recipe
from hfcontrast.data import ColorAugmentation, TrainLoader, load_rows

ROWS, NEIGHBORS, SIDE, GAP, HEADING = 5, 5, 96, 6, 24
GRAY = (0.5, 0.5, 0.5)


def features(model: AutoModel, processor: AutoImageProcessor, images: list[Image.Image]) -> Tensor:
    """Normalized features, (N, D), as the run evaluated them."""
    found = []
    with torch.inference_mode():
        for start in range(0, len(images), 64):
            pixels = processor(images[start : start + 64], return_tensors="pt")
            found.append(model(**pixels).pooler_output.flatten(1))
    return torch.nn.functional.normalize(torch.cat(found), dim=1)


def main(folder: str, file: Path) -> None:
    """Draws the sheet of the run in ``folder`` into ``file``."""
    recipe = load_recipe(f"{folder}/recipe.yaml")
    model, processor = AutoModel.from_pretrained(folder).eval(), AutoImageProcessor.from_pretrained(folder)
    train, test = (load_rows("builtin/shapes", split=split) for split in ("train", "test"))
    test = test.select([number * test.num_rows // ROWS for number in range(ROWS)])

    def images(rows) -> list[Image.Image]:
        return [rows.reader.image(row["image"]) for row in rows.dataset]

    views = recipe.resolved_views()
    batch = next(iter(TrainLoader(test, views, batch_size=ROWS, workers=0)))
    pixels = ColorAugmentation(views, GRAY, GRAY)(batch, "cpu")["pixel_values"]
    order = batch["index"].argsort()
    pixels = ((pixels[order] * 0.5 + 0.5).clamp(0, 1) * 255).byte().permute(0, 1, 3, 4, 2).numpy()

    shown, others = images(test), images(train)
    nearest = (features(model, processor, shown) @ features(model, processor, others).T).topk(NEIGHBORS).indices
    columns = {
        "image": [[image] for image in shown],
        "two views": [[Image.fromarray(view) for view in row[:2]] for row in pixels],
        "nearest neighbors": [[others[number] for number in row] for row in nearest.tolist()],
    }
    width = sum(len(cells[0]) * (SIDE + GAP) + 3 * GAP for cells in columns.values()) - 2 * GAP
    sheet = Image.new("RGB", (width, HEADING + ROWS * (SIDE + GAP) + GAP), "white")
    draw, left = ImageDraw.Draw(sheet), GAP
    for heading, cells in columns.items():
        draw.text((left, GAP), heading, fill="black", font=ImageFont.load_default(14))
        for row, line in enumerate(cells):
            for number, image in enumerate(line):
                cell = image.convert("RGB").resize((SIDE, SIDE), Image.Resampling.BICUBIC)
                sheet.paste(cell, (left + number * (SIDE + GAP), HEADING + GAP + row * (SIDE + GAP)))
        left += len(cells[0]) * (SIDE + GAP) + 3 * GAP
    sheet.save(file, quality=90)


if __name__ == "__main__":
    main(sys.argv[1], Path(__file__).with_name("overview.jpg"))
