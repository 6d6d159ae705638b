"""BySetting: an attribute of a method's class whose value depends on one of its settings."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class BySetting:
    """A value that depends on a setting of the method: ``min_images = BySetting("negatives", {"batch": 2}, otherwise=1)``.

    Args:
        setting: The setting's name.
        values: Values by what the setting is.
        otherwise: The value for everything else that it may be.
    """

    setting: str
    values: Mapping[Any, int]
    otherwise: int

    def resolve(self, config_class: type, options: Mapping[str, Any]) -> int:
        """The value for a recipe.

        Args:
            config_class: The configuration of the method, which has the setting's default.
            options: The method's settings in the recipe.
        """
        given = options.get(self.setting, getattr(config_class, self.setting, None))
        return next((value for key, value in self.values.items() if key == given), self.otherwise)
