"""A Hub on this machine for the tests of uploads."""

import time
from types import SimpleNamespace

import pytest
from local_hub import LocalHub

from hfcontrast.publishing import push as pushing


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """A Hub that huggingface_hub talks to, with a token that may write."""
    made = LocalHub()
    for name, value in (
        ("ENDPOINT", made.address),
        ("HUGGINGFACE_CO_URL_TEMPLATE", made.address + "/{repo_id}/resolve/{revision}/{filename}"),
        ("HF_HUB_OFFLINE", False),
        ("HF_HUB_DISABLE_XET", True),
        ("HF_TOKEN_PATH", str(tmp_path / "no_token")),
    ):
        monkeypatch.setattr(f"huggingface_hub.constants.{name}", value)
    monkeypatch.setattr(pushing, "PAUSE", 0.0)
    at_once = SimpleNamespace(**vars(time) | {"sleep": lambda seconds: None})
    monkeypatch.setattr("huggingface_hub.utils._http.time", at_once)
    monkeypatch.setenv("HF_TOKEN", "hf_writes")
    yield made
    made.close()
