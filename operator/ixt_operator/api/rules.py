"""Relations between fields, each written once and checked twice: by the API server in CEL, here in Python.

A model names its rules in `rules`. The CRD carries their CEL and message, the model's own validator calls
their predicate, so both sides refuse the same objects with the same words.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, ClassVar, Self

from pydantic import BaseModel, model_validator

from ixt_workloads.contract.base import Model

Path = tuple[str | int, ...]
"""Camel-case names and list indexes that lead to a field."""


def words(members: Iterable[StrEnum]) -> str:
    """Members of an enum as a list in CEL, for `in`."""
    return str([str(member) for member in members])


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


def credentials_rule(*places: str, hub: bool = True) -> Rule:
    """Only places in buckets and on the hub are read with credentials; `places` are the fields with URIs."""
    schemes = ("s3://", "gs://", *(["hf://"] if hub else []))
    takes = (
        f"(has(self.{place}) && self.{place}.startsWith('{scheme}'))"
        for place in places
        for scheme in schemes
    )
    return Rule(
        " || ".join(["!has(self.credentialsSecretRef)", *takes]),
        f"credentialsSecretRef is for {', '.join(schemes[:-1])} and {schemes[-1]} only: leave it out",
        lambda self: (
            self.credentials_secret_ref is None
            or any((getattr(self, place) or "").startswith(schemes) for place in places)
        ),
        "credentialsSecretRef",
    )


@dataclass(frozen=True)
class Transition:
    """What an update may not change. Only the API server knows the old object, so only it checks."""

    cel: str
    """The relation in CEL, with `self` the new object and `oldSelf` the old one."""
    message: str
    """What may not change and what to do instead."""
    field: str = ""
    """Camel-case name of the field that the message is about; empty for the object itself."""


class BrokenRulesError(ValueError):
    """The relations that an object breaks, each with the path of its field below the object."""

    def __init__(self, broken: list[tuple[Path, str]]) -> None:
        super().__init__("; ".join(message for _, message in broken))
        self.broken = broken


class Checked(Model):
    """A model with relations between its fields."""

    rules: ClassVar[tuple[Rule, ...]] = ()
    transitions: ClassVar[tuple[Transition, ...]] = ()

    @model_validator(mode="after")
    def _keeps_rules(self) -> Self:
        if broken := self._broken():
            raise BrokenRulesError(broken)
        return self

    def _broken(self) -> list[tuple[Path, str]]:
        return [
            ((rule.field,) if rule.field else (), rule.message)
            for rule in type(self).rules
            if not rule.holds(self)
        ]


class Spec(Checked):
    """The root of a spec: also, the names in each of its named lists differ.

    The API server finds the same by x-kubernetes-list-map-keys.
    """

    def _broken(self) -> list[tuple[Path, str]]:
        return [*super()._broken(), *_duplicates(self, ())]


def _duplicates(model: BaseModel, path: Path) -> Iterator[tuple[Path, str]]:
    for name, field in type(model).model_fields.items():
        value, here = getattr(model, name), (*path, field.alias or name)
        if isinstance(value, BaseModel):
            yield from _duplicates(value, here)
        elif isinstance(value, tuple) and value and isinstance(value[0], BaseModel):
            names = [getattr(item, "name", None) for item in value]
            for index, item in enumerate(value):
                if names[index] is not None and names[index] in names[:index]:
                    yield (*here, index, "name"), f"another of {here[-1]} is named '{names[index]}' already"
                yield from _duplicates(item, (*here, index))
