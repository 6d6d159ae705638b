"""Where features are in the outputs of an encoder: every kind of output, and the expression that reads it."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from hfcontrast.encoders.pooling import count_class_tokens, find_pooling

VECTORS, TOKENS, MAP = torch.randn(2, 6), torch.randn(2, 5, 6), torch.randn(2, 6, 3, 4)


def outputs(**named):
    return SimpleNamespace(**named)


def mean_of(tokens):
    return torch.stack([sum(token) / len(token) for token in tokens])


PLACES = torch.stack([torch.stack([channel.mean() for channel in image]) for image in MAP])
CASES = {
    "pooled": (
        outputs(pooler_output=VECTORS, last_hidden_state=TOKENS),
        1,
        {},
        "outputs.pooler_output.flatten(1)",
        VECTORS,
    ),
    "pooled at one place": (
        outputs(pooler_output=VECTORS[..., None, None], last_hidden_state=MAP),
        0,
        {},
        "outputs.pooler_output.flatten(1)",
        VECTORS,
    ),
    "pooled to a map": (outputs(pooler_output=MAP), 0, {}, "outputs.pooler_output.mean((2, 3))", PLACES),
    "class token": (outputs(last_hidden_state=TOKENS), 1, {}, "outputs.last_hidden_state[:, 0]", TOKENS[:, 0]),
    "tokens": (outputs(last_hidden_state=TOKENS), 0, {}, "outputs.last_hidden_state.mean(1)", mean_of(TOKENS)),
    "mean of the patches": (
        outputs(last_hidden_state=TOKENS, pooler_output=VECTORS),
        1,
        {"mean": True, "registers": 2},
        "outputs.last_hidden_state[:, 3:].mean(1)",
        mean_of(TOKENS[:, 3:]),
    ),
    "map": (
        outputs(last_hidden_state=MAP, pooler_output=None),
        1,
        {},
        "outputs.last_hidden_state.mean((2, 3))",
        PLACES,
    ),
    "map, channels last": (
        outputs(last_hidden_state=MAP.permute(0, 2, 3, 1)),
        0,
        {"channels_last": True},
        "outputs.last_hidden_state.mean((1, 2))",
        PLACES,
    ),
    "backbone": (outputs(feature_maps=(MAP[:, :1], MAP)), 0, {}, "outputs.feature_maps[-1].mean((2, 3))", PLACES),
    "named": (outputs(summary=VECTORS), 1, {"pooled_output": ".summary"}, "outputs.summary.flatten(1)", VECTORS),
    "tuple": ((TOKENS, VECTORS), 1, {}, "outputs[1].flatten(1)", VECTORS),
    "tuple of states": ((TOKENS, (TOKENS,)), 1, {}, "outputs[0][:, 0]", TOKENS[:, 0]),
    "tensor": (MAP, 0, {}, "outputs.mean((2, 3))", PLACES),
    "vectors": (VECTORS, 0, {}, "outputs.flatten(1)", VECTORS),
}


@pytest.mark.parametrize("name", CASES)
def test_the_features_are_found_and_written(name):
    found, class_tokens, options, expression, expected = CASES[name]
    pooling = find_pooling(found, class_tokens, **options)
    assert pooling.expression == expression
    torch.testing.assert_close(pooling(found), expected)
    assert torch.equal(eval(expression, {"outputs": found}), pooling(found))


@pytest.mark.parametrize(
    "found, words",
    [
        (outputs(logits=VECTORS), "have no last_hidden_state"),
        (outputs(last_hidden_state=TOKENS, encoder_last_hidden_state=TOKENS), "that of a decoder"),
        (outputs(last_hidden_state=torch.zeros(2, 3, 4, 5, 6)), r"the shape \(2, 3, 4, 5, 6\)"),
    ],
)
def test_outputs_without_features_are_refused(found, words):
    with pytest.raises(ValueError, match=words):
        find_pooling(found, 1)


@pytest.mark.parametrize(
    "names, tokens",
    [
        ({"cls_token": (1, 1, 4)}, 1),
        ({"cls_token": (1, 1, 4), "distillation_token": (1, 1, 4)}, 2),
        ({"cls_token": (1, 8, 4)}, 8),
        ({"class_embedding": (4,)}, 1),
        ({"mask_token": (1, 1, 4), "class_embed": (1, 4), "position_embeddings": (1, 5, 4)}, 0),
    ],
)
def test_tokens_of_classes_are_counted_by_their_names(names, tokens):
    inner = nn.ParameterDict({name: nn.Parameter(torch.zeros(shape)) for name, shape in names.items()})
    assert count_class_tokens(nn.ModuleDict({"embeddings": inner})) == tokens
