"""The encoder of CPC for one-dimensional signals: strided convolutions, then a recurrent network over what they found.

With ``exported_code.py`` beside it this file is self-contained: an exported encoder carries both along, and loads with
``AutoModel.from_pretrained(folder, trust_remote_code=True)``, or with ``AutoModelForAudioClassification`` for fine-tuning, where
hfcontrast is not installed.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import CONFIG_MAPPING, AutoConfig, AutoModel, AutoModelForAudioClassification, PreTrainedModel
from transformers.modeling_outputs import SequenceClassifierOutput
from transformers.utils import ModelOutput

from .exported_code import AutoMapped, PreTrainedConfig, init, strict


@strict
class SignalEncoderConfig(PreTrainedConfig):
    """Configuration of the encoder of signals; the defaults are those of van den Oord et al. for speech at 16 kHz.

    Args:
        num_channels: Channels of the signal: 1 for mono audio.
        conv_dim: Width of each convolution; the last one is that of the features.
        conv_kernel: Length of each convolution's filters, in steps of its input.
        conv_stride: Stride of each convolution; their product, 160 here, is the distance of two features in samples.
        hidden_size: Width of the contexts, the outputs of the recurrent network.
        num_hidden_layers: Recurrent layers.
    """

    model_type = "signal_encoder"

    num_channels: int = 1
    conv_dim: list[int] | tuple[int, ...] = (512, 512, 512, 512, 512)
    conv_kernel: list[int] | tuple[int, ...] = (10, 8, 4, 4, 4)
    conv_stride: list[int] | tuple[int, ...] = (5, 4, 2, 2, 2)
    hidden_size: int = 256
    num_hidden_layers: int = 1

    def validate_convolutions(self):
        """Every convolution has a width, a length and a stride."""
        sizes = (self.conv_dim, self.conv_kernel, self.conv_stride)
        if not self.conv_dim or len({len(values) for values in sizes}) > 1:
            raise ValueError(
                "conv_dim, conv_kernel and conv_stride are of different lengths: "
                f"{', '.join(str(len(values)) for values in sizes)}; expected one number in each for each convolution"
            )
        if any(stride > kernel for kernel, stride in zip(self.conv_kernel, self.conv_stride)):
            raise ValueError(
                f"conv_stride is {list(self.conv_stride)} with conv_kernel {list(self.conv_kernel)}: "
                "a stride above the filter's length skips samples"
            )


@dataclass
class SignalEncoderOutput(ModelOutput):
    """What the encoder makes of a signal.

    Args:
        last_hidden_state: (B, T, hidden_size) contexts: each of all features so far.
        pooler_output: (B, hidden_size) their mean over time.
        extract_features: (B, T, conv_dim[-1]) features: each of a short window of the signal.
    """

    last_hidden_state: Tensor | None = None
    pooler_output: Tensor | None = None
    extract_features: Tensor | None = None


class SignalEncoderPreTrainedModel(AutoMapped, PreTrainedModel):
    """What both models share."""

    config_class = SignalEncoderConfig
    main_input_name = "input_values"
    base_model_prefix = "signal_encoder"
    auto_classes = {
        "AutoModel": "signal_encoder.SignalEncoderModel",
        "AutoModelForAudioClassification": "signal_encoder.SignalEncoderForAudioClassification",
    }

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, nn.Conv1d):
            init.kaiming_normal_(module.weight, nonlinearity="relu")  # keeps the scale through all the convolutions
            init.zeros_(module.bias)
        elif isinstance(module, nn.GRU):
            for parameter in module.parameters():
                init.uniform_(parameter, -(module.hidden_size**-0.5), module.hidden_size**-0.5)
        elif isinstance(module, nn.Linear):
            init.normal_(module.weight, std=0.02)
            init.zeros_(module.bias)


class SignalEncoderModel(SignalEncoderPreTrainedModel):
    """Strided convolutions with ReLU, and a GRU over their outputs (van den Oord et al., 2018, arXiv:1807.03748, section 3.1).

    The padding, which the paper does not state, makes the number of features the signal's length divided by the product of
    the strides, where that is a whole number. There is no normalization.
    """

    def __init__(self, config: SignalEncoderConfig):
        super().__init__(config)
        widths = [config.num_channels, *config.conv_dim]
        self.convolutions = nn.ModuleList(
            nn.Conv1d(before, after, kernel, stride, padding=(kernel - stride + 1) // 2)
            for before, after, kernel, stride in zip(widths, widths[1:], config.conv_kernel, config.conv_stride)
        )
        self.gru = nn.GRU(widths[-1], config.hidden_size, config.num_hidden_layers, batch_first=True)
        self.post_init()

    def forward(self, input_values: Tensor, **kwargs) -> SignalEncoderOutput:
        """Encodes signals of one length.

        Args:
            input_values: (B, C, T), of about zero mean and unit variance; or (B, T) for one channel.
            kwargs: Ignored.
        """
        values = input_values.unsqueeze(1) if input_values.ndim == 2 else input_values
        for convolution in self.convolutions:
            values = F.relu(convolution(values))
        features = values.transpose(1, 2)
        contexts, _ = self.gru(features)
        return SignalEncoderOutput(contexts, contexts.mean(dim=1), features)


class SignalEncoderForAudioClassification(SignalEncoderPreTrainedModel):
    """The same with a linear classifier of the contexts' mean."""

    def __init__(self, config: SignalEncoderConfig):
        super().__init__(config)
        self.signal_encoder = SignalEncoderModel(config)
        self.classifier = nn.Linear(config.hidden_size, config.num_labels)
        self.post_init()

    def forward(self, input_values: Tensor, labels: Tensor | None = None, **kwargs) -> SequenceClassifierOutput:
        """(B, C, T) or (B, T) to ``logits`` (B, num_labels), and with ``labels`` (B,) the cross-entropy as ``loss``."""
        logits = self.classifier(self.signal_encoder(input_values).pooler_output)
        loss = None if labels is None else F.cross_entropy(logits, labels)
        return SequenceClassifierOutput(loss=loss, logits=logits)


if SignalEncoderConfig.model_type not in CONFIG_MAPPING:  # where hfcontrast is installed, its own classes stay
    AutoConfig.register(SignalEncoderConfig.model_type, SignalEncoderConfig)
    AutoModel.register(SignalEncoderConfig, SignalEncoderModel)
    AutoModelForAudioClassification.register(SignalEncoderConfig, SignalEncoderForAudioClassification)
SignalEncoderConfig.register_for_auto_class()
SignalEncoderModel.register_for_auto_class("AutoModel")
SignalEncoderForAudioClassification.register_for_auto_class("AutoModelForAudioClassification")
