"""The common tests of transformers' models (``ModelTesterMixin``), for every installed method.

The class is no part of the installed package, so what it asks for stands here and in ``test_transformers_mixin_loading.py`` in words
of our own; what other tests ask of every method is not repeated. Its tests, without ``test_`` in front:

=============================================== ==========================================================================
transformers                                    here
=============================================== ==========================================================================
save_load, load_contiguous_weights,             loading: a saved method is loaded as it was, and no tensor has two names
can_use_safetensors, tied_weights_keys,
load_save_without_tied_weights,
save_load_keys_to_ignore_on_save
can_init_all_missing_weights, initialization,   loading: what a checkpoint lacks is initialized; ``test_initialization.py`` has
correct_missing_keys, model_weights_reload_...  the distributions of the papers' authors
from_pretrained_no_checkpoint,                  loading: a method built without memory, copies, the meta device
torch_save_load, can_be_initialized_on_meta,
init_weights_can_init_buffers,
all_tensors_are_parameter_or_buffer,
cannot_load_with_meta_device_context_manager
load_with_mismatched_shapes,                    loading: a tensor of another shape
can_load_ignoring_mismatched_shapes
internal_model_config_and_subconfig_are_same,   loading: a configuration survives every way of keeping it
config_attn_implementation_setter, ConfigTester
keep_in_fp32_modules(_exist), bc_torch_dtype    blocks are named; ``test_loading.py`` loads and trains in bfloat16 and float16
determinism, model_is_small,                    evaluation is deterministic and changes nothing
num_layers_is_small
model_outputs_equivalence,                      outputs as tuples; ``contract/test_forward.py`` has the signature
model_main_input_name
training, retain_grad_hidden_states_attentions  a training step gives gradients, through what ``embed`` returns
training_gradient_checkpointing(...),           gradient checkpointing gives the same gradients;
gradient_checkpointing_enable_disable,          ``test_checkpointing.py`` has what is switched, and adapters
(peft_)gradient_checkpointing_...,
enable_input_require_grads(...)
eager_matches_sdpa_inference,                   attention implementations agree
sdpa_can_dispatch_(non_)composite_models,
can_set_attention_dynamically(...),
attn_implementation_composite_models
disk_offload_bin, disk_offload_safetensors,     blocks are named, which ``device_map`` needs; ``test_loading.py`` loads to the CPU
cpu_offload, model_parallelism                  and to a disk; several accelerators are not there
model_get_set_embeddings                        ``test_checkpointing.py``: the encoder's
batching_equivalence                            a loss compares the images of a batch; ``check_samples_apart`` has it for ``embed``
attention_outputs, hidden_states_output,        a method returns a loss: its encoder has them, as transformers' own class
get_(text|image|audio|video)_features_...
resize_tokens_embeddings, inputs_embeds,        of language models; an encoder's text tower is transformers' own class
resize_embeddings_untied, tie_model_weights,
resize_position_vector_embeddings,
forward_with_logits_to_keep, generation_...,
sliding_window_mask, custom_4d_attention_mask
problem_types                                   a method is no classifier
feed_forward_chunking, tp_plan_matches_params,  settings of architectures, which are transformers' own
reverse_loading_mapping,
can_load_from_already_mapped_keys,
model_forward_default_config_values
flash_attn_..., flex_attention_with_grads,      need an accelerator
sdpa_can_compile_dynamic, multi_gpu_...,
torch_compile_for_training,
can_load_with_device_context_manager,
can_load_with_global_device_set
torch_export                                    of the encoder, which is what is published
=============================================== ==========================================================================
"""

import copy

import pytest
import torch
from every_method import NAMES, batch_of
from trained_methods import assert_same_results, results, tensors, trained
from transformers import PreTrainedModel
from transformers.utils import ModelOutput, can_return_loss

from hfcontrast.methods.base import Progress
from hfcontrast.methods.contract import steps
from hfcontrast.methods.contract.checkpointing import ENABLE

every = pytest.mark.parametrize("name", NAMES)


@every
def test_evaluation_is_deterministic_and_changes_nothing(name):
    method, batch = trained(name), batch_of(name)
    assert method.num_parameters() < 1_000_000  # so that these tests stay fast
    before = {key: value.clone() for key, value in tensors(method).items()}
    entries = copy.deepcopy(batch)
    first, second = results(method, batch), results(method, batch)
    assert first.keys() == second.keys() and all(torch.equal(first[key], second[key]) for key in first)
    assert all(torch.equal(value, before[key]) for key, value in tensors(method).items())
    assert all(torch.equal(batch[key], entries[key]) for key in batch)
    assert not any(module.training for module in method.modules())


@every
def test_outputs_are_the_same_as_tuples(name):
    """The loss first, by name and by position; transformers' ``Trainer`` sees that a loss can be returned."""
    method, batch = trained(name), batch_of(name)
    with torch.no_grad():
        expected, found = method(**batch), method(**batch, return_dict=False)
    assert isinstance(expected, ModelOutput) and isinstance(found, tuple)
    torch.testing.assert_close(found, expected.to_tuple())
    assert found[0] is not None and torch.equal(found[0], expected.loss)
    assert can_return_loss(type(method))


@every
def test_a_training_step_gives_gradients(name):
    """For every trained parameter, through every embedding; none for teachers and what is frozen."""
    method, batch = trained(name).train(), batch_of(name)
    steps.start_step(method, Progress(0, 10, 5))
    embeddings = steps.embed(method, batch)
    learned = {key: value for key, value in embeddings.items() if value.requires_grad}
    for value in learned.values():
        value.retain_grad()
    output = steps.objective(method, embeddings, batch)
    output.loss.backward()
    assert any(value.grad is not None and bool(value.grad.any()) for value in learned.values())
    for key, value in method.named_parameters():
        assert (value.grad is not None) == value.requires_grad, key
        assert value.grad is None or bool(value.grad.isfinite().all()), key
    assert any(bool(value.grad.any()) for value in method.encoder.parameters() if value.grad is not None)


def gradients(method, batch):
    torch.manual_seed(0)
    steps.start_step(method, Progress(0, 10, 5))
    method.zero_grad()
    loss = method(**batch).loss
    loss.backward()
    return loss.detach(), {key: value.grad for key, value in method.named_parameters() if value.grad is not None}


def attention_of(method):
    """The implementations of the attention of all models in it."""
    return {part.config._attn_implementation for part in method.modules() if isinstance(part, PreTrainedModel)}


@every
def test_attention_implementations_agree(name, saved):
    """``eager`` and ``sdpa``: asked for in loading or set later, in the encoder, its towers and teachers."""
    expected = trained(name)
    parts = [part for part in expected.modules() if isinstance(part, PreTrainedModel)]
    if not all(part._supports_sdpa for part in parts):
        pytest.skip("its encoder has no attention")
    assert attention_of(expected) == {"sdpa"}
    method = type(expected).from_pretrained(saved(name), attn_implementation="eager")
    assert attention_of(method) == {"eager"}
    assert_same_results(method, expected, name, rtol=1e-3, atol=1e-4)
    if not all(part._can_set_attn_implementation() for part in parts):
        return
    method.set_attn_implementation("sdpa")
    assert attention_of(method) == {"sdpa"}
    assert_same_results(method, expected, name, rtol=1e-3, atol=1e-4)
    with pytest.raises(ValueError, match="foo"):
        method.set_attn_implementation("foo")
    assert attention_of(method) == {"sdpa"}


@every
def test_gradient_checkpointing_gives_the_same_gradients(name):
    """Switched on, off and on again; with inputs that require gradients, as adapters need them."""
    method, batch = trained(name).train(), batch_of(name)
    assert not method.is_gradient_checkpointing
    if not method.supports_gradient_checkpointing:
        pytest.skip("its encoder keeps its activations")
    loss, expected = gradients(method, batch)
    getattr(method, ENABLE)()
    assert method.is_gradient_checkpointing
    getattr(method, ENABLE.replace("enable", "disable"))()
    assert not method.is_gradient_checkpointing
    getattr(method, ENABLE)()
    again, found = gradients(method, batch)
    assert found.keys() == expected.keys()
    torch.testing.assert_close((again, found), (loss, expected), rtol=1e-4, atol=1e-6)


@every
def test_blocks_that_stay_on_one_device_are_named(name):
    """``_no_split_modules``, and what is kept in float32, name classes and modules that there are."""
    method = trained(name)
    kinds = {type(module).__name__ for module in method.modules()}
    wanted = {
        kind
        for part in method.modules()
        if isinstance(part, PreTrainedModel) and part is not method
        for kind in part._no_split_modules or ()
    }
    assert wanted & kinds <= set(method._no_split_modules or ())
    for pattern in {*(method._keep_in_fp32_modules or ()), *(method._keep_in_fp32_modules_strict or ())}:
        assert any(pattern in key for key in method.state_dict()), pattern
    assert not method._keys_to_ignore_on_save  # everything is saved
    assert not method.can_generate()
