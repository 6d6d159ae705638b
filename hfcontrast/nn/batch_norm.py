"""Batch normalization over the global batch on any device.

``torch.nn.SyncBatchNorm`` refuses CPU tensors. This one only needs an all-reduce, so that training on several CPU
processes has the statistics and the gradients of a single process (which tests check without a GPU).
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .distributed import all_sum, world_size


class GlobalBatchNorm(nn.modules.batchnorm._BatchNorm):
    """Normalizes (B, C, ...) by mean and variance over the batches of all processes; parameters as in ``BatchNorm``."""

    def _check_input_dim(self, input: Tensor) -> None:
        if input.dim() < 2:
            raise ValueError(f"batch normalization expects (B, C, ...), got {tuple(input.shape)}")

    def forward(self, input: Tensor) -> Tensor:
        output = self._normalize_globally(input) if self.training and world_size() > 1 else self._normalize(input)
        for follower in self.children():  # the dropout and activation that timm keeps inside its normalization
            output = follower(output)
        return output

    def _normalize(self, input: Tensor) -> Tensor:
        tracked = self.track_running_stats or not self.training
        return F.batch_norm(
            input,
            self.running_mean if tracked else None,
            self.running_var if tracked else None,
            self.weight,
            self.bias,
            self.training or self.running_mean is None,
            self._momentum(),
            self.eps,
        )

    def _normalize_globally(self, input: Tensor) -> Tensor:
        values = input.to(torch.promote_types(input.dtype, torch.float32))
        axes = [axis for axis in range(input.dim()) if axis != 1]
        shape = [1, -1] + [1] * (input.dim() - 2)
        count = values.numel() // values.shape[1] * world_size()
        mean = all_sum(values.sum(axes)) / count
        centered = values - mean.view(shape)
        variance = all_sum(centered.square().sum(axes)) / count
        if self.track_running_stats:
            with torch.no_grad():
                momentum = self._momentum()
                self.running_mean.lerp_(mean.to(self.running_mean.dtype), momentum)
                self.running_var.lerp_((variance * (count / max(count - 1, 1))).to(self.running_var.dtype), momentum)
        normalized = centered * torch.rsqrt(variance + self.eps).view(shape)
        if self.affine:
            normalized = normalized * self.weight.view(shape) + self.bias.view(shape)
        return normalized.to(input.dtype)

    def _momentum(self) -> float:
        if self.training and self.track_running_stats:
            self.num_batches_tracked.add_(1)
            if self.momentum is None:  # the mean over all batches so far
                return 1.0 / float(self.num_batches_tracked)
        return self.momentum or 0.0


def synchronize_batch_norm(module: nn.Module, cuda: bool | None = None) -> nn.Module:
    """Replaces every batch normalization in ``module`` by one over the global batch.

    On CUDA this is ``torch.nn.SyncBatchNorm`` (fused kernels), elsewhere :class:`GlobalBatchNorm`. Parameters and
    buffers are kept (the same tensors), so names and checkpoints do not change; so are the activations that some of
    timm's architectures keep inside their normalization, which torch's own conversion would drop.

    Args:
        module: The module.
        cuda: Whether it is trained on CUDA; None: it lies where it is trained.
    """
    if cuda or (cuda is None and any(parameter.is_cuda for parameter in module.parameters())):
        from timm.layers import convert_sync_batchnorm

        return convert_sync_batchnorm(module)
    for name, child in module.named_children():
        if isinstance(child, nn.modules.batchnorm._BatchNorm) and not isinstance(child, GlobalBatchNorm):
            layer = GlobalBatchNorm(
                child.num_features, child.eps, child.momentum, child.affine, child.track_running_stats
            )
            layer._parameters, layer._buffers, layer._modules = child._parameters, child._buffers, child._modules
            layer.training = child.training
            setattr(module, name, layer)
        else:
            synchronize_batch_norm(child, cuda=False)
    return module
