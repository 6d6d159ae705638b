"""Without a network, everything on the Hub is reported as unreachable, however it is named."""

import socket

import pytest
from transformers import AutoConfig, AutoTokenizer

from hfcontrast import hub
from hfcontrast.commands.models import open_model
from hfcontrast.data import available_splits, load_rows
from hfcontrast.encoders.pretrained import read_pretrained
from hfcontrast.errors import HFContrastError

NAME = "someone/something"


@pytest.fixture(params=["refused", "silent"])
def no_network(request, monkeypatch):
    """An address of the Hub that does not answer: at once, or never."""
    listening = socket.socket()
    listening.bind(("127.0.0.1", 0))
    if request.param == "silent":
        listening.listen(16)  # takes connections, says nothing
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", f"http://127.0.0.1:{listening.getsockname()[1]}")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", False)
    monkeypatch.setattr(hub, "_SECONDS", 0.2)
    hub._problem.cache_clear()
    yield
    hub._problem.cache_clear()
    listening.close()


def test_what_is_on_the_hub_is_out_of_reach(no_network, tmp_path):
    for read in (
        lambda: load_rows(NAME),
        lambda: load_rows(NAME, streaming=True),
        lambda: available_splits(NAME),
        lambda: read_pretrained(AutoConfig, NAME, "backbone.pretrained"),
        lambda: read_pretrained(AutoTokenizer, NAME, "text.tokenizer"),
        lambda: open_model(NAME),
    ):
        with pytest.raises(
            HFContrastError, match=r"http://127.0.0.1:\d+ cannot be reached: .*in no cache of this machine"
        ):
            read()
    from huggingface_hub import constants

    assert not constants.HF_HUB_OFFLINE  # as before
    assert load_rows("builtin/digits", split="test[:5]").num_rows == 5
    with pytest.raises(HFContrastError) as caught:
        load_rows(str(tmp_path))
    assert "cannot be reached" not in str(caught.value)
