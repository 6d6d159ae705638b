"""Weight standardization: linear layers whose rows always have mean 0 and variance 1."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class StandardizedLinear(nn.Linear):
    """A linear layer with weight standardization (Qiao et al., 2019, arXiv:1903.10520).

    What it multiplies by is the weight less its row's mean, divided by its row's standard deviation; what is learned is the
    weight. It is made for a normalization to follow: by itself it enlarges its input's scale by about the square root of
    its width.
    """

    epsilon = 1e-6  # added to the variance

    def forward(self, input: Tensor) -> Tensor:
        variance, mean = torch.var_mean(self.weight, dim=1, keepdim=True, correction=0)
        return F.linear(input, (self.weight - mean) * torch.rsqrt(variance + self.epsilon), self.bias)
