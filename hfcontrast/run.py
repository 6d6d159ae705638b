"""``accelerate launch -m hfcontrast.run RECIPE [key.path=value ...]``: trains, judges and publishes an encoder."""

import argparse
import ctypes
import os
import signal
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import datasets
import torch
import transformers
from rich.console import Console
from rich.table import Table

from .data.evaluation import evaluation_batches
from .data.sources import Rows, available_splits, load_rows
from .errors import DataError, HFContrastError
from .evaluation.online import OnlineEvaluation
from .nn.distributed import rank, world_size
from .nn.encoder import feature_expression
from .publishing.card import build_card, score_table
from .publishing.export import export_encoder, save_method
from .publishing.processor import as_transform, build_processor, timm_settings
from .publishing.result import FILE, build_result, write_result
from .recipe import Recipe, load_recipe
from .training.loop import train
from .training.method import published_size
from .training.setup import Training, build_training
from .training.watch import Interrupted

CACHED_BYTES = 1 << 30  # evaluation images are kept as tensors when all of them take no more than this


def run(recipe: Recipe) -> dict[str, Any]:
    """Runs a recipe to the end; returns the run's notes (accuracies, speed).

    Raises:
        HFContrastError: With one clear sentence.
        Interrupted: A signal came; the run is saved.
    """
    training = build_training(recipe)
    if training.weights:
        training.accelerator.print(training.weights)
    if training.accelerator.is_main_process:
        (training.output / FILE).unlink(missing_ok=True)  # until this run, too, is finished
    evaluation, evaluated_on, processor, ratio = build_evaluation(training)
    notes = train(training, evaluation)
    if recipe.eval.baselines is True:
        notes["raw_pixels"] = evaluation.raw_pixels(training.accelerator.device)
    publish(training, notes, processor, ratio, evaluated_on)
    training.accelerator.end_training()  # closes trackers and process group
    return notes


def build_evaluation(training: Training) -> tuple[OnlineEvaluation, str, Any, float]:
    """The evaluation of a run: on which rows, through the very processor that is published."""
    recipe = training.recipe
    size = published_size(recipe, training.views)
    ratio = recipe.publish.resize_ratio or (0.875 if size >= 128 else 1.0)
    encoder = training.method.export_encoder()
    processor = build_processor(encoder, size, ratio, training.mean, training.std)
    bank, queries, name = evaluation_rows(recipe, training.rows)
    batches = partial(Batches, transform=as_transform(processor), batch_size=recipe.eval.batch_size, size=size)
    settings = recipe.eval
    evaluation = OnlineEvaluation(
        batches(bank, settings.max_bank) if bank.labelled and queries.labelled else None,
        batches(queries, settings.max_queries),
        settings.knn_k,
        settings.knn_temperature,
        settings.linear_probe,
    )
    return evaluation, name, processor, ratio


def evaluation_rows(recipe: Recipe, rows: Rows) -> tuple[Rows, Rows, str]:
    """Neighbours, queries and what the data they come from is called.

    Queries are the recipe's split, else ``test``, else ``validation``; else every fifth training row, which is then no
    neighbour.

    Raises:
        DataError: They cannot be opened, or have different classes.
    """
    source = recipe.evaluation_source()
    split = source.pop("split", None) or recipe.eval.split
    elsewhere = recipe.eval.path is not None
    if split is None:
        there = available_splits(**{key: value for key, value in source.items() if key in _SPLIT_ARGUMENTS})
        split = next((name for name in ("test", "validation", "val", "valid") if name in there), None)
    bank = load_rows(**source, split="train") if elsewhere else rows
    if split is None:
        held_out = bank.where(lambda i: i % 5 == 4)
        name = f"{source['path']} (every fifth row of {'train' if elsewhere else recipe.data.split})"
        return bank.where(lambda i: i % 5 != 4), held_out, name
    queries = load_rows(**source, split=split)
    check_same_classes(bank, queries)
    return bank, queries, f"{source['path']} ({split})"


def check_same_classes(bank: Rows, queries: Rows) -> None:
    """Refuses neighbours that cannot vote.

    Raises:
        DataError: Both name their classes, and differently.
    """
    if bank.class_names and queries.class_names and bank.class_names != queries.class_names:
        names = sorted(set(bank.class_names) ^ set(queries.class_names)) or "the same in another order"
        raise DataError(
            f"the classes of {queries.description} are not those of {bank.description} ({names}), so its pictures cannot be "
            "classified by their neighbours: choose another eval.split or eval.path"
        )


_SPLIT_ARGUMENTS = ("path", "name", "data_dir", "data_files", "revision")


class Batches:
    """This process's share of a data set as batches of (pixel_values, labels); kept in memory when they are small.

    Args:
        rows: The data set.
        limit: How many of its rows are used at most, spread evenly over it; the first ones of a stream.
        transform: From images to pixel values.
        batch_size: Images a batch.
        size: Side of the images, in pixels.
    """

    def __init__(self, rows: Rows, limit: int | None, *, transform, batch_size: int, size: int):
        count = limit if rows.num_rows is None else min(rows.num_rows, limit or rows.num_rows)
        if rows.streaming:
            rows = rows.where(lambda i: i % world_size() == rank(), limit)
        else:
            chosen = [i * rows.num_rows // count for i in range(count)]
            rows = rows.select(chosen[rank() :: world_size()])
        self.rows, self.transform, self.batch_size = rows, transform, batch_size
        self.keep = count is not None and count * size * size * 12 <= CACHED_BYTES
        self.kept: list | None = None

    def __call__(self):
        """The batches, from the first."""
        if self.kept is not None:
            return iter(self.kept)
        batches = self._read()
        if self.keep:
            self.kept = list(batches)
            return iter(self.kept)
        return batches

    def _read(self):
        for pixels, labels, *_ in evaluation_batches(self.rows, self.transform, self.batch_size):
            yield pixels, torch.zeros(len(pixels), dtype=torch.long) if labels is None else labels


def publish(training: Training, notes: dict[str, Any], processor: Any, ratio: float, evaluated_on: str) -> None:
    """Writes the encoder, its card, the whole method and the figures, and says what came of the run."""
    accelerator, method, output = training.accelerator, training.method, training.output
    whole = accelerator.get_state_dict(training.model)
    if not accelerator.is_main_process:
        return
    encoder = method.export_encoder()
    prefix = next(name for name, module in method.named_modules() if module is encoder) + "."
    weights = {name.removeprefix(prefix): value for name, value in whole.items() if name.startswith(prefix)}
    settings = timm_settings(published_size(training.recipe, training.views), ratio, training.mean, training.std)
    export_encoder(encoder, processor, output, settings, weights)
    save_method(method, output / "method", whole)
    build_card(training, notes, ratio, evaluated_on).save(output / "README.md")
    write_result(build_result(training, notes, evaluated_on), output)
    report(training, notes, evaluated_on)


def report(training: Training, notes: dict[str, Any], evaluated_on: str) -> None:
    """Prints the table at the end of a run."""
    console = Console()
    columns, rows = score_table(notes)
    if rows:
        table = Table(*columns)
        for row in rows:
            table.add_row(*row, style="bold" if row[0].startswith("trained") else None)
        console.print(f"Judged on {evaluated_on}", highlight=False, soft_wrap=True, markup=False)
        console.print(table)
    else:
        console.print("The data has no labels: nothing was classified; eval.path can name a labelled data set.")
    scores = notes.get("trained", {})
    if scores.get("feature_std", 1.0) < 0.1:
        console.print(
            "[bold red]The features have collapsed[/]: all images look alike to this encoder. Lower optim.lr, raise "
            "train.batch_size, or weaken the augmentation (views.all.scale=[0.2,1])."
        )
    encoder = training.method.export_encoder()
    trust = ", trust_remote_code=True" if getattr(type(encoder), "_auto_class", None) else ""
    console.print(f"Written: {training.output}", highlight=False, soft_wrap=True)
    console.print(
        f'Load it: AutoModel.from_pretrained("{training.output}"{trust}); features: {feature_expression(encoder)}',
        highlight=False,
        soft_wrap=True,
        markup=False,
    )


def follow_launcher() -> None:
    """Makes the end of ``accelerate launch`` a SIGTERM here, where the system can: a killed launcher forwards nothing."""
    if "ACCELERATE_MIXED_PRECISION" in os.environ and sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns the exit code: 0, 2 for an error that was explained, 128 + the signal that stopped the run."""
    parser = argparse.ArgumentParser(prog="hfcontrast.run", description=__doc__)
    parser.add_argument("recipe", help="YAML file, such as recipes/dino_vit.yaml")
    parser.add_argument("overrides", nargs="*", help="key.path=value, such as optim.lr=0.001 or data.path=imagefolder")
    options = parser.parse_args(arguments)
    follow_launcher()
    datasets.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()  # of saving and loading; the training has its own
    try:
        run(load_recipe(Path(options.recipe), options.overrides))
    except Interrupted as stop:
        print(stop, file=sys.stderr)
        return 128 + stop.signal_number
    except KeyboardInterrupt:
        print("stopped at once; the same command goes on from the newest checkpoint, if there is one", file=sys.stderr)
        return 128 + signal.SIGINT
    except HFContrastError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    finally:
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()
    return 0


if __name__ == "__main__":
    sys.exit(main())
