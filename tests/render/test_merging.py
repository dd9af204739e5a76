"""Strategic merge patches: the same comes out as of `kubectl patch --type=strategic`."""

from typing import Any

import pytest

from ixt_operator.render.merging import patched

POD = {
    "nodeSelector": {"pool": "a"},
    "tolerations": [{"key": "gpu"}],
    "containers": [{"name": "main", "image": "a:1", "env": [{"name": "A", "value": "1"}]}, {"name": "log"}],
    "volumes": [{"name": "cache", "emptyDir": {}}, {"name": "tmp", "emptyDir": {}}],
}


@pytest.mark.parametrize(
    ("patch", "changed"),
    [
        ({}, {}),
        ({"nodeSelector": {"disk": "b"}}, {"nodeSelector": {"pool": "a", "disk": "b"}}),
        ({"nodeSelector": None}, {"nodeSelector": None}),
        ({"nodeSelector": {"pool": None}}, {"nodeSelector": {}}),
        ({"tolerations": [{"key": "spot"}]}, {"tolerations": [{"key": "spot"}]}),
        (
            {
                "containers": [
                    {"name": "main", "env": [{"name": "B", "value": "2"}, {"name": "A", "value": "3"}]}
                ]
            },
            {
                "containers": [
                    {
                        "name": "main",
                        "image": "a:1",
                        "env": [{"name": "A", "value": "3"}, {"name": "B", "value": "2"}],
                    },
                    {"name": "log"},
                ]
            },
        ),
        (
            {"containers": [{"name": "log", "$patch": "delete"}, {"name": "mesh", "image": "m:1"}]},
            {"containers": [POD["containers"][0], {"name": "mesh", "image": "m:1"}]},  # type: ignore[index]
        ),
        (
            {"volumes": [{"name": "cache", "persistentVolumeClaim": {"claimName": "hub"}}]},
            {
                "volumes": [
                    {"name": "cache", "persistentVolumeClaim": {"claimName": "hub"}},
                    {"name": "tmp", "emptyDir": {}},
                ]
            },
        ),
        (
            {"volumes": [{"$patch": "replace"}, {"name": "only", "emptyDir": {}}]},
            {"volumes": [{"name": "only", "emptyDir": {}}]},
        ),
        ({"affinity": {"podAffinity": {"a": [1]}}}, {"affinity": {"podAffinity": {"a": [1]}}}),
    ],
)
def test_a_patch(patch: dict[str, Any], changed: dict[str, Any]) -> None:
    before = repr(POD)
    wanted = {name: value for name, value in {**POD, **changed}.items() if value is not None}
    assert patched(POD, patch) == wanted
    assert repr(POD) == before
