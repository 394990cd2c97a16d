"""The settings: one YAML file per data set, in which every key is a field of a class with type, default and meaning.

What stages run (`components/`, `trainer/`) imports only the module of its own section, so that no other section is part
of its cache key.
"""

from core.settings.converter import from_dict, from_json, to_dict, to_json
from core.settings.ineffective import ineffective
from core.settings.loading import load, split_overrides
from core.settings.settings import Settings

__all__ = ["Settings", "from_dict", "from_json", "ineffective", "load", "split_overrides", "to_dict", "to_json"]
