"""Relations between fields, each written once and checked twice: by the API server in CEL, here in Python.

A model names its rules in `rules`. The CRD carries their CEL and message, the model's own validator calls
their predicate, so both sides refuse the same objects with the same words.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, Self

from pydantic import BaseModel, model_validator

from ixt_workloads.contract.base import Model


@dataclass(frozen=True)
class Rule:
    """One relation of a model's fields."""

    cel: str
    """The relation in CEL, with `self` the object."""
    message: str
    """What is wrong and what to write instead."""
    holds: Callable[[Any], bool]
    """The same relation of the model."""
    field: str = ""
    """Camel-case name of the field of the object that the message is about; empty for the object itself."""


class RulesBroken(ValueError):
    """The relations that an object breaks, each with the path of its field below the object."""

    def __init__(self, broken: list[tuple[tuple[str | int, ...], str]]) -> None:
        super().__init__("; ".join(message for _, message in broken))
        self.broken = broken


class Checked(Model):
    """A model with relations between its fields."""

    rules: ClassVar[tuple[Rule, ...]] = ()

    @model_validator(mode="after")
    def _keeps_rules(self) -> Self:
        broken = [
            ((rule.field,) if rule.field else (), rule.message)
            for rule in type(self).rules
            if not rule.holds(self)
        ]
        if broken:
            raise RulesBroken(broken)
        return self


def duplicates(model: BaseModel, path: tuple[str | int, ...] = ()) -> Iterator[tuple[tuple[str | int, ...], str]]:
    """Items of named lists whose name an earlier item has, as (path of the item's name, message).

    The API server finds them by x-kubernetes-list-map-keys.
    """
    for name, field in type(model).model_fields.items():
        value, here = getattr(model, name), (*path, field.alias or name)
        if isinstance(value, BaseModel):
            yield from duplicates(value, here)
        elif isinstance(value, tuple):
            seen: set[str] = set()
            for index, item in enumerate(value):
                if not isinstance(item, BaseModel):
                    continue
                key = getattr(item, "name", None)
                if key in seen:
                    yield (*here, index, "name"), f"another item of {here[-1]} is named {key!r} already"
                if isinstance(key, str):
                    seen.add(key)
                yield from duplicates(item, (*here, index))
