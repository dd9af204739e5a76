"""Which fields of a run may change after its start. The table for people is docs/mutability.md."""

from collections.abc import Sequence
from typing import NamedTuple

from ixt_operator.api.run import RunSpec

FROZEN = ("uri", "shared")
"""Fields of storage that may never change; its credentials may."""


class Refused(NamedTuple):
    """A change that cannot be made."""

    field: str
    message: str


def refused_changes(old: RunSpec, new: RunSpec, started: Sequence[str]) -> list[Refused]:
    """The changes of a spec that are refused. `started` are the stages that have started, in order.

    Everything else may change: what is in no key takes effect at once or with the next attempt, what is in a
    key makes the steps it concerns, and those after them, run again.
    """
    refused = [
        Refused(f"spec.storage.{name}", "may not change: the run's artifacts lie there; make a new run")
        for name in FROZEN
        if getattr(old.storage, name) != getattr(new.storage, name)
    ]
    if old.model != new.model:
        refused.append(Refused("spec.model", "may not change: every stage starts from it; make a new run"))
    names = [stage.name for stage in new.stages]
    for index, name in enumerate(started):
        if names[index : index + 1] != [name]:
            refused.append(
                Refused(
                    f"spec.stages[{index}].name",
                    f"stage {name} has started: it must keep its name and place, new stages go behind it",
                )
            )
    return refused
