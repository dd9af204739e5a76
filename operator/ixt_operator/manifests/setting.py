"""What a command line sets in a manifest: `--set PATH=VALUE`."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import yaml
from pydantic import BaseModel

from ixt_operator.manifests.composing import Composed, Origin
from ixt_operator.manifests.documents import syntax_error, yaml_documents
from ixt_operator.manifests.messages import model_in, nearest
from ixt_operator.manifests.problems import ManifestError, Problem

TOP = ("metadata", "spec")
"""First words of a path; another one is a field of the spec."""


def setting(text: str, model: type[BaseModel], manifest: Any) -> Composed:
    """PATH=VALUE as a source to lay over a manifest of a model.

    In a path, entries of a list are called by their names, which must be there. The value is YAML, but of a
    field of text it is the text itself; null takes the field away. Paths of files start from the current
    folder. Raises ManifestError, which names what is nearest, for a path that the model does not have.
    """
    path, equals, value = text.partition("=")
    where = f"--set {text}"
    steps = path.strip().split(".")
    if not equals or not all(steps):
        raise _refused(where, "must be PATH=VALUE, such as stages.pretrain.train.maxTokens=2000000")
    steps = steps if steps[0] in TOP else ["spec", *steps]
    annotation, places = _at(model, manifest, steps, where)
    found = Composed(origins={(): Origin(where, 0, Path.cwd())})
    found.value = _value(value, annotation, where)
    for step, in_list in zip(reversed(steps), reversed(places), strict=True):
        found.value = [{"name": step, **found.value}] if in_list else {step: found.value}
    return found


def _at(model: type[BaseModel], manifest: Any, steps: list[str], where: str) -> tuple[Any, list[bool]]:
    """The type of what is at a path, and for each step whether it names an entry of a list."""
    annotation: Any = model
    value, places = manifest, list[bool]()
    for place, step in enumerate(steps):
        before = ".".join(steps[:place])
        inner = model_in(annotation)
        in_list = isinstance(value, list) or _holds(annotation, tuple)
        if in_list:
            if _holds(annotation, tuple) and "name" not in (inner.model_fields if inner else ()):
                raise _refused(where, f"{before} is a list: set it whole, as [1, 2]")
            entries = _named(value)
            if step not in entries:
                raise _unknown(where, before, step, entries)
            value, annotation = entries[step], inner or Any
        elif _holds(annotation, dict, Any):
            value, annotation = _inside(value, step), _of_values(annotation)
        elif inner is not None:
            fields = {each.alias or name: each for name, each in inner.model_fields.items()}
            if step not in fields:
                raise _unknown(where, before, step, sorted(fields))
            value, annotation = _inside(value, step), fields[step].annotation
        else:
            raise _refused(where, f"{before} has no fields: set {before} itself")
        places.append(in_list)
    if places[-1]:
        raise _refused(where, f"names an entry of {before}: name one of its fields")
    return annotation, places


def _named(value: Any) -> dict[str, Any]:
    """The entries of a list that have names."""
    items = value if isinstance(value, list) else []
    return {
        item["name"]: item for item in items if isinstance(item, dict) and isinstance(item.get("name"), str)
    }


def _inside(value: Any, name: str) -> Any:
    return value.get(name) if isinstance(value, dict) else None


def _value(text: str, annotation: Any, where: str) -> Any:
    """What a text means to a field of a type."""
    if text == "null":
        return None
    if _is_text(annotation):
        return text
    try:
        documents = [*yaml_documents(text)]
    except yaml.YAMLError as error:
        raise _refused(where, syntax_error(error)[1]) from None
    if len(documents) > 1 or any(document.problems for document in documents):
        raise _refused(where, "the value must be one of YAML")
    return documents[0].value if documents else None


def _is_text(annotation: Any) -> bool:
    """Whether a field takes text and nothing else: what a shell makes of it needs no quotes within quotes."""
    kinds = {*_kinds(annotation)} - {type(None)}
    return bool(kinds) and all(isinstance(kind, type) and issubclass(kind, str) for kind in kinds)


def _holds(annotation: Any, *kinds: Any) -> bool:
    return any(kind in kinds for kind in _kinds(annotation))


def _of_values(annotation: Any) -> Any:
    """The type of the values of a mapping."""
    return get_args(annotation)[1] if get_origin(annotation) is dict else Any


def _kinds(annotation: Any) -> Iterator[Any]:
    """The classes that a value of a type may be of: for a list or a mapping, not those of its items."""
    origin, parts = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        yield from _kinds(parts[0])
    elif origin is Literal:
        yield from map(type, parts)
    elif origin in (Union, UnionType):
        for part in parts:
            yield from _kinds(part)
    else:
        yield origin or annotation


def _unknown(where: str, before: str, step: str, known: Iterable[str]) -> ManifestError:
    names = [*known]
    near = nearest(step, names) or (f": there are {', '.join(names)}" if names else ": there are none")
    return _refused(where, f"{before or 'a run'} has no {step}{near}")


def _refused(where: str, message: str) -> ManifestError:
    return ManifestError([Problem(where, 0, "", message)])
