"""The settings: one YAML file per data set, every key a dataclass field with its type, default and meaning.

What stages run (`components/`, `trainer/`) imports the module of its section, so that no other section is part of its
cache key.
"""

from core.settings.ineffective import ineffective
from core.settings.loading import from_dict, load, split_overrides, to_dict
from core.settings.settings import Settings

__all__ = ["Settings", "from_dict", "ineffective", "load", "split_overrides", "to_dict"]
