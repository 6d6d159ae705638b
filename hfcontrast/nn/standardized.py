"""Weight standardization: linear layers whose weight rows have mean 0 and variance 1."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class StandardizedLinear(nn.Linear):
    """A linear layer with weight standardization (Qiao et al., 2019, arXiv:1903.10520).

    The forward pass uses the weight minus the mean of its row, divided by the standard deviation of its row. It should be followed
    by a normalization: alone it increases the scale of its input by about the square root of its width.
    """

    epsilon = 1e-6  # added to the variance

    def forward(self, input: Tensor) -> Tensor:
        variance, mean = torch.var_mean(self.weight, dim=1, keepdim=True, correction=0)
        return F.linear(input, (self.weight - mean) * torch.rsqrt(variance + self.epsilon), self.bias)
