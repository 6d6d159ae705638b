"""The views of a saved method: where they are other than its class's, its configuration has them."""

from dataclasses import asdict
from typing import Any

from transformers import PreTrainedModel

from ...errors import ArgumentError
from ...view import View, check_views


class KeptViews(PreTrainedModel):
    """Base of methods: ``views`` of an instance outlive ``save_pretrained``, and so a run and a Trainer's checkpoint."""

    views: tuple[View, ...]

    def __init__(self, config: Any, *args: Any, **kwargs: Any):
        super().__init__(config, *args, **kwargs)
        if (found := views_of(config)) is not None:
            self.views = found

    def save_pretrained(self, *args: Any, **kwargs: Any) -> Any:
        """As in transformers; ``config.json`` has the method's views (``training_views``) where they are other than the class's."""
        keep_views(self)
        return super().save_pretrained(*args, **kwargs)


def keep_views(method: KeptViews) -> None:
    """Writes the views of a method into its configuration; None where they are its class's."""
    views = tuple(method.views)
    method.config.training_views = None if views == type(method).views else [asdict(view) for view in views]


def views_of(config: Any) -> tuple[View, ...] | None:
    """The views that a method's configuration has; None where it has none, as those of earlier versions.

    Raises:
        ArgumentError: They cannot be views.
    """
    if config.training_views is None:
        return None
    try:
        views = tuple(View(**fields) for fields in config.training_views)
        check_views(views)
    except (TypeError, ValueError) as error:
        raise ArgumentError(
            f"training_views of the method's configuration: {error}; take it out of config.json for the views of the class"
        ) from error
    return views
