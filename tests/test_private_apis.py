"""Private names of libraries: each that is used is listed in hfcontrast/private_apis.py and has not changed."""

import ast
import inspect
import io
import re
import tarfile
from importlib.metadata import version
from pathlib import Path

import pytest
import torch

import hfcontrast
from hfcontrast.private_apis import PRIVATE_APIS, TESTED

PACKAGE = Path(hfcontrast.__file__).parent
SOURCES = {
    path.relative_to(PACKAGE).as_posix(): path.read_text(encoding="utf-8")
    for path in PACKAGE.rglob("*.py")
    if path.name != "private_apis.py"
}
TREES = {path: ast.parse(source) for path, source in SOURCES.items()}
LISTED = {name for api in PRIVATE_APIS for name in api.names}
OTHERS = {
    "_replace",
    "_initializing",
    "_exit",
}  # of Python itself: of named tuples, of a module's specification, and os._exit


def check_extra_content():
    from transformers import CONFIG_MAPPING, MODEL_MAPPING
    from transformers.models.auto.auto_factory import _LazyAutoMapping

    for table in (type(CONFIG_MAPPING), _LazyAutoMapping):
        for method in ("__contains__", "__getitem__"):
            assert "in self._extra_content" in inspect.getsource(getattr(table, method)), f"{table.__name__}.{method}"
    assert isinstance(CONFIG_MAPPING._extra_content, dict) and isinstance(MODEL_MAPPING._extra_content, dict)


def check_init_weights():
    from transformers import PreTrainedModel

    assert {"module"} <= inspect.signature(PreTrainedModel._initialize_weights).parameters.keys()
    assert "self._init_weights(module)" in inspect.getsource(PreTrainedModel._initialize_weights)
    assert "_is_hf_initialized" in inspect.getsource(PreTrainedModel._initialize_weights)


def check_tied_weights_keys():
    from transformers import PreTrainedModel

    assert PreTrainedModel._tied_weights_keys is None


def check_supports_sdpa():
    from transformers import PreTrainedModel, ViTConfig, ViTModel

    assert PreTrainedModel._supports_sdpa is False and PreTrainedModel._supports_flash_attn is False
    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 8}
    assert ViTModel(ViTConfig(**sizes, image_size=16)).config._attn_implementation == "sdpa"


def check_set_gradient_checkpointing():
    from transformers import PreTrainedModel

    assert {"enable"} <= inspect.signature(PreTrainedModel._set_gradient_checkpointing).parameters.keys()
    assert "_hf_peft_config_loaded" in inspect.getsource(inspect.getmodule(PreTrainedModel))


def check_auto_class():
    from transformers import PreTrainedModel

    assert PreTrainedModel._auto_class is None


def check_commit_hash():
    from transformers import PreTrainedConfig

    assert "_commit_hash" in inspect.getsource(PreTrainedConfig)


def check_tokenizer():
    from tokenizers import Tokenizer
    from transformers import CLIPTokenizer

    assert isinstance(CLIPTokenizer()._tokenizer, Tokenizer)


def check_manipulate():
    from timm.models._manipulate import group_with_matcher

    assert {"named_objects", "group_matcher", "reverse"} <= inspect.signature(group_with_matcher).parameters.keys()


def check_BatchNorm():
    modules = torch.nn.modules
    assert issubclass(torch.nn.BatchNorm2d, modules.batchnorm._BatchNorm)
    assert issubclass(torch.nn.SyncBatchNorm, modules.batchnorm._BatchNorm)
    assert issubclass(torch.nn.InstanceNorm2d, modules.instancenorm._InstanceNorm)
    assert issubclass(torch.nn.Dropout, modules.dropout._DropoutNd)


def check_foreach_add():
    ones, twos = [torch.ones(2)], [torch.full((2,), 2.0)]
    assert torch._foreach_add(ones, twos, alpha=0.5)[0].tolist() == [2.0, 2.0]
    assert torch._foreach_mul(ones, [torch.tensor(3.0)])[0].tolist() == [3.0, 3.0]
    assert torch._foreach_norm(twos)[0].item() ** 2 == pytest.approx(8)
    for name, argument, expected in (
        ("_foreach_copy_", ones, 1.0),
        ("_foreach_add_", ones, 3.0),
        ("_foreach_sub_", ones, 1.0),
        ("_foreach_mul_", 4.0, 8.0),
        ("_foreach_div_", 4, 0.5),
    ):
        changed = [torch.full((2,), 2.0)]
        getattr(torch, name)(changed, argument)
        assert changed[0].tolist() == [expected, expected], name
    torch._foreach_lerp_(twos, ones, 0.25)
    assert twos[0].tolist() == [1.75, 1.75]


def check_parameters():
    module = torch.nn.Sequential(torch.nn.BatchNorm1d(2))
    module.register_buffer("fleeting", torch.ones(1), persistent=False)
    assert set(module[0]._parameters) == {"weight", "bias"} and "running_mean" in module[0]._buffers
    assert list(module._modules) == ["0"] and module._non_persistent_buffers_set == {"fleeting"}
    module.register_forward_pre_hook(lambda *_: None)
    assert len(module._forward_pre_hooks) == 1
    assert len(module._forward_hooks) == 0
    module.register_forward_hook(lambda *_: None)
    assert len(module._forward_hooks) == 1


def check_C():
    seen = [torch._C._current_graph_task_id()]
    x = torch.ones(1, requires_grad=True)
    x.register_hook(lambda _: seen.append(torch._C._current_graph_task_id()))
    x.sum().backward()
    assert seen[0] == -1 != seen[1]


def check_subclasses():
    from torch._subclasses.fake_tensor import FakeTensorMode

    with FakeTensorMode():
        assert torch.ones(2, device="cuda").device.type == "cuda"


def check_upsample_bicubic2d_aa():
    image = torch.rand(1, 1, 8, 8)
    for mode in ("bilinear", "bicubic"):
        operator = getattr(torch.ops.aten, f"_upsample_{mode}2d_aa").default
        expected = torch.nn.functional.interpolate(image, size=(4, 4), mode=mode, antialias=True)
        torch.testing.assert_close(operator(image, [4, 4], False), expected)


def check_shared_state():
    from hfcontrast.training.engines import _STATES

    assert all("self.__dict__ = self._shared_state" in inspect.getsource(state) for state in _STATES)


def check_PACKAGED_DATASETS_MODULES():
    from datasets.packaged_modules import _PACKAGED_DATASETS_MODULES

    assert {"parquet", "webdataset", "imagefolder"} <= set(_PACKAGED_DATASETS_MODULES)


def check_resolve_features():
    from datasets import IterableDataset

    rows = IterableDataset.from_generator(lambda: iter([{"a": 1}]))
    assert rows.features is None and list(rows._resolve_features().features) == ["a"]


def check_split_generators():
    from datasets.packaged_modules.webdataset.webdataset import WebDataset

    assert list(inspect.signature(WebDataset._split_generators).parameters) == ["self", "dl_manager"]
    parameters = inspect.signature(WebDataset._get_pipeline_from_tar).parameters
    assert [name for name in parameters if name not in ("self", "cls")] == ["tar_path", "tar_iterator"]
    for caller in (WebDataset._split_generators, WebDataset._generate_examples):
        assert "self._get_pipeline_from_tar(" in inspect.getsource(caller), caller.__name__


def check_cache_dir(tmp_path_factory):
    from datasets import load_dataset_builder

    folder = tmp_path_factory.mktemp("csv")
    (folder / "rows.csv").write_text("a\n1\n")
    builder = load_dataset_builder("csv", data_files=str(folder / "rows.csv"), cache_dir=str(folder / "cache"))
    assert builder.cache_dir == builder._cache_dir == builder._output_dir and "cache" in builder._cache_dir


def check_iter_tar():
    from datasets.utils.file_utils import ArchiveIterable

    assert isinstance(inspect.getattr_static(ArchiveIterable, "_iter_tar"), staticmethod)
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        tar.addfile(tarfile.TarInfo("0.cls"))

    class Ours(ArchiveIterable):
        @staticmethod
        def _iter_tar(f):
            yield "ours", f

    archive.seek(0)
    assert [name for name, _ in ArchiveIterable._iter_tar(archive)] == ["0.cls"]
    archive.seek(0)
    assert [name for name, _ in Ours.from_buf(archive)] == ["ours"], "an overridden _iter_tar is not called"


@pytest.mark.parametrize("api", PRIVATE_APIS, ids=lambda api: f"{api.library}-{api.names[0]}")
def test_a_private_name_is_still_what_it_was(api, tmp_path_factory):
    check = globals()[f"check_{api.names[0].strip('_')}"]
    try:
        check(tmp_path_factory) if inspect.signature(check).parameters else check()
    except Exception as error:
        pytest.fail(
            f"{api.library} {version(api.library)} has changed {', '.join(api.names)} (tested: {TESTED[api.library]}), "
            f"which hfcontrast uses for this: {api.purpose}. Mend {', '.join(users(api.names))}: {type(error).__name__}: {error}"
        )


def test_the_versions_are_those_of_the_lock():
    lock = (PACKAGE.parent / "requirements.lock").read_text()
    pinned = dict(line.split("==") for line in lock.splitlines() if "==" in line)
    assert {name: pinned[name] for name in TESTED} == TESTED, "run the suite, then say here that it was tested"


def users(names: tuple[str, ...]) -> list[str]:
    """The modules that use one of these names."""
    return [path for path, source in SOURCES.items() if any(re.search(rf"\b{name}\b", source) for name in names)]


def private_names(tree: ast.Module) -> set[str]:
    """Names with an underscore that a module reads of others, or imports, or gives as a text."""
    names = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and not node.level and not (node.module or "").startswith("hfcontrast"):
            names |= {*(node.module or "").split("."), *(alias.name for alias in node.names)}
    return {name for name in names if name.startswith("_") and not name.startswith("__")}


def own_names(tree: ast.Module) -> set[str]:
    """Names that a module binds itself."""
    names = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store) and ast.unparse(node.value) == "self":
            names.add(node.attr)
    return names


def test_every_private_name_is_listed_and_every_listed_one_is_used():
    own = set().union(*map(own_names, TREES.values()))
    found = {name: path for path, tree in TREES.items() for name in private_names(tree) - own}
    assert {name: path for name, path in found.items() if name not in LISTED | OTHERS} == {}
    assert [name for name in sorted(LISTED) if not users((name,))] == [], "these are no longer used: take them out"
