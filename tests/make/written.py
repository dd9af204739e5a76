"""Values without quotes in YAML: as what they reach the API server, or why they do not.

The same table runs against `ixt validate` and against kubectl with a real API server.
"""

import re
from dataclasses import dataclass
from typing import Any

from ixt_operator.manifests.documents import dump
from make import runs
from make.limits import put


@dataclass(frozen=True)
class Written:
    """A field as it is written in a manifest."""

    path: str
    text: str
    value: Any = None
    """What the field is then; None for one that is left out or refused."""
    message: str = ""
    """What is said of one that is refused."""

    def manifest(self) -> str:
        """A run in YAML with the field."""
        return dump(put(runs.applied(), self.path, "@")).replace("'@'", self.text)


def at(value: Any, path: str) -> Any:
    """The value at a path; None where there is none."""
    for step in re.findall(r"[^.\[\]]+", path):
        value = value[int(step)] if isinstance(value, list) else (value or {}).get(step)
    return value


COUNT, SWITCH, WORDS = "spec.maxParallelLanes", "spec.suspend", "spec.conditioning.inferenceFeedback"
AMOUNT = "spec.stages[0].train.resourcesPerNode.limits.cpu"
BIG = 2**63

WRITTEN = [
    *(
        Written(COUNT, text, value)
        for text, value in {
            **{"7": 7, "+7": 7, "007": 7, "08": 8, "010": 8, "0o17": 15, "0x1F": 31, "0b11": 3, "1_0": 10},
            **{
                "1.0": 1,
                "1.": 1,
                "1e2": 100,
                "1E2": 100,
                "1e+2": 100,
                "2.5e1": 25,
                "0.2e2": 20,
                "512.000": 512,
            },
            **{"~": 1, "null": 1, "": 1, "!!int 3": 3, "!!float 3": 3},
        }.items()
    ),
    *(
        Written(COUNT, text, message=message)
        for text, message in {
            "1.5": "must be a whole number, not 1.5",
            ".5": "must be a whole number, not 0.5",
            "1e-1": "must be a whole number, not 0.1",
            "1e3": "must be at most 512, not 1000",
            "1_000": "must be at most 512, not 1000",
            "-0o17": "must be at least 1, not -15",
            "1:30": "must be a whole number, not '1:30'",
            "1,5": "must be a whole number, not '1,5'",
            "2026-01-01": "must be a whole number, not '2026-01-01'",
            "yes": "must be a whole number, not true",
            "'5'": "must be a whole number, not '5'",
            "0o8": "must be a whole number, not '0o8'",
            ".inf": "cannot be read as tag:yaml.org,2002:float",
            ".NaN": "cannot be read as tag:yaml.org,2002:float",
            f"{BIG}": f"must be at most 512, not {BIG}",
            "1e30": f"must be at most 512, not {int(1e30)}",
        }.items()
    ),
    *(Written(SWITCH, word, True) for word in ("true", "True", "TRUE", "yes", "Yes", "on", "ON", "y", "Y")),
    *(Written(SWITCH, word, False) for word in ("false", "False", "no", "NO", "off", "n", "N", "~", "null")),
    *(
        Written(SWITCH, text, message=f"must be true or false, not {said}")
        for text, said in {"tRue": "'tRue'", "'yes'": "'yes'", "1": "1", "0.5": "0.5"}.items()
    ),
    *(
        Written(WORDS, text, text)
        for text in (
            "2026-01-01",
            "1:30",
            "1:30:00",
            "0o8",
            "0x",
            "1e",
            "nUll",
            "yEs",
            "1e400",
            "_1",
            "=",
        )
    ),
    Written(WORDS, "'0x10'", "0x10"),
    Written(WORDS, "!!str 7", "7"),
    Written(WORDS, "~"),
    *(
        Written(WORDS, text, message=f"must be text, not {said}: put it in quotes")
        for text, said in {
            **{"7": "7", "0x10": "16", "017": "15", "1_000": "1000", "1.0": "1", "3e-4": "0.0003"},
            **{"yes": "true", "n": "false", "off": "false"},
        }.items()
    ),
    *(
        Written(AMOUNT, text, value)
        for text, value in {
            **{"2": 2, "1.0": 1, "1e3": 1000, "010": 8, "0x10": 16, "1_000": 1000, "-0": 0, "500m": "500m"},
            **{"'0.5'": "0.5", "1Ki": "1Ki", "'1e3'": "1e3", f"{BIG - 1}": BIG - 1, "~": None},
        }.items()
    ),
    *(
        Written(AMOUNT, text, message=message)
        for text, message in {
            "0.5": "write the number as a string: '0.5'",
            ".5": "write the number as a string: '0.5'",
            "1e-3": "write the number as a string: '0.001'",
            "-1": "must be an amount as Kubernetes writes it",
            "1:30": "must be an amount as Kubernetes writes it",
            "yes": "must be text, not true",
            f"{BIG}": f"write the number as a string: '{BIG}'",
            "1e19": f"write the number as a string: '{10**19}'",
        }.items()
    ),
]
