"""Keys: the name that an artifact has before it is made.

key = sha256 over the canonical JSON of {kind, version, config, inputs}. The config is the step's semantic
one: fields marked `NotInKey` and fields equal to their default are left out, decimals are normalised. A
default therefore never changes its meaning. The object that is hashed, the preimage, is kept in the
artifact's manifest, so that two keys can be compared field by field.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from decimal import Decimal as Number
from functools import cache
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from ixt_workloads.contract.base import DecimalMark, Mark
from ixt_workloads.contract.configs import Config

KEY_LENGTH = 32


def canonical(model: BaseModel) -> dict[str, Any]:
    """The semantic part of a config as plain JSON values, without defaults.

    Raises TypeError for a field without a mark.
    """
    found: dict[str, Any] = {}
    for name, field, default in _semantic(type(model)):
        value = _plain(getattr(model, name), field)
        if field.is_required() or value != default:
            found[field.alias or name] = value
    return found


@cache
def _semantic(kind: type[BaseModel]) -> tuple[tuple[str, FieldInfo, Any], ...]:
    """The fields that are part of keys, each with its default as a plain JSON value."""
    return tuple(
        (name, field, _plain(field.get_default(call_default_factory=True), field))
        for name, field in kind.model_fields.items()
        if mark_of(field, name) is Mark.IN_KEY
    )


def mark_of(field: FieldInfo, name: str) -> Mark:
    """The one mark of a field."""
    marks = [mark for mark in field.metadata if isinstance(mark, Mark)]
    if len(marks) != 1:
        raise TypeError(f"field {name} needs exactly one of InKey and NotInKey")
    return marks[0]


def _plain(value: Any, field: FieldInfo) -> Any:
    if isinstance(value, BaseModel):
        return canonical(value)
    if isinstance(value, tuple):
        return [_plain(item, field) for item in value]
    if isinstance(value, str) and any(isinstance(mark, DecimalMark) for mark in field.metadata):
        return _normal(value)
    return value


def _normal(text: str) -> str:
    number = Number(text).normalize()
    return "0" if number == 0 else f"{number:f}" if -9 < number.adjusted() < 18 else str(number)


def preimage(config: Config, version: int, inputs: Mapping[str, str]) -> dict[str, Any]:
    """What a key is hashed from. `version` is the kind's; `inputs` has the inputs' keys and pins by role."""
    return {
        "kind": config.kind,
        "version": version,
        "config": canonical(config),
        "inputs": dict(sorted(inputs.items())),
    }


def key_of(image: Mapping[str, Any]) -> str:
    """The key of a preimage: 32 hexadecimal digits."""
    text = json.dumps(image, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:KEY_LENGTH]


def differences(old: Any, new: Any, path: str = "") -> Iterator[tuple[str, Any, Any]]:
    """The fields in which two preimages differ, as (path, old, new); None stands for the default."""
    # In a group of fields that is left out, every field has its default.
    if old is None and isinstance(new, Mapping) and new:
        old = {}
    if new is None and isinstance(old, Mapping) and old:
        new = {}
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for name in sorted({*old, *new}):
            yield from differences(old.get(name), new.get(name), f"{path}.{name}" if path else name)
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        for index, (left, right) in enumerate(zip(old, new, strict=True)):
            yield from differences(left, right, f"{path}[{index}]")
    elif old != new:
        yield path, old, new
