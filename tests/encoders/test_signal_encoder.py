"""The encoder of signals: what its features and contexts see, and its settings."""

import pytest
import torch
from transformers import AutoConfig, AutoModel

from hfcontrast.encoders import SignalEncoderConfig, SignalEncoderModel, encode, feature_size

SMALL = {"conv_dim": [8, 8, 6], "conv_kernel": [10, 4, 4], "conv_stride": [5, 2, 2], "hidden_size": 7}


def test_the_papers_encoder_has_a_feature_for_every_ten_milliseconds():
    model = SignalEncoderModel(SignalEncoderConfig())
    assert [layer.stride[0] for layer in model.convolutions] == [5, 4, 2, 2, 2]
    assert [layer.kernel_size[0] for layer in model.convolutions] == [10, 8, 4, 4, 4]
    assert {layer.out_channels for layer in model.convolutions} == {512}
    with torch.no_grad():
        outputs = model(torch.randn(1, 1, 20480))
    assert outputs.extract_features.shape == (1, 128, 512) and outputs.last_hidden_state.shape == (1, 128, 256)
    assert 0.3 < outputs.extract_features.std() < 3  # neither lost nor blown up on the way
    torch.testing.assert_close(outputs.pooler_output, outputs.last_hidden_state.mean(dim=1))


@pytest.mark.parametrize("channels", [1, 3])
def test_contexts_see_the_past_and_features_their_window(channels):
    model = SignalEncoderModel(SignalEncoderConfig(num_channels=channels, **SMALL)).double()
    signal = torch.randn(2, channels, 400, dtype=torch.float64, requires_grad=True)
    outputs = model(signal)
    assert outputs.last_hidden_state.shape == (2, 20, 7) and outputs.extract_features.shape == (2, 20, 6)
    (to_feature,) = torch.autograd.grad(outputs.extract_features[0, 10].sum(), signal, retain_graph=True)
    (to_context,) = torch.autograd.grad(outputs.last_hidden_state[0, 10].sum(), signal)
    window = to_feature[0].abs().sum(dim=0).nonzero()
    first, last = int(window.min()), int(window.max())
    assert last - first < 10 + 5 * 3 + 10 * 3  # the receptive field of the three convolutions
    reach = to_context[0].abs().sum(dim=0).nonzero()
    assert int(reach.max()) == last and int(reach.min()) < 20
    assert (to_context[1] == 0).all()


def test_one_channel_may_be_left_out():
    model = SignalEncoderModel(SignalEncoderConfig(**SMALL)).eval()
    signal = torch.randn(3, 120)
    torch.testing.assert_close(encode(model, signal), encode(model, signal.unsqueeze(1)))
    assert feature_size(model) == 7


def test_it_is_saved_and_loaded_by_its_type(tmp_path):
    model = SignalEncoderModel(SignalEncoderConfig(num_channels=2, num_hidden_layers=2, **SMALL)).eval()
    model.save_pretrained(tmp_path)
    loaded, info = AutoModel.from_pretrained(tmp_path, output_loading_info=True)
    assert type(loaded) is SignalEncoderModel and not info["missing_keys"] and not info["unexpected_keys"]
    signal = torch.randn(2, 2, 100)
    torch.testing.assert_close(encode(loaded.eval(), signal), encode(model, signal))
    assert AutoConfig.from_pretrained(tmp_path).conv_stride == [5, 2, 2]


def test_convolutions_that_do_not_fit_are_refused():
    with pytest.raises(Exception, match="of different lengths: 2, 5, 5"):
        SignalEncoderConfig(conv_dim=[8, 8])
    with pytest.raises(Exception, match="a stride above the filter's length skips samples"):
        SignalEncoderConfig(conv_dim=[8], conv_kernel=[3], conv_stride=[4])
