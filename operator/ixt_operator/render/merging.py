"""Strategic merge patches, as `kubectl patch` and Kubernetes' API lay them over a pod template. Pure."""

from collections.abc import Mapping
from typing import Any

from ixt_operator.api.pods import DIRECTIVE, MERGE_KEYS

WHOLE = ("volumes", "resourceClaims")
"""Lists whose items are alternatives inside (a volume has one source): an item replaces that of its key."""


def patched(old: Any, patch: Any) -> Any:
    """A value with a patch laid over it; neither is changed. Maps are merged, null takes out, lists that have
    a merge key are merged by it, all others are replaced."""
    if not isinstance(patch, Mapping):
        return patch
    found = dict(old) if isinstance(old, Mapping) else {}
    for name, value in patch.items():
        if value is None:
            found.pop(name, None)
        elif name in MERGE_KEYS and isinstance(value, list):
            found[name] = _merged(name, found.get(name) or [], value)
        else:
            found[name] = patched(found.get(name), value)
    return found


def _merged(name: str, old: list[Any], patch: list[Any]) -> list[Any]:
    """A list merged by its key: items stay in their order, new ones follow."""
    key = MERGE_KEYS[name]
    if any(item.get(DIRECTIVE) == "replace" and key not in item for item in patch):
        old, patch = [], [item for item in patch if key in item]
    found = {item.get(key): item for item in old}
    for item in patch:
        value = {field: each for field, each in item.items() if field != DIRECTIVE}
        match item.get(DIRECTIVE):
            case "delete":
                found.pop(item.get(key), None)
            case "replace":
                found[item[key]] = patched({}, value)
            case _:
                before = {} if name in WHOLE else found.get(item[key], {})
                found[item[key]] = patched(before, value)
    return list(found.values())
