"""Settings from plain values and back: strict, for YAML and for the JSON that components are given."""

from __future__ import annotations

import json
from typing import Any, TypeVar

import cattrs
from cattrs.gen import make_dict_structure_fn, make_dict_unstructure_fn, override

from core.settings.training import FineTuneConfig, LearningRateConfig

T = TypeVar("T")


def make_converter() -> cattrs.Converter:
    """A strict converter between these classes and plain YAML/JSON values.

    Unknown keys and wrong types are errors; nothing is coerced but int to float.
    """
    converter = cattrs.Converter(forbid_extra_keys=True)

    def strict(kind: type, accepted: tuple[type, ...], words: str) -> None:
        def structure(value: Any, _: type) -> Any:
            if isinstance(value, bool) != (kind is bool) or not isinstance(value, accepted):
                raise TypeError(f"expected {words}, found {value!r}")
            return kind(value)

        converter.register_structure_hook(kind, structure)

    strict(bool, (bool,), "true or false")
    strict(int, (int,), "a whole number")
    strict(float, (int, float), "a number")
    strict(str, (str,), "text")

    def texts(value: Any, _: type) -> tuple[str, ...]:
        if not isinstance(value, list | tuple):
            raise TypeError(f"expected a list of text, found {value!r}")
        return tuple(converter.structure(item, str) for item in value)

    converter.register_structure_hook_func(lambda kind: kind == tuple[str, ...], texts)

    renamed = override(rename="from")
    converter.register_structure_hook(
        FineTuneConfig,
        make_dict_structure_fn(FineTuneConfig, converter, _cattrs_forbid_extra_keys=True, from_layer=renamed),
    )
    converter.register_unstructure_hook(
        FineTuneConfig, make_dict_unstructure_fn(FineTuneConfig, converter, from_layer=renamed)
    )

    structure_schedule = make_dict_structure_fn(LearningRateConfig, converter, _cattrs_forbid_extra_keys=True)

    def learning_rate(value: Any, _: type) -> LearningRateConfig:
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            return LearningRateConfig(values=(float(value),))
        if not isinstance(value, dict):
            raise TypeError(f"expected a number, or boundaries and values, found {value!r}")
        return structure_schedule(value, LearningRateConfig)

    converter.register_structure_hook(LearningRateConfig, learning_rate)
    return converter


def to_json(value: Any) -> str:
    """A settings dataclass as JSON, for a component's parameter or `custom_config`: equal values give equal text."""
    return json.dumps(make_converter().unstructure(value), sort_keys=True)


def from_json(text: str, cls: type[T]) -> T:
    """The inverse of `to_json`. Raises what cattrs raises where the text does not fit."""
    return make_converter().structure(json.loads(text), cls)
