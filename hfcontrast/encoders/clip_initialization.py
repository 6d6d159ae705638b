"""Initial weights of models with an image and a text tower, as the papers' authors draw them.

transformers draws CLIP's otherwise: the standard deviations of the attention's projections before and after it are swapped, and
the image tower's blocks, for which the authors leave PyTorch's defaults, are drawn as the text tower's.
"""

import math

import torch
from torch import nn
from transformers import PreTrainedModel
from transformers.models.clip.modeling_clip import CLIPTextEmbeddings, CLIPVisionEmbeddings

CLIP_SCALE = math.log(1 / 0.07)
_ROUNDED_CLIP_SCALE = 2.6592  # the default of transformers' configurations
_LECUN = ("vision_model.embeddings.patch_embedding", "text_model.head")
_SPREAD_WITHIN_TWO = 0.87962566103423978  # standard deviation of a standard normal distribution between -2 and 2
SIGLIP_SCALE, SIGLIP_BIAS = math.log(10), -10.0


@torch.no_grad()
def initialize_towers(model: PreTrainedModel) -> None:
    """Initializes the weights of CLIP's towers and of projections, and sets the initial temperature and bias.

    CLIP (Radford et al., 2021, arXiv:2103.00020) as in the authors' code (openai/CLIP, model.py); so are CLIP's towers within
    another pair, and the projections of a pair. SigLIP (Zhai et al., 2023, arXiv:2303.15343, section 3.2): the scale of the
    logits starts at 10 and their bias at -10; most of its weights are as transformers draws them, after the authors' code (see
    :func:`initialize_siglip`). All other towers keep the initialization of their architecture.

    Args:
        model: A model with two towers and random weights.
    """
    for module in list(model.modules()):
        embeddings = getattr(module, "embeddings", None)
        if isinstance(embeddings, CLIPTextEmbeddings):
            initialize_clip_text(module)
        elif isinstance(embeddings, CLIPVisionEmbeddings):
            initialize_clip_vision(module)
    for name in ("visual_projection", "text_projection"):
        if isinstance(projection := getattr(model, name, None), nn.Linear):
            nn.init.normal_(projection.weight, std=projection.in_features**-0.5)
    if hasattr(model, "logit_bias"):
        model.logit_scale.fill_(SIGLIP_SCALE)
        model.logit_bias.fill_(SIGLIP_BIAS)
        initialize_siglip(model)
    elif hasattr(model, "logit_scale"):
        given = getattr(model.config, "logit_scale_init_value", _ROUNDED_CLIP_SCALE)
        model.logit_scale.fill_(CLIP_SCALE if given == _ROUNDED_CLIP_SCALE else given)


@torch.no_grad()
def initialize_clip_text(tower: nn.Module) -> None:
    """CLIP's text transformer of width W and L layers.

    Embeddings of tokens N(0, 0.02^2) and of positions N(0, 0.01^2); within a block, the attention's projections of
    queries, keys and values N(0, 1 / W), what adds to the residual stream (the attention's and the MLP's last layer)
    N(0, 1 / (2 W L)), the MLP's first layer N(0, 1 / (2 W)). Biases of the attention 0, of the MLP as PyTorch draws them.
    """
    width, layers = tower.embeddings.token_embedding.embedding_dim, tower.encoder.layers
    nn.init.normal_(tower.embeddings.token_embedding.weight, std=0.02)
    nn.init.normal_(tower.embeddings.position_embedding.weight, std=0.01)
    residual_std = width**-0.5 * (2 * len(layers)) ** -0.5
    for layer in layers:
        attention = layer.self_attn
        for projection in (attention.q_proj, attention.k_proj, attention.v_proj):
            nn.init.normal_(projection.weight, std=width**-0.5)
            nn.init.zeros_(projection.bias)
        nn.init.normal_(attention.out_proj.weight, std=residual_std)
        nn.init.zeros_(attention.out_proj.bias)
        for linear, std in ((layer.mlp.fc1, (2 * width) ** -0.5), (layer.mlp.fc2, residual_std)):
            linear.reset_parameters()  # of which the bias stays
            nn.init.normal_(linear.weight, std=std)


@torch.no_grad()
def initialize_clip_vision(tower: nn.Module) -> None:
    """CLIP's image transformer of width W.

    Class embedding and position embeddings N(0, 1 / W); all else as PyTorch draws it: the attention's projections of
    queries, keys and values as one Xavier-uniform matrix (3W, W), its biases 0, other layers by their own defaults.
    """
    embeddings = tower.embeddings
    width = embeddings.embed_dim
    nn.init.normal_(embeddings.class_embedding, std=width**-0.5)
    nn.init.normal_(embeddings.position_embedding.weight, std=width**-0.5)
    embeddings.patch_embedding.reset_parameters()
    limit = math.sqrt(6 / (3 * width + width))
    for layer in tower.encoder.layers:
        attention = layer.self_attn
        for projection in (attention.q_proj, attention.k_proj, attention.v_proj):
            nn.init.uniform_(projection.weight, -limit, limit)
            nn.init.zeros_(projection.bias)
        attention.out_proj.reset_parameters()
        nn.init.zeros_(attention.out_proj.bias)
        layer.mlp.fc1.reset_parameters()
        layer.mlp.fc2.reset_parameters()


@torch.no_grad()
def initialize_siglip(model: PreTrainedModel) -> None:
    """What transformers draws otherwise than SigLIP's authors (google-research/big_vision, models/vit.py).

    The patch projection and the text tower's last layer have standard deviation 1 / sqrt(fan in), truncated at two of a normal
    distribution (LeCun's; transformers widens it by 1 / 0.88 and does not truncate). Each projection of the attention that pools
    an image is Xavier uniform by itself, biases 0 (there queries, keys and values are one matrix).

    Args:
        model: A SiglipModel with random weights.
    """
    for layer in (part for name, part in model.named_modules() if name in _LECUN):
        std = layer.weight[0].numel() ** -0.5 / _SPREAD_WITHIN_TWO
        nn.init.trunc_normal_(layer.weight, std=std, a=-2 * std, b=2 * std)
    head = getattr(model.vision_model, "head", None)
    if isinstance(attention := getattr(head, "attention", None), nn.MultiheadAttention):
        for projection in (*attention.in_proj_weight.chunk(3), attention.out_proj.weight):
            nn.init.xavier_uniform_(projection)
        for bias in (attention.in_proj_bias, attention.out_proj.bias):
            nn.init.zeros_(bias)
