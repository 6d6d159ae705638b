"""Private APIs of libraries that hfcontrast uses: which, what for, and the version that they were tested with.

A new version of a library may change any of it. ``tests/test_private_apis.py`` looks at each, says in a sentence what has
changed, and refuses private names in the package that are not listed here.
"""

from dataclasses import dataclass

# The versions that the uses below were tested with.
TESTED = {
    "accelerate": "1.15.0",
    "datasets": "5.2.0",
    "timm": "1.0.31",
    "torch": "2.14.1",
    "transformers": "5.23.0",
}


@dataclass(frozen=True)
class PrivateApi:
    """A private name of a library that is relied on.

    Args:
        library: The distribution.
        names: The private names, as they stand in the source.
        purpose: What they are used for.
    """

    library: str
    names: tuple[str, ...]
    purpose: str


PRIVATE_APIS = (
    PrivateApi(
        "transformers",
        ("_extra_content",),
        "the registered entries of the Auto classes' tables, made lazy so that no method is imported before it is asked for",
    ),
    PrivateApi(
        "transformers",
        ("_init_weights", "_initialize_weights", "_is_hf_initialized"),
        "initial weights: a module's own reset_parameters decides, and what a checkpoint has given stays",
    ),
    PrivateApi(
        "transformers",
        ("_tied_weights_keys",),
        "whether a method ties weights, which transformers does only where tie_word_embeddings is set",
    ),
    PrivateApi(
        "transformers",
        ("_supports_sdpa", "_supports_flash_attn", "_attn_implementation"),
        "attention: models around an encoder allow what it allows; copies of it, and layers used alone, take what it takes",
    ),
    PrivateApi(
        "transformers",
        ("_set_gradient_checkpointing", "_hf_peft_config_loaded"),
        "gradient checkpointing: that of a model around an encoder is the encoder's; inputs of adapters get gradients then, as in transformers",
    ),
    PrivateApi(
        "transformers",
        ("_auto_class",),
        "whether an encoder is published with its code, so that its card names trust_remote_code",
    ),
    PrivateApi(
        "transformers",
        ("_commit_hash",),
        "the commit of a model on the Hub, noted with its scores and embeddings",
    ),
    PrivateApi(
        "transformers",
        ("_tokenizer",),
        "the tokenizer of the tokenizers library within CLIPTokenizer, which is trained on captions",
    ),
    PrivateApi(
        "timm",
        ("_manipulate",),
        "group_with_matcher: the layers of a timm model as its layer-wise learning rate decay groups them",
    ),
    PrivateApi(
        "torch",
        ("_BatchNorm", "_InstanceNorm", "_DropoutNd"),
        "the base classes of normalization and dropout layers: found by them whatever their number of dimensions",
    ),
    PrivateApi(
        "torch",
        ("_foreach_add", "_foreach_add_", "_foreach_copy_", "_foreach_div_", "_foreach_lerp_", "_foreach_mul")
        + ("_foreach_mul_", "_foreach_norm", "_foreach_sub_"),
        "one kernel over many tensors: moving averages, LARS, clipping and summed gradients",
    ),
    PrivateApi(
        "torch",
        ("_parameters", "_buffers", "_modules", "_forward_hooks", "_forward_pre_hooks")
        + ("_non_persistent_buffers_set",),
        "what a module holds itself, by name: exchanged in place, compared, and shared between modules",
    ),
    PrivateApi(
        "torch",
        ("_C", "_current_graph_task_id"),
        "whether a forward pass runs within a backward pass, as activation checkpointing has it",
    ),
    PrivateApi(
        "torch",
        ("_subclasses",),
        "FakeTensorMode: a step on a device that is not there, to find tensors made on another",
    ),
    PrivateApi(
        "torch",
        ("_upsample_bicubic2d_aa", "_upsample_bilinear2d_aa"),
        "the operators behind F.interpolate(antialias=True), without its checks",
    ),
    PrivateApi(
        "accelerate",
        ("_shared_state",),
        "the state that all accelerators of a process share: each run begins with its own and restores the former",
    ),
    PrivateApi(
        "datasets",
        ("_PACKAGED_DATASETS_MODULES",),
        "the names of file formats (parquet, webdataset, ...), which data.path may name",
    ),
    PrivateApi(
        "datasets",
        ("_resolve_features",),
        "the columns of a stream that are known only after a look at its first rows",
    ),
    PrivateApi(
        "datasets",
        ("_split_generators", "_get_pipeline_from_tar"),
        "the webdataset builder, overridden: splits are listed without a download, and a damaged archive ends with a row that says so",
    ),
    PrivateApi(
        "datasets",
        ("_cache_dir", "_output_dir"),
        "the folder of a builder's cache: what the overridden webdataset builder reads is cached apart",
    ),
    PrivateApi(
        "datasets",
        ("_iter_tar",),
        "the files of a tar as they are read, overridden so that an archive that is cut off is noticed",
    ),
)
