"""Fingerprints of weights."""

import torch
from torch import nn

from ..checksums import finished, new_fingerprint


def fingerprint_of_weights(model: nn.Module) -> str:
    """A fingerprint of all tensors of a model, with their names."""
    found = new_fingerprint()
    for name, value in sorted(model.state_dict().items()):
        found.update(name.encode())
        found.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return finished(found)
