"""Old names: modules and public names that have moved keep working until version 0.3, each with one warning that says the new name."""

import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from .console import is_first_process

UNTIL = "0.3"

# Old module -> new module, within hfcontrast; a module that was split is its package, which has all of its public names.
MODULES = {
    "cli": "commands.cli",
    "commands.opening": "commands.models",
    "commands.parts": "commands.embedding_files",
    "data.archives": "data.sources.archives",
    "data.crops": "data.augment.crops",
    "data.crops_cpu": "data.augment.cpu_crops",
    "data.digits": "data.builtin.digits",
    "data.evaluation": "data.evaluation_loader",
    "data.map_rows": "data.map_batches",
    "data.photometry": "data.augment.color",
    "data.photometry_cpu": "data.augment.cpu_color",
    "data.photometry_torch": "data.augment.gpu",
    "data.randomness": "data.augment.draws",
    "data.reading": "data.image_reader",
    "data.reading_on": "data.stream_errors",
    "data.row_counts": "data.sources.row_counts",
    "data.shapes": "data.builtin.shapes",
    "data.speed": "benchmarks.loader",
    "data.streams": "data.stream_batches",
    "losses.clustering": "losses",
    "losses.contrastive": "losses",
    "losses.distillation": "losses",
    "losses.gaussianity": "losses.sigreg",
    "losses.memory": "losses.nt_xent",
    "losses.metric": "losses",
    "losses.noise": "losses",
    "losses.pairs": "losses.siglip",
    "losses.prediction": "losses.cpc",
    "losses.redundancy": "losses",
    "losses.siamese": "losses.negative_cosine",
    "losses.spread": "losses",
    "methods.arguments": "methods.contract.arguments",
    "methods.calling": "methods.contract.calling",
    "methods.config": "methods.contract.config",
    "methods.construction": "methods.contract.construction",
    "methods.declaration": "methods.contract.declaration",
    "methods.entry_points": "entry_points",
    "methods.freezing": "methods.contract.freezing",
    "methods.hooks": "methods.contract.hooks",
    "methods.loading": "methods.contract.loading",
    "methods.old_names": "methods.contract.old_names",
    "methods.output": "methods.contract.output",
    "methods.progress": "methods.contract.progress",
    "methods.renamed_settings": "methods.contract.renamed_settings",
    "methods.returned": "methods.contract.returned",
    "methods.settings": "methods.contract.settings",
    "methods.source": "methods.contract.source",
    "nn.backbone": "encoders.model_config",
    "nn.bank": "nn.memory_bank",
    "nn.clip_initialisation": "encoders.clip_initialization",
    "nn.colour_bins": "methods.colorization.color_bins",
    "nn.colour_views": "encoders.color_views",
    "nn.context": "methods.cpc.context",
    "nn.depth_initialization": "encoders.depth_initialization",
    "nn.embedding_initialization": "encoders.embedding_initialization",
    "nn.encoder": "encoders.features",
    "nn.encoder_with_head": "encoders.encoder_with_head",
    "nn.exact_masks": "methods.data2vec.masks",
    "nn.families": "encoders.layers",
    "nn.feature_colours": "nn.feature_colors",
    "nn.feature_map": "encoders.feature_map",
    "nn.kmeans": "methods.deepcluster_v2.kmeans",
    "nn.loading": "encoders.weights",
    "nn.lora": "encoders.lora",
    "nn.masking": "nn.masks.blocks",
    "nn.multiblock": "methods.ijepa.masks",
    "nn.own_architectures": "encoders.own_architectures",
    "nn.patch_grid": "methods.cpc.patches",
    "nn.patch_shortcuts": "methods.relative_patch.shortcuts",
    "nn.patch_tokens": "encoders.patch_tokens",
    "nn.pixel_sequence": "encoders.pixel_sequence",
    "nn.pretrained": "encoders.pretrained",
    "nn.puzzle": "nn.patches.squares",
    "nn.randomness": "nn.random",
    "nn.shared": "encoders.weight_sharing",
    "nn.shuffle": "methods.moco.shuffle_bn",
    "nn.signal_encoder": "encoders.signal_encoder",
    "nn.small_resnet": "encoders.small_resnet",
    "nn.standardised": "nn.standardized",
    "nn.subconfig": "encoders.subconfig",
    "nn.term_mean": "nn.distributed",
    "nn.tower_configs": "encoders.tower_configs",
    "nn.two_towers": "encoders.two_towers",
    "nn.vit": "encoders.vit",
    "recipe.finetuning": "evaluation.finetune",
    "run_pictures": "run_visualization",
    "training.bench": "benchmarks.step",
    "training.bench_losses": "benchmarks.losses",
    "training.measured": "training.data_statistics",
    "training.method": "training.build_method",
    "training.setup": "training.build",
    "training.text": "training.tokenizer",
    "training.watch": "training.interrupts",
    "visualization": "report",
    "visualization.sheet": "report.sheet",
}
# Old public name, in the module where it was -> new public name, within hfcontrast.
NAMES = {
    "cli.add_recipe_arguments": "commands.arguments.add_recipe_arguments",
    "cli.describe_method": "commands.methods.describe_method",
    "commands.arguments.add_embed": "commands.embed.add_arguments",
    "commands.arguments.add_evaluate": "commands.evaluate.add_arguments",
    "commands.embed.MANIFEST": "commands.embed_data.MANIFEST",
    "commands.embed.continue_manifest": "commands.embed_data.continue_manifest",
    "commands.embed.embed": "commands.embed_data.embed",
    "commands.embed.main": "commands.embed.run",
    "commands.embed.make_folder": "commands.embed_data.make_folder",
    "commands.embed.open_rows": "commands.embed_data.open_rows",
    "commands.embed.part_name": "commands.embed_data.part_name",
    "commands.embed.write_manifest": "commands.embed_data.write_manifest",
    "commands.embed.write_part": "commands.embed_data.write_part",
    "commands.embed.write_parts": "commands.embed_data.write_parts",
    "commands.evaluate.judge": "commands.evaluate_model.evaluate_model",
    "commands.evaluate.main": "commands.evaluate.run",
    "commands.evaluate.print_report": "commands.evaluate_model.print_report",
    "commands.evaluate.table_rows": "commands.evaluate_model.table_rows",
    "evaluation.rows.FeatureRows": "evaluation.feature_rows.FeatureRows",
    "evaluation.rows.computing_device": "evaluation.features.computing_device",
    "comparison.plan.judged": "comparison.plan.evaluation_settings",
    "comparison.plan.pixels_judged": "comparison.plan.pixels_evaluated",
    "comparison.table.summarise": "comparison.table.summarize",
    "data.Photometry": "data.ColorAugmentation",
    "data.photometry.Photometry": "data.augment.color.ColorAugmentation",
    "data.photometry_cpu.distort": "data.augment.cpu_color.augment_color",
    "data.photometry_torch.distort": "data.augment.gpu.augment_color",
    "data.randomness.hash_numbers": "data.keyed_random.hash_numbers",
    "data.reading_on.read_on": "data.stream_errors.read_batches",
    "data.reading_on.told": "data.stream_errors.error_text",
    "evaluation.finetune.lr_factor": "evaluation.finetune_training.lr_factor",
    "evaluation.finetune.parameter_groups": "evaluation.finetune_training.parameter_groups",
    "evaluation.finetune.shift_and_flip": "evaluation.finetune_training.shift_and_flip",
    "evaluation.finetune.trainable_names": "evaluation.tuned.trainable_names",
    "evaluation.finetune_training.trainable_names": "evaluation.tuned.trainable_names",
    "evaluation.inputs.picture_transform": "evaluation.inputs.image_transform",
    "losses.distillation.ROWS_AT_ONCE": "losses.soft_targets.ROWS_AT_ONCE",
    "methods.calling.depicted": "methods.contract.calling.visualized",
    "methods.calling.measured_by": "methods.contract.calling.data_statistics_of",
    "methods.colorization.shrunken_colours": "methods.colorization.method.shrunken_colors",
    "methods.data2vec.MASKS": "methods.data2vec.method.MASKS",
    "methods.data2vec.complete_backbone": "methods.data2vec.method.complete_backbone",
    "methods.data2vec.initialize_encoder": "methods.data2vec.method.initialize_encoder",
    "methods.deepcluster_v2.UNASSIGNED": "methods.deepcluster_v2.method.UNASSIGNED",
    "methods.dinov2.ENCODERS": "methods.dinov2.method.ENCODERS",
    "methods.dinov2.MASKS": "methods.dinov2.method.MASKS",
    "methods.entry_points.GROUP": "entry_points.METHODS",
    "methods.entry_points.MethodEntry": "entry_points.PluginEntry",
    "methods.hooks.misspelt": "methods.contract.hooks.misspelled",
    "methods.ijepa.MASKS": "methods.ijepa.method.MASKS",
    "methods.ijepa.Predictor": "methods.ijepa.method.Predictor",
    "methods.registry.MethodEntry": "entry_points.PluginEntry",
    "methods.relative_patch.DRAWS": "methods.relative_patch.method.DRAWS",
    "methods.relative_patch.NEIGHBOURS": "methods.relative_patch.method.NEIGHBORS",
    "methods.swav.MULTI_CROP_COLOUR": "methods.swav.MULTI_CROP_COLOR",
    "nn.ColourViewsConfig": "encoders.ColorViewsConfig",
    "nn.ColourViewsModel": "encoders.ColorViewsModel",
    "nn.FuturePredictor": "methods.cpc.context.FuturePredictor",
    "nn.GRUContext": "methods.cpc.context.GRUContext",
    "nn.MaskedConvContext": "methods.cpc.context.MaskedConvContext",
    "nn.SignalEncoderConfig": "encoders.SignalEncoderConfig",
    "nn.SignalEncoderModel": "encoders.SignalEncoderModel",
    "nn.StandardisedLinear": "nn.StandardizedLinear",
    "nn.backbone.ADAPTATION_KEYS": "encoders.config.ADAPTATION",
    "nn.batch_norm.synchronise_batch_norm": "nn.batch_norm.synchronize_batch_norm",
    "nn.build_encoder": "encoders.build_encoder",
    "nn.clip_initialisation.initialise_clip_text": "encoders.clip_initialization.initialize_clip_text",
    "nn.clip_initialisation.initialise_clip_vision": "encoders.clip_initialization.initialize_clip_vision",
    "nn.clip_initialisation.initialise_towers": "encoders.clip_initialization.initialize_towers",
    "nn.colour_bins.colour_bins": "methods.colorization.color_bins.color_bins",
    "nn.colour_views.ColourViewsConfig": "encoders.color_views.ColorViewsConfig",
    "nn.colour_views.ColourViewsModel": "encoders.color_views.ColorViewsModel",
    "nn.colour_views.as_colour_views": "encoders.color_views.as_color_views",
    "nn.colour_views.convert_colours": "encoders.color_views.convert_colors",
    "nn.crop_masks": "methods.dinov2.masks.crop_masks",
    "nn.embedding_initialization.initialize_mae_embeddings": "encoders.vit_mae.initialize_mae_embeddings",
    "nn.encode": "encoders.encode",
    "nn.encoder.build_encoder": "encoders.build.build_encoder",
    "nn.feature_colours.PrincipalColours": "nn.feature_colors.PrincipalColors",
    "nn.feature_colours.colour_picture": "nn.feature_colors.color_image",
    "nn.feature_size": "encoders.feature_size",
    "nn.masking.crop_masks": "methods.dinov2.masks.crop_masks",
    "nn.multiblock.places_of": "nn.masks.places.places_of",
    "nn.patch_grid.cut_patches": "nn.patches.cut.cut_patches",
    "nn.patch_shortcuts.drop_colours": "methods.relative_patch.shortcuts.drop_colors",
    "nn.patch_shortcuts.project_colours": "methods.relative_patch.shortcuts.project_colors",
    "nn.patch_shortcuts.standardise_channels": "methods.jigsaw.method.standardize_channels",
    "nn.patch_shortcuts.standardise_patches": "methods.relative_patch.shortcuts.standardize_patches",
    "nn.patch_tokens.normalise_patches": "nn.patches.cut.normalize_patches",
    "nn.patch_tokens.patchify": "nn.patches.cut.patchify",
    "nn.patch_tokens.unpatchify": "nn.patches.cut.unpatchify",
    "nn.pixel_sequence.colour_tokens": "encoders.pixel_sequence.color_tokens",
    "nn.puzzle.LARGEST_SET": "methods.jigsaw.permutations.LARGEST_SET",
    "nn.puzzle.cut_patches": "methods.pirl.cut_puzzle",
    "nn.puzzle.permutation_set": "methods.jigsaw.permutations.permutation_set",
    "nn.shared.vit_of_mae": "encoders.vit_mae.vit_of_mae",
    "nn.spherical_kmeans": "methods.deepcluster_v2.kmeans.spherical_kmeans",
    "nn.standardised.StandardisedLinear": "nn.standardized.StandardizedLinear",
    "nn.synchronise_batch_norm": "nn.synchronize_batch_norm",
    "nn.tower_configs.PAIR": "encoders.config.PAIR",
    "recipe.finetuning.FineTuneSection": "evaluation.finetune.FineTuning",
    "recipe.sections.ZeroShotTask": "evaluation.zero_shot_task.ZeroShotTask",
    "run.publish": "run_training.publish",
    "run.report": "run_training.report",
    "run.weights_of": "publishing.export.weights_of",
    "run_evaluation.check_enough": "evaluation.held_out.check_enough",
    "run_evaluation.check_same_classes": "evaluation.held_out.check_same_classes",
    "run_evaluation.fit_together": "evaluation.held_out.fit_together",
    "training.baseline.judge": "training.baseline.evaluate_method",
    "training.baseline.judge_untrained": "training.baseline.evaluate_untrained",
    "training.baseline.judged_at_start": "training.baseline.scores_at_start",
    "training.baseline.judged_before": "training.baseline.scores_before",
    "training.measured.sample_pictures": "training.data_statistics.sample_images",
    "training.method.colour_statistics": "training.build_method.color_statistics",
    "training.setup.RESULTS": "training.output_folder.RESULTS",
    "training.setup.faster_channels_last": "training.prepare.faster_channels_last",
    "training.setup.recompute_activations": "training.prepare.recompute_activations",
    "visualization.sheet.picture_sheet": "report.sheet.image_sheet",
}
# Constants that were removed, and their values.
CONSTANTS: dict[str, Any] = {
    "commands.evaluate.TASKS": ("knn", "linear", "zero-shot", "retrieval", "finetune"),
    "comparison.table.SCORES": (
        "knn_accuracy",
        "linear_accuracy",
        "finetune_accuracy",
        "feature_std",
        "effective_rank",
    ),
    "nn.patch_tokens.VIT_LIKE": ("vit", "vit_mae", "ijepa"),
}


_SAID = "HFCONTRAST_SAID"  # variable of the environment: warnings that the process which started this one has printed
_said: dict[str, None] = {}  # those that this process has printed


class OldNameWarning(FutureWarning):
    """An old name was used, which works until it is removed."""


@contextmanager
def warnings_as_lines() -> Iterator[None]:
    """Prints warnings of old names on stderr as a command prints its other ones: a line each, of the first process only."""
    usual = warnings.showwarning

    def show(message: Any, category: type[Warning], *place: Any, **options: Any) -> None:
        if not issubclass(category, OldNameWarning):
            usual(message, category, *place, **options)
        elif is_first_process() and str(message) not in os.environ.get(_SAID, "").split("\n"):
            _said[str(message)] = None
            print(f"warning: {message}", file=sys.stderr, flush=True)

    warnings.showwarning = show
    try:
        yield
    finally:
        warnings.showwarning = usual


def said_to_children() -> dict[str, str]:
    """The environment in which a process repeats no warning of old names that this one has printed."""
    return {_SAID: "\n".join(_said)} if _said else {}


@contextmanager
def without_warnings() -> Iterator[None]:
    """No warnings of old names: for files that an earlier version has written, which need no change."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", OldNameWarning)
        yield


def warn(old: str, new: str, stacklevel: int = 3) -> None:
    """Warns that a name has changed, in one sentence."""
    warnings.warn(
        f"{old} is called {new} now; the old name works until hfcontrast {UNTIL}", OldNameWarning, stacklevel=stacklevel
    )
