"""What a run's manifest names, put together: the run and its runtime as the planner wants them."""

from collections.abc import Iterable
from typing import Any

import yaml
from pydantic import ValidationError

from ixt_operator.adapters.kubernetes.cache import Cache
from ixt_operator.adapters.kubernetes.client import CONFIG_MAPS, RUNTIMES, Client, Object
from ixt_operator.api.judge import RubricSpec
from ixt_operator.api.run import IXTRun
from ixt_operator.api.runtime import IXTRuntime
from ixt_operator.api.status import Reason
from ixt_operator.manifests.documents import syntax_error, yaml_documents
from ixt_workloads.contract.kinds import KINDS, Role
from ixt_workloads.contract.rubrics import RubricText

CONFIG_MAP_SECONDS = 5.0
"""ConfigMaps are not watched: one that a run waits for is asked for this often."""


class NotAccepted(Exception):  # noqa: N818 - a finding
    """The run cannot be carried out as it stands. `again`: seconds after which to look again, for what no
    watch tells of."""

    def __init__(self, reason: Reason, message: str, again: float | None = None) -> None:
        super().__init__(message)
        self.reason = reason
        self.again = again


async def resolved(manifest: Object, client: Client, cache: Cache) -> tuple[IXTRun, IXTRuntime]:
    """The run of a manifest, its rubric written out, and its runtime. Raises NotAccepted."""
    run = _run(manifest)
    runtime = _runtime(run, cache)
    return await _with_rubric(run, client), runtime


def _run(manifest: Object) -> IXTRun:
    try:
        return IXTRun.model_validate({name: value for name, value in manifest.items() if name != "status"})
    except ValidationError as error:
        skewed = {each["type"] for each in error.errors()} != {"refused_option"}
        hint = "; the API server let it pass: are CRDs and operator of one version?" if skewed else ""
        raise NotAccepted(Reason.INVALID_SPEC, f"{_said(error)}{hint}") from None


def _runtime(run: IXTRun, cache: Cache) -> IXTRuntime:
    name = run.spec.runtime_ref.name
    found = cache.get(RUNTIMES, "", name)
    if found is None:
        have = ", ".join(sorted(entry["metadata"]["name"] for entry in cache.all(RUNTIMES)))
        raise NotAccepted(
            Reason.RUNTIME_NOT_FOUND,
            f"spec.runtimeRef.name: there is no IXTRuntime {name}; there are: {have or 'none'}",
        )
    try:
        runtime = IXTRuntime.model_validate(found)
    except ValidationError as error:
        raise NotAccepted(Reason.RUNTIME_NOT_FOUND, f"IXTRuntime {name}: {_said(error)}") from None
    needed = {kind.role for kind in KINDS.values()}
    if run.spec.judge and run.spec.judge.model:
        needed.add(Role.JUDGE)
    if lacking := sorted(role for role in needed if runtime.spec.role(role) is None):
        raise NotAccepted(
            Reason.RUNTIME_NOT_FOUND,
            f"spec.runtimeRef.name: IXTRuntime {name} lacks the role {' and '.join(lacking)}: add it there, "
            "or name another",
        )
    return runtime


async def _with_rubric(run: IXTRun, client: Client) -> IXTRun:
    """The run with a rubric that lies in a ConfigMap written out."""
    judge = run.spec.judge
    reference = judge.rubric.config_map_key_ref if judge else None
    if judge is None or reference is None:
        return run
    found = await client.get(CONFIG_MAPS, run.metadata.namespace, reference.name)
    text = (found or {}).get("data", {}).get(reference.key)
    place = f"spec.judge.rubric.configMapKeyRef: ConfigMap {reference.name}"
    if text is None:
        what = f"has no key {reference.key}" if found else "does not exist"
        message = f"{place} {what} in namespace {run.metadata.namespace}"
        raise NotAccepted(Reason.REFERENCE_NOT_FOUND, message, CONFIG_MAP_SECONDS)
    try:
        value = next((document.value for document in yaml_documents(text)), None)
        rubric = RubricSpec(inline=RubricText.model_validate(value))
    except (ValidationError, yaml.YAMLError) as error:
        said = _said(error) if isinstance(error, ValidationError) else syntax_error(error)[1]
        message = f"{place}, key {reference.key}: {said}"
        raise NotAccepted(Reason.INVALID_SPEC, message, CONFIG_MAP_SECONDS) from None
    spec = run.spec.model_copy(update={"judge": judge.model_copy(update={"rubric": rubric})})
    return run.model_copy(update={"spec": spec})


def _said(error: ValidationError) -> str:
    problems: Iterable[Any] = error.errors(include_url=False)
    return "; ".join(f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in problems)[:900]
