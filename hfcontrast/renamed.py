"""Old names: modules and public names that have moved keep working until version 0.3, each with one warning that says the new name.

Nothing here is imported before somebody asks for an old name.
"""

import sys
import warnings
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

UNTIL = "0.3"

# Old module -> new module, within hfcontrast; a module that was split is its package, which has all of its public names.
MODULES = {
    "methods.arguments": "methods.contract.arguments",
    "methods.calling": "methods.contract.calling",
    "methods.config": "methods.contract.config",
    "methods.construction": "methods.contract.construction",
    "methods.declaration": "methods.contract.declaration",
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
    "methods.entry_points": "entry_points",
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
# Old public name -> new public name, within hfcontrast.
NAMES = {
    "run.publish": "run_training.publish",
    "run.report": "run_training.report",
    "run.weights_of": "run_training.weights_of",
    "report.sheet.picture_sheet": "report.sheet.image_sheet",
    "training.baseline.judge": "training.baseline.evaluate_method",
    "training.data_statistics.sample_pictures": "training.data_statistics.sample_images",
    "data.Photometry": "data.ColorAugmentation",
    "data.augment.color.Photometry": "data.augment.color.ColorAugmentation",
    "commands.embed.embed": "commands.embed_data.embed",
    "commands.evaluate.judge": "commands.evaluate_model.evaluate_model",
    "evaluation.inputs.picture_transform": "evaluation.inputs.image_transform",
    "methods.cpc.patches.cut_patches": "nn.patches.cut.cut_patches",
    "methods.ijepa.masks.places_of": "nn.masks.places.places_of",
    "methods.registry.MethodEntry": "entry_points.PluginEntry",
    "methods.relative_patch.shortcuts.standardize_channels": "methods.jigsaw.method.standardize_channels",
    "encoders.features.build_encoder": "encoders.build.build_encoder",
    "encoders.embedding_initialization.initialize_mae_embeddings": "encoders.vit_mae.initialize_mae_embeddings",
    "encoders.patch_tokens.normalize_patches": "nn.patches.cut.normalize_patches",
    "encoders.patch_tokens.patchify": "nn.patches.cut.patchify",
    "encoders.patch_tokens.unpatchify": "nn.patches.cut.unpatchify",
    "encoders.weight_sharing.vit_of_mae": "encoders.vit_mae.vit_of_mae",
    "nn.ColourViewsConfig": "encoders.ColorViewsConfig",
    "nn.ColourViewsModel": "encoders.ColorViewsModel",
    "nn.FuturePredictor": "methods.cpc.context.FuturePredictor",
    "nn.GRUContext": "methods.cpc.context.GRUContext",
    "nn.MaskedConvContext": "methods.cpc.context.MaskedConvContext",
    "nn.SignalEncoderConfig": "encoders.SignalEncoderConfig",
    "nn.SignalEncoderModel": "encoders.SignalEncoderModel",
    "nn.StandardisedLinear": "nn.StandardizedLinear",
    "nn.build_encoder": "encoders.build_encoder",
    "nn.crop_masks": "methods.dinov2.masks.crop_masks",
    "nn.encode": "encoders.encode",
    "nn.feature_colors.color_picture": "nn.feature_colors.color_image",
    "nn.feature_size": "encoders.feature_size",
    "nn.masks.blocks.crop_masks": "methods.dinov2.masks.crop_masks",
    "nn.patches.squares.cut_patches": "methods.pirl.cut_puzzle",
    "nn.patches.squares.permutation_set": "methods.jigsaw.permutations.permutation_set",
    "nn.spherical_kmeans": "methods.deepcluster_v2.kmeans.spherical_kmeans",
    "nn.synchronise_batch_norm": "nn.synchronize_batch_norm",
}


def warn(old: str, new: str, stacklevel: int = 3) -> None:
    """Warns that a name has changed, in one sentence."""
    warnings.warn(
        f"{old} is called {new} now; the old name works until hfcontrast {UNTIL}", FutureWarning, stacklevel=stacklevel
    )


def renamed(package: str, name: str) -> Any:
    """What an old public name of a package means now; for the package's ``__getattr__``.

    Args:
        package: The package's ``__name__``.
        name: The name that it does not have.

    Raises:
        AttributeError: It never had it.
    """
    root, _, room = package.partition(".")
    new = NAMES.get(f"{room}.{name}")
    if new is None:
        raise AttributeError(f"module {package!r} has no attribute {name!r}")
    warn(f"{package}.{name}", f"{root}.{new}", stacklevel=4)
    home, _, new_name = new.rpartition(".")
    return getattr(import_module(f"{root}.{home}"), new_name)


class _OldModules(MetaPathFinder, Loader):
    """Finds modules by their old names: the very module of the new name, so that its classes exist once."""

    def find_spec(self, fullname: str, path: Any = None, target: ModuleType | None = None) -> ModuleSpec | None:
        root, _, old = fullname.partition(".")
        if root != __package__ or old not in MODULES:
            return None
        return ModuleSpec(fullname, self)

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        root, _, old = spec.name.partition(".")
        new = f"{root}.{MODULES[old]}"
        warn(spec.name, new)
        module = import_module(new)
        spec.loader_state = module.__spec__
        return module

    def exec_module(self, module: ModuleType) -> None:
        module.__spec__ = module.__spec__.loader_state  # the module keeps the specification of its new name


def find_old_modules() -> None:
    """Makes old module names importable. Asked first: what a moved package finds by itself would be a second copy of its modules."""
    if not any(isinstance(finder, _OldModules) for finder in sys.meta_path):
        sys.meta_path.insert(0, _OldModules())
