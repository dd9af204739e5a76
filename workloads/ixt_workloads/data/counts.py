"""Counts of what one file of an artifact holds, kept in the file's metadata and summed over the artifact."""

import json
from collections import Counter
from typing import Self


class Counts:
    """Base of a dataclass whose fields are numbers and Counters."""

    def merge(self, other: Self) -> None:
        """Add another file's counts to these."""
        for name, value in vars(other).items():
            mine = getattr(self, name)
            if isinstance(mine, Counter):
                mine.update(value)
            else:
                setattr(self, name, mine + value)

    def to_json(self) -> bytes:
        """JSON for the file's metadata."""
        return json.dumps(vars(self), sort_keys=True).encode()

    @classmethod
    def from_json(cls, text: bytes) -> Self:
        """The counts that `to_json` wrote, of those fields that this version knows."""
        found = cls()
        for name, value in json.loads(text).items():
            if hasattr(found, name):
                setattr(found, name, Counter(value) if isinstance(value, dict) else value)
        return found
