"""The settings: one YAML file per data set, every key a dataclass field with its type, default and meaning."""
