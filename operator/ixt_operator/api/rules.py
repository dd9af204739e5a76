"""Relations between fields, each written once and checked twice: by the API server in CEL, here in Python.

A model names its rules in `rules`. The CRD carries their CEL and message, the model's own validator calls
their predicate, so both sides refuse the same objects with the same words.
"""

import operator
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, ClassVar, Self

from pydantic import BaseModel, model_validator

from ixt_workloads.contract.base import Model

_COMPARED = {">": operator.gt, "<": operator.lt, "<=": operator.le}

FieldPath = tuple[str | int, ...]
"""Camel-case names and list indexes that lead to a field."""

Problems = list[tuple[FieldPath, str]]
"""What is wrong with fields."""


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

    def broken_by(self, model: Any) -> bool:
        """Whether an object breaks the relation, as far as its fields are known."""
        try:
            return not self.holds(model)
        except UnknownError:
            return False


def credentials_rule(*places: str, hub: bool = True) -> Rule:
    """credentialsSecretRef is set for places in buckets and on the hub only; `places` are the fields with
    URIs."""
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


def revision_rule(place: str) -> Rule:
    """revision is set for a place on the hub only; `place` is the field with the URI."""
    return Rule(
        f"!has(self.revision) || (has(self.{place}) && self.{place}.startsWith('hf://'))",
        f"revision is for an hf:// {place} only: leave it out",
        lambda self: self.revision is None or (getattr(self, place) or "").startswith("hf://"),
        "revision",
    )


def range_rule(
    path: str, *, above: float | None = None, below: float | None = None, most: float | None = None
) -> Rule:
    """A decimal, which is a text, lies in a range; `path` are the names that lead to it, such as a.b."""
    names = path.split(".")
    bounds = [("above", ">", above), ("below", "<", below), ("at most", "<=", most)]
    given = [(said, sign, float(bound)) for said, sign, bound in bounds if bound is not None]
    missing = [f"!has(self.{'.'.join(names[: place + 1])})" for place in range(len(names))]
    inside = " && ".join(f"double(self.{path}) {sign} {bound}" for _, sign, bound in given)

    def holds(model: Any) -> bool:
        for name in names:
            if model is None:
                return True
            model = getattr(model, re.sub(r"(?=[A-Z])", "_", name).lower())
        return model is None or all(_COMPARED[sign](float(model), bound) for _, sign, bound in given)

    words = " and ".join(f"{said} {bound:g}" for said, _, bound in given)
    return Rule(" || ".join([*missing, f"({inside})"]), f"{names[-1]} must be {words}", holds, names[0])


@dataclass(frozen=True)
class Transition:
    """What an update may not change. Only the API server knows the old object, so only it checks."""

    cel: str
    """The relation in CEL, with `self` the new object and `oldSelf` the old one."""
    message: str
    """What may not change and what to do instead."""
    field: str = ""
    """Camel-case name of the field that the message is about; empty for the object itself."""


class UnknownError(AttributeError):
    """A rule asked for a value that is not known."""


def _unknown(*_: Any) -> Any:
    raise UnknownError


class _Unknown:
    __getattr__ = __bool__ = __iter__ = __len__ = _unknown
    __eq__ = __lt__ = __le__ = __gt__ = __ge__ = _unknown
    __float__ = __mul__ = __rmul__ = __mod__ = __rmod__ = __floordiv__ = _unknown


UNKNOWN: Any = _Unknown()
"""Stands for a field whose value is wrong itself: it is set, and whoever asks for more gets UnknownError."""


class BrokenRulesError(ValueError):
    """The relations that an object breaks."""


class Checked(Model):
    """A model with relations between its fields."""

    rules: ClassVar[tuple[Rule, ...]] = ()
    transitions: ClassVar[tuple[Transition, ...]] = ()

    @model_validator(mode="after")
    def _keeps_rules(self) -> Self:
        if broken := self._broken():
            raise BrokenRulesError("; ".join(message for _, message in broken))
        return self

    def _broken(self) -> Problems:
        return _broken_rules(self)


class Spec(Checked):
    """The root of a spec. Also checked is that in its lists names and Distinct scalars differ, as the API
    server does by x-kubernetes-list-type."""

    def _broken(self) -> Problems:
        return broken(self)


def broken(model: BaseModel, path: FieldPath = ()) -> Problems:
    """The relations that an object and all that is in it break. Fields of it may be UNKNOWN."""
    found = [((*path, *below), message) for below, message in _broken_rules(model)]
    for name, field in type(model).model_fields.items():
        value, here = getattr(model, name), (*path, field.alias or name)
        if isinstance(value, BaseModel):
            found += broken(value, here)
        elif isinstance(value, tuple):
            found += _repeated(value, here, distinct=field.json_schema_extra == {"uniqueItems": True})
            for index, item in enumerate(value):
                found += broken(item, (*here, index)) if isinstance(item, BaseModel) else []
    return found


def _broken_rules(model: BaseModel) -> Problems:
    rules = model.rules if isinstance(model, Checked) else ()
    return [((rule.field,) if rule.field else (), rule.message) for rule in rules if rule.broken_by(model)]


def _repeated(items: tuple[Any, ...], path: FieldPath, *, distinct: bool) -> Iterator[tuple[FieldPath, str]]:
    seen = set()
    for index, item in enumerate(items):
        named = isinstance(item, BaseModel)
        name = getattr(item, "name", None) if named else item if distinct else None
        if name is None or name is UNKNOWN:
            continue
        if name in seen:
            place = (*path, index, "name") if named else (*path, index)
            shown = f"named '{name}'" if named else repr(name)
            yield place, f"another of {path[-1]} is {shown} already"
        seen.add(name)
