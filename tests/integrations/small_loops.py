"""What the tests of other people's loops share: small methods of each kind, a dataset of tensors, and our own loop over it."""

import functools

import torch
from accelerate import Accelerator
from torch.utils.data import DataLoader, Dataset

from hfcontrast import Progress, get_method
from hfcontrast.testing.small import TINY_RESNET, build, random_batch
from hfcontrast.training.engines import new_states, own_states
from hfcontrast.training.step import OptimizerStep

IMAGES, BATCH, STEPS, SEED = 40, 4, 20, 5
MAE_BACKBONE = {
    "model_type": "vit_mae",
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "image_size": 32,
    "patch_size": 8,
}
DINO = {"out_dim": 16, "hidden_dim": 16, "bottleneck_dim": 8}
KINDS = {  # by what outlives a step: a teacher and a center, a teacher with batch statistics, a queue, a bank, prototypes, masks
    "dino": (None, {**DINO, "warmup_teacher_temperature_epochs": 2}),
    "byol": (TINY_RESNET, {"hidden_dim": 16, "projection_dim": 8}),
    "moco_v2": (TINY_RESNET, {"projection_dim": 8, "queue_size": 24}),
    "instdisc": (None, {"projection_dim": 8, "negatives": 8, "num_images": IMAGES}),
    "swav": (
        TINY_RESNET,
        {
            "prototypes": 12,
            "hidden_dim": 16,
            "projection_dim": 8,
            "queue_length": 12,
            "queue_start_epoch": 1,
            "freeze_prototypes_steps": 3,
        },
    ),
    "mae": (MAE_BACKBONE, {"decoder_width": 8, "decoder_depth": 1, "decoder_heads": 2}),
}


class Rows(Dataset):
    """Samples of a method as dicts of tensors."""

    def __init__(self, name):
        batch = random_batch(get_method(name), IMAGES)
        self.samples = {key: value for key, value in batch.items() if key != "labels"}
        self.epochs = []

    def __len__(self):
        return IMAGES

    def __getitem__(self, row):
        return {name: values[row] for name, values in self.samples.items()}

    def set_epoch(self, epoch):
        self.epochs.append(epoch)


def small(name):
    """A small method of a kind, always with the same weights."""
    backbone, options = KINDS[name]
    return build(get_method(name), backbone, **options)


def optimizer_of(method):
    return torch.optim.AdamW([p for p in method.parameters() if p.requires_grad], lr=0.01, weight_decay=0.1)


def progress(step, accumulation=1):
    return Progress(step, STEPS, -(-IMAGES // BATCH // accumulation), SEED)


@functools.cache
def in_our_loop(name, accumulation=1, precision="no"):
    """The method after the steps of our own loop, and the losses."""
    method, losses = small(name), []
    with own_states():
        new_states()
        engine = Accelerator(cpu=True, gradient_accumulation_steps=accumulation, mixed_precision=precision)
        model, optimizer = engine.prepare(method, optimizer_of(method))
        step = OptimizerStep(method, optimizer, engine, model)
        batches = endless(name)
        for number in range(STEPS):
            micro_batches = [next(batches) for _ in range(accumulation)]
            losses.append(step(micro_batches, progress(number, accumulation)).loss.item())
    return method, losses


def endless(name):
    """Micro-batches, epoch after epoch, in the order of the rows."""
    while True:
        yield from DataLoader(Rows(name), batch_size=BATCH, drop_last=True)


def assert_equal(method, expected):
    """Every tensor is equal to the bit."""
    for (key, value), other in zip(method.state_dict().items(), expected.state_dict().values(), strict=True):
        assert torch.equal(value, other), key


def assert_moved(method, name):
    """What outlives a step has moved."""
    before = small(name).state_dict()
    moved = [key for key, value in method.state_dict().items() if not torch.equal(value, before[key])]
    for part in (*method.teachers, "queue", "bank", "center", "prototypes"):
        if hasattr(method, part):
            assert any(key.split(".")[0] == part for key in moved), part
