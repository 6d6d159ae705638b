"""What methods start from, measured on fresh models that are built through recipes: nothing is copied from what is tested.

Expected values are those of the papers and of the authors' code, stated beside each test; where a method's docstring lists a
deviation, the test states that.
"""

import math
from pathlib import Path

import pytest
import torch
from torch import nn

from hfcontrast.encoders import build_encoder, encode
from hfcontrast.encoders.model_config import backbone_config
from hfcontrast.methods import registry
from hfcontrast.methods.contract.arguments import needs_captions
from hfcontrast.recipe import load_recipe
from hfcontrast.training.build_method import build_method

RECIPES = Path(__file__).parents[2] / "recipes"
OF_THE_DATA = {"num_images": 64, "image_mean": [0.5] * 3, "image_std": [0.25] * 3}
OF_THE_DATA["clusters"] = [[level / 8 - 1] * 3 for level in range(16)]
OF_THE_DATA["color_frequencies"] = [1 / 261] * 261
TEXT = {"vocab_size": 200, "max_length": 16, "bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 1}


def fresh(recipe, *overrides, **known):
    """The method of a recipe, with random weights."""
    common = RECIPES / "comparison/common.yaml" if recipe.startswith("comparison/") else None
    recipe = load_recipe(RECIPES / f"{recipe}.yaml", overrides, common=common)
    method_class = registry.get_method(recipe.method.name)
    fields = method_class.config_class.__dataclass_fields__
    known = {name: value for name, value in (OF_THE_DATA | known).items() if name in fields}
    torch.manual_seed(3)
    text = TEXT if needs_captions(method_class) else None
    method, loaded = build_method(recipe, recipe.resolved_views(method_class), known, text)
    assert loaded is None
    return method


def is_normal(values, std):
    """Whether values are N(0, std^2), by their standard deviation and fourth moment (3 for a normal, 1.8 for a uniform)."""
    values = values.detach().double().flatten()
    assert len(values) >= 40
    spread, tails = values.square().mean().sqrt(), (values**4).mean() / values.square().mean() ** 2
    relative = 4 / math.sqrt(2 * len(values))  # four standard errors
    return abs(spread / std - 1) < relative and abs(tails - 3) < 4 * math.sqrt(24 / len(values))


def is_uniform(values, limit):
    """Whether values are uniform between -limit and limit, by their largest, their mean and their spread."""
    values = values.detach().double().flatten()
    largest, spread = values.abs().max(), values.square().mean().sqrt()
    fills = limit * (1 - 12 / len(values)) < largest <= limit * (1 + 1e-6)
    return bool(fills) and abs(spread / (limit / math.sqrt(3)) - 1) < 4 * 0.45 / math.sqrt(len(values))


def xavier(*sizes):
    """Limit of the Xavier uniform distribution of a matrix with so many rows and columns together."""
    return math.sqrt(6 / sum(sizes))


def sines_and_cosines(side, width, row_first):
    """2-D positions one number at a time: frequencies 10000^(-i / (D / 4)), sines then cosines of either coordinate."""
    table = torch.zeros(side * side, width, dtype=torch.float64)
    quarter = width // 4
    for row in range(side):
        for column in range(side):
            for half, place in enumerate((row, column) if row_first else (column, row)):
                for i in range(quarter):
                    angle = place / 10000 ** (i / quarter)
                    table[row * side + column, half * 2 * quarter + i] = math.sin(angle)
                    table[row * side + column, half * 2 * quarter + quarter + i] = math.cos(angle)
    return table.float()


def is_cut_normal(values, std):
    """Whether values are N(0, std^2) within one standard deviation: the spread is 0.54 of it, and the edges are reached."""
    values = values.detach().double().flatten()
    spread = values.square().mean().sqrt() / std
    inside = bool(values.abs().max() <= std * (1 + 1e-6) and values.abs().max() > std * (1 - 30 / len(values)))
    return inside and abs(spread / 0.5396 - 1) < 4 * 0.45 / math.sqrt(len(values))


def all_zero(*tensors):
    return all(bool((tensor == 0).all()) for tensor in tensors)


def all_one(*tensors):
    return all(bool((tensor == 1).all()) for tensor in tensors)


def norms_are_the_identity(module):
    """Whether every normalization that has weights starts at 1 and 0; there must be some."""
    norms = [part for part in module.modules() if type(part).__name__.endswith(("Norm", "Norm1d", "Norm2d"))]
    weighted = [norm for norm in norms if getattr(norm, "weight", None) is not None]
    assert weighted
    return all_one(*(norm.weight for norm in weighted)) and all_zero(*(n.bias for n in weighted if n.bias is not None))


def check_xavier_vit(layers, width):
    """Blocks as MAE's authors draw them: Xavier uniform, queries, keys and values as one matrix, biases 0."""
    for layer in layers:
        attention = layer.attention
        for projection in (attention.q_proj, attention.k_proj, attention.v_proj):
            assert is_uniform(projection.weight, xavier(3 * width, width))
        assert is_uniform(attention.o_proj.weight, xavier(width, width))
        for linear in (layer.mlp.fc1, layer.mlp.fc2):
            assert is_uniform(linear.weight, xavier(*linear.weight.shape))
        linears = [part for part in layer.modules() if isinstance(part, nn.Linear)]
        assert all_zero(*(linear.bias for linear in linears if linear.bias is not None))


@pytest.mark.parametrize("model_type", ["vit_mae", "vit"])
def test_mae_starts_as_the_authors_model(model_type, tmp_path):
    """facebookresearch/mae, models_mae.py: MaskedAutoencoderViT.initialize_weights."""
    method = fresh("comparison/mae", f"backbone.model_type={model_type}")
    encoder, width, side = method.encoder, 64, 8
    embeddings, projection = encoder.embeddings, encoder.embeddings.patch_embeddings.projection
    positions = embeddings.position_embeddings
    assert not positions.requires_grad and all_zero(positions[:, 0])
    # The authors' code has the column's half first, as ViTMAE; a ViT has the row's, a listed deviation.
    expected = sines_and_cosines(side, width, row_first=model_type == "vit")
    torch.testing.assert_close(positions[0, 1:], expected, atol=1e-5, rtol=0)
    assert is_normal(embeddings.cls_token, 0.02)
    assert is_uniform(projection.weight, xavier(width, 3 * 4 * 4))  # as a linear layer
    assert is_uniform(projection.bias, 1 / math.sqrt(3 * 4 * 4))  # as torch's convolution
    check_xavier_vit(encoder.layers, width)
    assert norms_are_the_identity(encoder)

    decoder = method.decoder
    check_xavier_vit(decoder.blocks.layers, width)
    assert is_normal(decoder.mask_token, 0.02)
    for linear in (decoder.embed, decoder.predict):
        assert is_uniform(linear.weight, xavier(*linear.weight.shape)) and all_zero(linear.bias)
    assert norms_are_the_identity(decoder)

    method.save_pretrained(tmp_path)
    loaded = type(method).from_pretrained(tmp_path)
    assert torch.equal(loaded.encoder.embeddings.position_embeddings, positions)
    assert not loaded.encoder.embeddings.position_embeddings.requires_grad
    assert torch.equal(loaded.encoder.embeddings.cls_token, embeddings.cls_token)


def test_any_method_finds_positions_in_a_vit_mae():
    """Not MAE alone: transformers leaves the positions of every fresh ViTMAE at 0."""
    overrides = ["model_type=vit_mae", "hidden_size=64", "num_hidden_layers=1", "num_attention_heads=2", "patch_size=8"]
    backbone = ", ".join(override.replace("=", ": ") for override in overrides)
    embeddings = fresh("comparison/simclr", f"backbone={{{backbone}, image_size: 32}}").encoder.embeddings
    expected = sines_and_cosines(4, 64, row_first=False)
    torch.testing.assert_close(embeddings.position_embeddings[0, 1:], expected, atol=1e-5, rtol=0)
    assert is_normal(embeddings.cls_token, 0.02)
    assert is_uniform(embeddings.patch_embeddings.projection.weight, xavier(64, 3 * 8 * 8))
    of_views = fresh("comparison/cmc", f"backbone={{{backbone}, image_size: 32}}").encoder
    assert len(of_views.encoders) == 2
    for encoder in of_views.encoders:
        positions = encoder.embeddings.position_embeddings[0, 1:]
        torch.testing.assert_close(positions, expected, atol=1e-5, rtol=0)
    pixels, features = torch.randn(2, 3, 32, 32), of_views.eval()
    with torch.no_grad():  # the same but for rounding: the patches are shuffled, and none is hidden
        torch.testing.assert_close(encode(features, pixels), encode(features, pixels), atol=1e-4, rtol=0)


def test_aim_starts_as_mae():
    """apple/ml-aim, torch/layers.py: positions are fixed, the projection is Xavier uniform; all else is ours and MAE's."""
    method = fresh("comparison/aim")
    embeddings, width = method.encoder.embeddings, 64
    torch.testing.assert_close(
        embeddings.position_embeddings[0, 1:], sines_and_cosines(8, width, row_first=True), atol=1e-5, rtol=0
    )
    assert all_zero(embeddings.position_embeddings[:, 0]) and not embeddings.position_embeddings.requires_grad
    assert is_normal(embeddings.cls_token, 0.02)
    assert is_uniform(embeddings.patch_embeddings.projection.weight, xavier(width, 3 * 4 * 4))
    check_xavier_vit(method.encoder.layers, width)
    assert norms_are_the_identity(method.encoder) and norms_are_the_identity(method.head)
    for linear in (part for part in method.head.modules() if isinstance(part, nn.Linear)):
        assert is_uniform(linear.weight, xavier(*linear.weight.shape)) and linear.bias is None


def test_igpt_starts_as_the_authors_model():
    """openai/image-gpt, src/model.py: the standard deviations that ``get_variable`` is given, and a head of zeros."""
    method = fresh("comparison/igpt")
    encoder, width, blocks = method.encoder, 48, 4
    assert is_normal(encoder.wte.weight, 0.02)  # the last row is the start token, N(0, 0.02) too
    assert is_normal(encoder.wpe.weight, 0.01)
    for block in encoder.h:
        assert is_normal(block.attn.c_attn.weight, width**-0.5)
        assert is_normal(block.attn.c_proj.weight, (width * blocks) ** -0.5)
        assert is_normal(block.mlp.c_fc.weight, 0.02) and is_normal(block.mlp.c_proj.weight, 0.02)
        for linear in (block.attn.c_attn, block.attn.c_proj, block.mlp.c_fc, block.mlp.c_proj):
            assert all_zero(linear.bias)
        assert all_one(block.ln_1.weight, block.ln_2.weight)
    assert all_one(encoder.ln_f.weight) and all_zero(method.head.linear.weight)
    assert method.head.linear.bias is None


def check_shrinking_branches(blocks, ends, others, std, is_drawn):
    """Layers that end a residual branch of block n have 1 / sqrt(2n) of the spread of the others; no bias but 0."""
    for number, block in enumerate(blocks, start=1):
        for name in others:
            assert is_drawn(block.get_submodule(name).weight, std), name
        for name in ends:
            assert is_drawn(block.get_submodule(name).weight, std / math.sqrt(2 * number)), (number, name)
        for part in (block.get_submodule(name) for name in (*ends, *others)):
            assert part.bias is None or all_zero(part.bias)


ENDS, OTHERS = ("attention.o_proj", "mlp.fc2"), ("attention.q_proj", "attention.k_proj", "attention.v_proj", "mlp.fc1")


def test_ijepa_starts_as_the_authors_model():
    """facebookresearch/ijepa, vision_transformer.py: ``_init_weights`` and ``fix_init_weight`` of encoder and predictor."""
    method = fresh("comparison/ijepa", "backbone.initializer_range=0.02")
    embeddings, projection = method.encoder.embeddings, method.encoder.embeddings.patch_embeddings.projection
    positions = embeddings.position_embeddings
    expected = sines_and_cosines(8, 64, row_first=True)  # the authors' column first, a listed deviation
    torch.testing.assert_close(positions[0], expected, atol=1e-5, rtol=0)
    assert not positions.requires_grad
    assert is_normal(projection.weight, 0.02) and all_zero(projection.bias)
    check_shrinking_branches(method.encoder.layers, ENDS, OTHERS, 0.02, is_normal)
    assert norms_are_the_identity(method.encoder)

    predictor = method.predictor
    check_shrinking_branches(predictor.blocks.layers, ENDS, OTHERS, 0.02, is_normal)
    assert norms_are_the_identity(predictor)
    for linear in (predictor.embed, predictor.project):
        assert is_normal(linear.weight, 0.02) and all_zero(linear.bias)
    wide = fresh("comparison/ijepa", "method.predictor_width=64", "backbone.initializer_range=0.02").predictor
    assert is_normal(wide.mask_token, 0.02)


def test_data2vec_starts_as_the_authors_model():
    """facebookresearch/data2vec_vision, beit/modeling_cyclical.py: all normals are cut at one standard deviation."""
    method = fresh("comparison/data2vec", "backbone.initializer_range=0.02", "backbone.layer_scale_init_value=1e-4")
    encoder = method.encoder
    ends, names = ("attention.output.dense", "output.dense"), ("query", "key", "value")
    others = (*(f"attention.attention.{name}" for name in names), "intermediate.dense")
    check_shrinking_branches(encoder.encoder.layer, ends, others, 0.02, is_cut_normal)
    embeddings = encoder.embeddings
    assert is_cut_normal(embeddings.cls_token, 0.02) and is_cut_normal(embeddings.mask_token, 0.02)
    projection = embeddings.patch_embeddings.projection
    assert is_cut_normal(projection.weight, 0.02) and all_zero(projection.bias)
    tables = [value for name, value in encoder.named_parameters() if name.endswith("relative_position_bias_table")]
    assert tables and all_zero(*tables)
    for layer in encoder.encoder.layer:
        assert all(bool((scale == 1e-4).all()) for scale in (layer.lambda_1, layer.lambda_2))
    assert norms_are_the_identity(encoder)
    assert is_cut_normal(method.head[1].weight, 0.02) and all_zero(method.head[1].bias)


def test_simmim_starts_a_vit_as_the_authors_do():
    """microsoft/SimMIM, models/vision_transformer.py, with the cut of ``VisionTransformerForSimMIM._trunc_normal_``."""
    method = fresh("comparison/simmim", "backbone.initializer_range=0.02")
    embeddings, projection = method.encoder.embeddings, method.encoder.embeddings.patch_embeddings.projection
    check_shrinking_branches(method.encoder.layers, ENDS, OTHERS, 0.02, is_cut_normal)
    for tokens in (embeddings.cls_token, embeddings.position_embeddings, embeddings.mask_token, projection.weight):
        assert is_cut_normal(tokens, 0.02)
    assert all_zero(projection.bias) and norms_are_the_identity(method.encoder)
    assert_torchs_own(method.decoder[0])


def test_simmim_starts_a_swin_as_the_authors_do():
    """microsoft/SimMIM, models/swin_transformer.py and simmim.py; timm's trunc_normal_ cuts at 2, which nothing reaches."""
    small = ["embed_dim=48", "depths=[1, 1]", "num_heads=[2, 4]", "image_size=48"]
    small = ["views.all.size=48", "method.mask_patch_size=8", *(f"backbone.{setting}" for setting in small)]
    method = fresh("imagenet/simmim", *small)
    encoder = method.encoder
    assert_torchs_own(encoder.embeddings.patch_embeddings.projection)
    assert is_normal(encoder.embeddings.mask_token, 0.02)
    tables = [value for name, value in encoder.named_parameters() if name.endswith("relative_position_bias_table")]
    assert len(tables) == 2 and all(is_normal(table, 0.02) for table in tables)
    linears = [part for part in encoder.modules() if isinstance(part, nn.Linear)]
    assert all(is_normal(linear.weight, 0.02) for linear in linears)
    assert all_zero(*(linear.bias for linear in linears if linear.bias is not None))
    assert norms_are_the_identity(encoder)
    assert_torchs_own(method.decoder[0])


@pytest.mark.parametrize("registers", [0, 4])
def test_dinov2_starts_as_the_authors_model(registers):
    """facebookresearch/dinov2, models/vision_transformer.py and layers/dino_head.py; layer scale 1e-5 in the configuration."""
    kind = (
        ["backbone.model_type=dinov2_with_registers", f"backbone.num_register_tokens={registers}"] if registers else []
    )
    small = ["hidden_size=64", "num_hidden_layers=2", "num_attention_heads=2", "image_size=32"]
    small = [*(f"backbone.{setting}" for setting in small), "method.out_dim=512", "method.hidden_dim=96"]
    sizes = ["views.all.size=32", "views.local.size=16", "method.bottleneck_dim=48"]
    method = fresh("imagenet/dinov2", *kind, *small, *sizes)
    encoder, embeddings = method.encoder, method.encoder.embeddings
    assert is_normal(embeddings.cls_token, 1e-6) and all_zero(embeddings.mask_token)
    assert not registers or is_normal(embeddings.register_tokens, 1e-6)
    assert is_normal(embeddings.position_embeddings, 0.02)
    assert_torchs_own(embeddings.patch_embeddings.projection)
    linears = [part for part in encoder.modules() if isinstance(part, nn.Linear)]
    assert len(linears) == 12 and all(is_normal(linear.weight, 0.02) for linear in linears)
    assert all_zero(*(linear.bias for linear in linears)) and norms_are_the_identity(encoder)
    scales = [value for name, value in encoder.named_parameters() if name.endswith("lambda1")]
    assert len(scales) == 4 and all(bool((scale == 1e-5).all()) for scale in scales)
    check_dino_head(method.heads["class"][0], method.heads["class"][1])


def check_dino_head(head, prototypes):
    """Linear layers N(0, 0.02^2) with biases 0; prototypes are torch's linear layer, weight-normalized with gains of 1."""
    for linear in (part for part in head.modules() if isinstance(part, nn.Linear)):
        assert is_normal(linear.weight, 0.02) and all_zero(linear.bias)
    assert is_uniform(prototypes.weight, 1 / math.sqrt(prototypes.weight.shape[1]))
    assert prototypes.gain is None or all_one(prototypes.gain)


def assert_torchs_own(*layers):
    """Linear layers and convolutions as torch draws them: weights and biases uniform within 1 / sqrt(fan in)."""
    for layer in layers:
        limit = 1 / math.sqrt(layer.weight[0].numel())
        assert is_uniform(layer.weight, limit), layer
        assert layer.bias is None or is_uniform(layer.bias, limit), layer


# Methods of a ResNet. Heads that stand here start otherwise than torch's layers do, and are measured elsewhere or below.
WITH_RESNET = [
    path.stem
    for path in sorted((RECIPES / "comparison").glob("*.yaml"))
    if path.stem not in ("common", "aim", "data2vec", "dinov2", "igpt", "ijepa", "mae", "simmim")
]


@pytest.mark.parametrize("name", WITH_RESNET)
def test_resnets_and_their_heads_start_as_torchvisions(name):
    """Convolutions N(0, 2 / fan out) and norms 1 and 0, torch's own heads, banks and queues of unit vectors, teachers as copies.

    So do the authors' own in PyTorch: lemniscate.pytorch, CMC, moco, moco-v3, swav, deepcluster (v2), barlowtwins, vicreg,
    simsiam, Unsupervised_Embedding_Learning; those who wrote in TensorFlow, JAX or Caffe start otherwise, which the docstrings list.
    """
    method = fresh(f"comparison/{name}")
    outside = dict(method.named_children())
    encoders = [outside.pop("encoder")]
    for teacher, source in method.teachers.items():
        copy = outside.pop(teacher).state_dict()
        assert all(torch.equal(copy[key], value) for key, value in method.get_submodule(source).state_dict().items())
    convolutions = [part for part in encoders[0].modules() if isinstance(part, nn.Conv2d)]
    assert len(convolutions) > 5
    for convolution in convolutions:
        fan_out = convolution.out_channels * math.prod(convolution.kernel_size)
        assert is_normal(convolution.weight, math.sqrt(2 / fan_out)) and convolution.bias is None
    assert norms_are_the_identity(encoders[0])
    for part in (part for module in outside.values() for part in module.modules()):
        if isinstance(part, nn.Linear | nn.Conv2d):
            assert_torchs_own(part)
        elif type(part).__name__ == "Prototypes":
            assert is_uniform(part.weight, 1 / math.sqrt(part.weight.shape[1])), "torch's linear layer"
        elif type(part).__name__ in ("MemoryBank", "Queue"):
            torch.testing.assert_close(part.rows.norm(dim=1), torch.ones(len(part.rows)))
            assert is_normal(part.rows * math.sqrt(part.rows.shape[1]), 1.0) or part.rows.shape[1] < 100
        elif getattr(part, "weight", None) is not None and type(part).__name__.endswith(("Norm1d", "Norm2d", "Norm")):
            assert all_one(part.weight) and all_zero(part.bias)


def test_siglip_starts_as_the_authors_model():
    """google-research/big_vision, models/vit.py and models/proj/image_text/text_transformer.py."""
    method = fresh("siglip")
    model, width = method.encoder, method.encoder.config.vision_config.hidden_size
    vision, text = model.vision_model, model.text_model
    embeddings = vision.embeddings
    assert is_normal(embeddings.position_embedding.weight, width**-0.5)
    assert is_normal(text.embeddings.token_embedding.weight, width**-0.5)
    assert is_normal(text.embeddings.position_embedding.weight, width**-0.5)
    for layer in (embeddings.patch_embedding, text.head):  # LeCun's: N(0, 1 / fan in), truncated at two deviations
        spread = layer.weight[0].numel() ** -0.5
        assert layer.weight.std().item() == pytest.approx(spread, rel=0.05) and all_zero(layer.bias)
        assert 1.9 * spread < layer.weight.abs().max() <= 2 * spread / 0.8796
    for layer in (*vision.encoder.layers, *text.encoder.layers):
        attention = layer.self_attn
        for linear in (attention.q_proj, attention.k_proj, attention.v_proj, attention.out_proj):
            assert is_uniform(linear.weight, xavier(width, width)) and all_zero(linear.bias)
        for linear in (layer.mlp.fc1, layer.mlp.fc2):
            assert is_uniform(linear.weight, xavier(*linear.weight.shape)) and is_normal(linear.bias, 1e-6)
    pooling = vision.head
    for projection in (*pooling.attention.in_proj_weight.chunk(3), pooling.attention.out_proj.weight):
        assert is_uniform(projection, xavier(width, width))
    assert all_zero(pooling.attention.in_proj_bias, pooling.attention.out_proj.bias)
    assert norms_are_the_identity(model)
    assert model.logit_scale.exp().item() == pytest.approx(10) and model.logit_bias.item() == -10


def test_the_papers_resnets_start_as_timms():
    """timm's ResNet-18 for its ResNet-50, which is drawn in the same way: branches begin at 0, convolutions N(0, 2 / fan out).

    SimCLR's code has the gains of 0 (``init_zero`` in resnet.py), and with it DCL's; NNCLR has BYOL's. Those of the methods whose
    code is PyTorch's are in ``test_paper_recipes.py``.
    """
    recipes = [
        load_recipe(RECIPES / "imagenet" / f"{name}.yaml") for name in ("simclr_resnet50", "simclr_v2", "dcl", "nnclr")
    ]
    backbone = recipes[0].backbone
    assert all(recipe.backbone == backbone for recipe in recipes) and backbone.fields["architecture"] == "resnet50"
    encoder = build_encoder(backbone_config({**backbone.written, "architecture": "resnet18"}, [32]))
    blocks = [part for part in encoder.modules() if type(part).__name__ == "BasicBlock"]
    assert len(blocks) == 8
    for block in blocks:
        assert all_one(block.bn1.weight) and all_zero(block.bn1.bias, block.bn2.weight, block.bn2.bias)
        for convolution in (block.conv1, block.conv2):
            assert is_normal(convolution.weight, math.sqrt(2 / (convolution.out_channels * 9)))


@pytest.mark.parametrize("name", ["dino_vits16", "lejepa", "moco_v3"])
def test_the_papers_vits_start_as_timms(name):
    """timm's ViT-Tiny for the larger ones. timm's own, with a class token of N(0, 10^-12): of DINO a listed deviation.

    facebookresearch/moco-v3, vits.py: fixed positions, all linear layers Xavier uniform, queries, keys and values each by itself,
    and a frozen, Xavier-uniform patch projection with biases 0.
    """
    method = fresh(
        f"imagenet/{name}",
        "backbone.architecture=vit_tiny_patch16_224",
        "backbone.model_args.img_size=32",
        "views.all.size=32",
        "method.hidden_dim=64",
        *(["method.out_dim=128"] if name == "dino_vits16" else []),
    )
    vit, width = method.encoder.timm_model, 192
    linears = {key: part for key, part in vit.named_modules() if isinstance(part, nn.Linear)}
    assert len(linears) == 48 and all_zero(*(linear.bias for linear in linears.values()))
    assert is_normal(vit.cls_token, 1e-6) and norms_are_the_identity(vit)
    if name == "moco_v3":
        assert all_zero(vit.pos_embed[:, 0]) and not vit.pos_embed.requires_grad
        torch.testing.assert_close(vit.pos_embed[0, 1:], sines_and_cosines(2, width, row_first=True), atol=1e-5, rtol=0)
        projection = vit.patch_embed.proj
        assert is_uniform(projection.weight, xavier(width, 3 * 16 * 16)) and all_zero(projection.bias)
        assert not projection.weight.requires_grad and not projection.bias.requires_grad
        for key, linear in linears.items():
            outputs = width if key.endswith("qkv") else linear.out_features
            assert is_uniform(linear.weight, xavier(outputs, linear.in_features)), key
        return
    assert is_normal(vit.pos_embed, 0.02)
    assert_torchs_own(vit.patch_embed.proj)
    assert all(is_normal(linear.weight, 0.02) for linear in linears.values())
    if name == "dino_vits16":
        check_dino_head(method.head, method.prototypes)
