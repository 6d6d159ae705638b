"""DCL: Decoupled Contrastive Learning. Yeh, Hong, Hsu, Liu, Chen, LeCun, 2021.

arXiv:2110.06848; SimCLR with another loss. Encoder, head and views are those of ``simclr``.

Deviations from the paper:
- Those of ``simclr``.
- The loss is the mean over both views of all images, where the paper sums it.
- DCLW's weights are the paper's, 2 - exp(s / sigma) / mean of exp(s / sigma), and gradients flow through them. A public
  implementation (raminnakhli/Decoupled-Contrastive-Learning) has the same weights, as the batch size times a softmax; its loss is
  that of one direction, from the first view.
"""

from huggingface_hub.dataclasses import strict
from torch import Tensor
from torch.nn import functional as F

from ..losses import decoupled
from ..nn import gather
from .base import MethodOutput
from .simclr import SimCLR, SimCLRConfig


@strict
class DCLConfig(SimCLRConfig):
    """Configuration of DCL.

    Args:
        projection_dim: Width of the projection z on which the loss is computed.
        hidden_dim: Width of the head's hidden layer; None takes the encoder's feature width.
        head: Projection head g: "mlp" with one hidden layer, "linear", or "identity".
        temperature: Temperature of the loss, above 0.
        sigma: None for DCL; a number above 0 for DCLW, which gives less weight to pairs that already agree (0.5 in the paper).
    """

    model_type = "hfcontrast_dcl"

    sigma: float | int | None = None

    def validate_sigma(self):
        """Sigma divides."""
        if self.sigma is not None and self.sigma <= 0:
            raise ValueError(f"sigma is {self.sigma}, expected a number above 0, or None for DCL without weights")


class DCL(SimCLR):
    """DCL (Yeh et al., 2021, arXiv:2110.06848): SimCLR without the positive pair in the denominator of its loss.

    In NT-Xent a pair that agrees well also reduces the gradient of its negatives, most of all in small batches; here the two are
    decoupled. With ``sigma`` it is DCLW.
    """

    config_class = DCLConfig

    def objective(self, embeddings: dict[str, Tensor]) -> MethodOutput:
        """Decoupled loss over the projections of the global batch."""
        h = embeddings["h"]
        z = F.normalize((h if self.projector is None else self.projector(h)).float(), dim=-1)
        loss = decoupled(gather(z), self.config.temperature, self.config.sigma)  # refuses a single view
        similarity = (z[:, 0] * z[:, 1]).sum(-1).mean()
        return MethodOutput(
            loss=loss,
            metrics={"positive_similarity": similarity.detach()},
            embeddings=z.detach(),
        )
