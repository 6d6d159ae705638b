"""From an encoder to a method in Python: ``SimCLR.from_encoder(encoder, **settings)``."""

import difflib
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ...encoders.features import check_image_size
from ...encoders.given import read_given
from ...encoders.suitability import require_encoder
from ...encoders.timm_given import check_same_function
from ...encoders.tower_configs import is_two_towers_config
from ...encoders.weights import fill
from ...errors import ArgumentError
from ...view import View, as_views
from .arguments import needs_captions
from .declaration import called
from .kept_views import keep_views
from .modules import copy_teachers
from .settings import method_fields

if TYPE_CHECKING:
    from ..base import Method

_NAMED = 3  # tensors in a sentence, at most


def made_from_encoder(
    cls: "type[Method]", encoder: Any, settings: dict[str, Any], views: Sequence[View] | None
) -> "Method":
    """See :meth:`hfcontrast.Method.from_encoder`."""
    _check_settings(cls, settings)
    own = as_views(cls.views if views is None else views)
    seen = [view for view in own if view.name not in cls.view_encoders]
    with_texts = needs_captions(cls)
    given = read_given(encoder, [view.size for view in seen], with_texts)
    require_encoder(given.config)
    if with_texts and not is_two_towers_config(given.config):
        raise ArgumentError(
            f"encoder: {called(cls)} learns from images and texts, and {given.config.model_type!r} has no text tower: give a model with "
            "both, such as a CLIPModel or a SiglipModel"
        )
    method = cls(cls.config_class(backbone_config=given.config, **settings))
    for view in seen:
        check_image_size(method.encoder, view.size, f"view '{view.name}'")
    loaded, missing = fill(method.encoder, given.tensors, given.name, "encoder", least=0.0)
    if lacking := [name for name in missing if not name.endswith("mask_token")]:
        _tell(given.name, lacking, loaded)
    if given.module is not None:
        check_same_function(method.encoder, given.module, seen[0].size)
    _freeze(method, given.frozen)
    method.after_loading(loaded)
    copy_teachers(method)
    if views is not None:
        method.views = own
        keep_views(method)
    return method.train()


def _check_settings(cls: "type[Method]", settings: dict[str, Any]) -> None:
    """transformers keeps unknown names silently, to no effect."""
    known = [field.name for field in method_fields(cls)]
    renamed = cls.config_class.renamed_settings
    for name in settings:
        if name not in known and name not in renamed:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(known)}"
            raise ArgumentError(f"{name}: {called(cls)} has no such setting; {hint}")


def _freeze(method: "Method", names: frozenset[str]) -> None:
    """Freezes what is frozen in the encoder that was given; that it is all of it is said: so the teacher of a method is, too."""
    for name in names:
        method.encoder.get_parameter(name).requires_grad_(False)
    if not any(parameter.requires_grad for parameter in method.encoder.parameters()):
        warnings.warn(
            "all parameters of the encoder are frozen (requires_grad=False), and stay so: only the heads are trained; "
            "method.encoder.requires_grad_(True) trains it",
            UserWarning,
            stacklevel=4,
        )


def _tell(name: str, lacking: list[str], loaded: frozenset[str]) -> None:
    if not loaded:
        raise ArgumentError(f"encoder: {name!r} has none of the encoder's weights, such as {lacking[0]}")
    named = ", ".join(lacking[:_NAMED]) + f" and {len(lacking) - _NAMED} more" * (len(lacking) > _NAMED)
    warnings.warn(f"{name!r} lacks tensors of the encoder, which start at random: {named}", UserWarning, stacklevel=4)
