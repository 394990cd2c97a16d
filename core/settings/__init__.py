"""The settings: one YAML file per data set, every key a field of a class with its type, default and meaning.

What stages run (`components/`, `trainer/`) imports the module of its section, so that no other section is part of its
cache key.
"""

from core.settings.converter import from_dict, from_json, to_dict, to_json
from core.settings.ineffective import ineffective
from core.settings.loading import load, split_overrides
from core.settings.settings import Settings

__all__ = ["Settings", "from_dict", "from_json", "ineffective", "load", "split_overrides", "to_dict", "to_json"]
