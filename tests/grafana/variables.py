"""A dashboard's variables, as Grafana fills them in."""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

Value = str | Sequence[str]


class VariableError(RuntimeError):
    """A variable has no value, or is asked for in a format that is not known."""


class Pattern(str):
    """A value that is a regular expression already: what a variable says stands for all."""


_FALLING = (2, 4, 6, 8)
"""Orders of a variable that put its last value first, by Grafana's numbers."""
_REFERENCE = re.compile(
    r"\$\{(?P<braced>\w+)(?::(?P<braced_format>\w+))?\}|\[\[(?P<old>\w+)(?::(?P<old_format>\w+))?\]\]|\$(?P<plain>\w+)"
)


def fill(text: str, variables: Mapping[str, Value], default: str) -> str:
    """Text with its `$name`, `${name:format}` and `[[name]]` filled in; names that are not known
    stay. `default` is the format of those that name none: `prometheus` in queries, `text` elsewhere."""

    def replace(match: re.Match[str]) -> str:
        name = match["braced"] or match["old"] or match["plain"]
        if name not in variables:
            return match[0]
        return formatted(variables[name], match["braced_format"] or match["old_format"] or default)

    return _REFERENCE.sub(replace, text)


def fill_all(tree: Any, variables: Mapping[str, Value]) -> Any:
    """The same for all strings of a piece of JSON."""
    match tree:
        case str():
            return fill(tree, variables, "text")
        case list():
            return [fill_all(inner, variables) for inner in tree]
        case dict():
            return {key: fill_all(inner, variables) for key, inner in tree.items()}
        case _:
            return tree


def formatted(value: Value, form: str) -> str:
    """A value in one of Grafana's formats. Raises VariableError for one that is not known."""
    values = [value] if isinstance(value, str) else list(value)
    match form:
        case "regex":
            return _any_of(values, _escaped)
        case "prometheus":
            # A single value stands as it is, so that it may be an expression of its own.
            return value if isinstance(value, str) else _any_of(values, _escaped_twice)
        case "pipe":
            return "|".join(values)
        case "csv":
            return ",".join(values)
        case "text":
            return " + ".join(values)
        case "raw":
            return value if isinstance(value, str) else "{" + ",".join(values) + "}"
        case "glob":
            return values[0] if len(values) == 1 else "{" + ",".join(values) + "}"
        case "json":
            return json.dumps(value)
        case "doublequote" | "singlequote":
            mark = {"doublequote": '"', "singlequote": "'"}[form]
            return ",".join(f"{mark}{one}{mark}" for one in values)
        case _:
            raise VariableError(f"variables have no format {form}")


def _any_of(values: list[str], escape: Callable[[str], str]) -> str:
    escaped = [escape(value) for value in values]
    return escaped[0] if len(escaped) == 1 else f"({'|'.join(escaped)})"


def _escaped(value: str) -> str:
    return value if _is_pattern(value) else re.sub(r"([\\^$*+?.()|{}\[\]/])", r"\\\1", value)


def _escaped_twice(value: str) -> str:
    # Once for the regular expression, once for PromQL's string.
    return value if _is_pattern(value) else re.sub(r"([\\^$*+?.()|{}\[\]'])", r"\\\\\1", value)


def _is_pattern(value: str) -> bool:
    return isinstance(value, Pattern) or value in {".*", ".+"}


def of_dashboard(
    dashboard: Mapping[str, Any],
    given: Mapping[str, Value],
    label_values: Callable[[str], Sequence[str]],
) -> dict[str, Value]:
    """Values of all variables of a dashboard: those that are given, else what the dashboard has saved, else
    the first that there is. `label_values` answers a query such as `label_values(up, job)`."""
    values: dict[str, Value] = {}
    for variable in (dashboard.get("templating") or {}).get("list") or []:
        name = variable["name"]
        if name in given:
            values[name] = given[name]
        elif variable["type"] not in {"datasource", "adhoc"}:
            values[name] = _saved(variable, {**given, **values}, label_values)
    return {**given, **values}


def _saved(
    variable: Mapping[str, Any],
    known: Mapping[str, Value],
    label_values: Callable[[str], Sequence[str]],
) -> Value:
    saved = (variable.get("current") or {}).get("value")
    if saved in ("$__all", ["$__all"]):
        return Pattern(variable.get("allValue") or ".*")
    if saved:
        return str(saved) if isinstance(saved, str) else [str(value) for value in saved]
    asked = variable.get("query") or ""
    if variable["type"] != "query":
        return str(asked).split(",")[0].split(" : ")[-1].strip()
    if variable.get("includeAll"):
        return Pattern(variable.get("allValue") or ".*")
    text = asked if isinstance(asked, str) else str(asked.get("query", ""))
    found = label_values(fill(text, known, "prometheus"))
    if not found:
        raise VariableError(f"variable {variable['name']} has no value: {text} finds none")
    return found[-1] if variable.get("sort") in _FALLING else found[0]
