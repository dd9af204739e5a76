"""Credentials of places: a Secret of a run's namespace, whose entries a process finds among its variables."""

import hashlib
import re
from collections.abc import Mapping
from typing import Annotated

from pydantic import BaseModel

from ixt_workloads.contract.base import Model, NotInKey, ObjectName

PREFIX = "IXT_CRED_"
"""Begins the name of every variable that is an entry of a place's own Secret."""


class SecretRef(Model):
    """A Secret in the run's namespace."""

    name: Annotated[ObjectName, NotInKey]
    """Name of the Secret."""


def prefix_of(secret: str) -> str:
    """What stands before the names of a Secret's entries in the environment.

    The hash comes before the name, so that no Secret's prefix begins with that of another.
    """
    digest = hashlib.sha256(secret.encode()).hexdigest()[:8]
    return f"{PREFIX}{digest}_{re.sub('[^a-z0-9]', '_', secret)}_".upper()


def entries_of(secret: SecretRef | None, variables: Mapping[str, str]) -> dict[str, str]:
    """The entries of a place's own Secret in an environment. There are none if the place names no Secret or
    the storage's: then it is read with the plain variables."""
    prefix = prefix_of(secret.name) if secret else None
    return {
        name.removeprefix(prefix): value
        for name, value in variables.items()
        if prefix and name.startswith(prefix)
    }


def secrets_of(value: object) -> set[str]:
    """Names of the Secrets that the places in a model refer to."""
    if isinstance(value, SecretRef):
        return {value.name}
    if isinstance(value, BaseModel):
        value = tuple(vars(value).values())
    parts = value if isinstance(value, tuple) else ()
    return set[str]().union(*map(secrets_of, parts))
