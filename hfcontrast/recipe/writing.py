"""Settings as YAML."""

from typing import Any

import yaml

from .reading import NUMBER


def as_yaml(values: dict[str, Any]) -> str:
    """Settings as YAML that :func:`~.recipe.load_recipe` reads back."""
    return yaml.dump(values, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=110)


class _Dumper(yaml.SafeDumper):
    """Writes lists in one line, and numbers and texts so that YAML 1.1 and 1.2 readers agree on them."""

    def represent_list(self, values: Any) -> yaml.SequenceNode:
        return self.represent_sequence("tag:yaml.org,2002:seq", values, flow_style=True)


_Dumper.add_representer(list, _Dumper.represent_list)
_Dumper.add_implicit_resolver("tag:yaml.org,2002:float", NUMBER, None)  # so that the text '1e-4' gets quotes
