"""What a run's manifest names, put together: the run and its runtime as the planner wants them."""

import json
from collections.abc import Iterable
from functools import lru_cache
from typing import Any, NamedTuple

import yaml
from pydantic import ValidationError

from ixt_operator.adapters.kubernetes.cache import Cache
from ixt_operator.adapters.kubernetes.client import CONFIG_MAPS, RUNTIMES, Client, Object
from ixt_operator.api.judge import ConfigMapKeyRef
from ixt_operator.api.run import IXTRun
from ixt_operator.api.runtime import IXTRuntime
from ixt_operator.api.status import Reason
from ixt_operator.manifests.documents import syntax_error, yaml_documents
from ixt_workloads.contract.kinds import KINDS, Role
from ixt_workloads.contract.rubrics import RubricText

CONFIG_MAP_SECONDS = 5.0
"""ConfigMaps are not watched: one that a run waits for is asked for this often."""

RUBRIC_BYTES = 64 * 1024
"""Bytes of a rubric in a ConfigMap, which anybody in the namespace may write."""


class NotAccepted(Exception):  # noqa: N818 - a finding
    """The run cannot be carried out as it stands. `again`: seconds after which to look again, for what no
    watch tells of."""

    def __init__(self, reason: Reason, message: str, again: float | None = None) -> None:
        super().__init__(message)
        self.reason = reason
        self.again = again


class Named(NamedTuple):
    """What a run names, as text."""

    runtime: str
    """The IXTRuntime as JSON: its name and spec."""
    rubric: str | None
    """The rubric in its ConfigMap, in YAML; None for a run whose rubric lies in its spec."""


def run_of(manifest: Object) -> IXTRun:
    """The run of a manifest. Raises NotAccepted."""
    try:
        return IXTRun.without_status(manifest)
    except ValidationError as error:
        skewed = {each["type"] for each in error.errors()} != {"refused_option"}
        hint = "; the API server let it pass: are CRDs and operator of one version?" if skewed else ""
        raise NotAccepted(Reason.INVALID_SPEC, f"{_said(error)}{hint}") from None


async def named(run: IXTRun, client: Client, cache: Cache) -> Named:
    """What a run names, as it is now. Raises NotAccepted where it is not there."""
    name = run.spec.runtime_ref.name
    found = cache.get(RUNTIMES, "", name)
    if found is None:
        have = ", ".join(sorted(entry["metadata"]["name"] for entry in cache.all(RUNTIMES)))
        raise NotAccepted(
            Reason.RUNTIME_NOT_FOUND,
            f"spec.runtimeRef.name: there is no IXTRuntime {name}; there are: {have or 'none'}",
        )
    runtime = {**found, "metadata": {"name": name}}
    return Named(json.dumps(runtime, sort_keys=True), await _rubric(run, client))


async def _rubric(run: IXTRun, client: Client) -> str | None:
    reference = run.rubric_reference
    if reference is None:
        return None
    found = await client.get(CONFIG_MAPS, run.metadata.namespace, reference.name)
    text: str | None = ((found or {}).get("data") or {}).get(reference.key)
    if text is None:
        what = f"has no key {reference.key}" if found else "does not exist"
        message = f"{_place(reference)} {what} in namespace {run.metadata.namespace}"
        raise NotAccepted(Reason.REFERENCE_NOT_FOUND, message, CONFIG_MAP_SECONDS)
    if len(text.encode(errors="replace")) > RUBRIC_BYTES:
        message = f"{_place(reference)}, key {reference.key}: has more than {RUBRIC_BYTES:,} bytes"
        raise NotAccepted(Reason.INVALID_SPEC, message, CONFIG_MAP_SECONDS)
    return text


def put_together(run: IXTRun, named: Named) -> tuple[IXTRun, IXTRuntime]:
    """A run, its rubric written out, and its runtime. Raises NotAccepted for what cannot be carried out."""
    runtime = _runtime(run, named.runtime)
    reference = run.rubric_reference
    if reference is None or named.rubric is None:
        return run, runtime
    try:
        document = next(yaml_documents(named.rubric), None)
        if document is not None and document.problems:
            _, line, what = document.problems[0]
            message = f"{_place(reference)}, key {reference.key}, line {line}: {what}"
            raise NotAccepted(Reason.INVALID_SPEC, message, CONFIG_MAP_SECONDS)
        return run.with_rubric(RubricText.model_validate(document.value if document else None)), runtime
    except (ValidationError, yaml.YAMLError) as error:
        said = _said(error) if isinstance(error, ValidationError) else syntax_error(error)[1]
        message = f"{_place(reference)}, key {reference.key}: {said}"
        raise NotAccepted(Reason.INVALID_SPEC, message, CONFIG_MAP_SECONDS) from None


def _runtime(run: IXTRun, text: str) -> IXTRuntime:
    name = run.spec.runtime_ref.name
    try:
        runtime = _parsed(text)
    except ValidationError as error:
        raise NotAccepted(Reason.RUNTIME_INVALID, f"IXTRuntime {name}: {_said(error)}") from None
    needed = {kind.role for kind in KINDS.values()}
    if run.spec.judge and run.spec.judge.model:
        needed.add(Role.JUDGE)
    if lacking := sorted(role for role in needed if runtime.spec.role(role) is None):
        raise NotAccepted(
            Reason.RUNTIME_INVALID,
            f"spec.runtimeRef.name: IXTRuntime {name} lacks the role {' and '.join(lacking)}: add it there, "
            "or name another",
        )
    return runtime


@lru_cache(maxsize=64)
def _parsed(runtime: str) -> IXTRuntime:
    """A runtime from its text, which most runs have in common."""
    return IXTRuntime.model_validate_json(runtime)


def _place(reference: ConfigMapKeyRef) -> str:
    return f"spec.judge.rubric.configMapKeyRef: ConfigMap {reference.name}"


def _said(error: ValidationError) -> str:
    problems: Iterable[Any] = error.errors(include_url=False)
    return "; ".join(f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in problems)[:900]
