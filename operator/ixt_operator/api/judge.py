"""The judge of a run: which model, how it is served, and what it is asked for."""

from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import Field

from ixt_operator.api.engine import Engine
from ixt_operator.api.resources import DataKey, KeyRef
from ixt_operator.api.rules import Checked, Rule, credentials_rule, range_rule, revision_rule
from ixt_workloads.contract.base import DataUri, Model
from ixt_workloads.contract.credentials import SecretRef
from ixt_workloads.contract.rubrics import BUILTIN_RUBRICS, RubricText
from ixt_workloads.contract.settings import ChatTemplateKwargs, Sampling


class ConfigMapKeyRef(KeyRef):
    """A key of a ConfigMap in the run's namespace."""

    key: DataKey = "rubric.yaml"
    """Key whose text is a rubric in YAML or JSON, with the fields of inline."""


def _different(axes: Sequence[str]) -> bool:
    return all(axis != other for place, axis in enumerate(axes) for other in axes[:place])


class RubricSpec(Checked):
    """What the judge is asked for."""

    builtin: Literal["quality", "web", "code", "math", "chat"] | None = None
    """Name of a rubric that comes with ixt: quality for texts of all kinds, the others for web text, code,
    mathematics and conversations, each with five axes whose levels are described in words."""
    config_map_key_ref: ConfigMapKeyRef | None = None
    """A rubric in a ConfigMap; its text, not its name, decides about keys."""
    inline: RubricText | None = None
    """A rubric written out here."""

    rules = (
        Rule(
            "[has(self.builtin), has(self.configMapKeyRef), has(self.inline)].exists_one(given, given)",
            "exactly one of builtin, configMapKeyRef and inline must be set",
            lambda self: (
                sum(x is not None for x in (self.builtin, self.config_map_key_ref, self.inline)) == 1
            ),
        ),
        Rule(
            "!has(self.inline) || self.inline.minScore < self.inline.maxScore",
            "minScore must be below maxScore",
            lambda self: self.inline is None or self.inline.min_score < self.inline.max_score,
            "inline",
        ),
        Rule(
            "!has(self.inline) || !has(self.inline.axes) || !('critique' in self.inline.axes)",
            "no axis may be called critique, which is a field of every answer",
            lambda self: self.inline is None or "critique" not in self.inline.axes,
            "inline",
        ),
        Rule(
            "!has(self.inline) || !has(self.inline.axes)"
            " || self.inline.axes.all(axis, self.inline.axes.exists_one(other, other == axis))",
            "axes must be different",
            lambda self: self.inline is None or _different(self.inline.axes),
            "inline",
        ),
    )

    def text(self) -> RubricText:
        """The rubric in full. One in a ConfigMap must have been put inline before: ValueError."""
        if self.inline:
            return self.inline
        if self.builtin:
            return BUILTIN_RUBRICS[self.builtin]
        raise ValueError("the rubric's ConfigMap was not read")


class ApiKeyRef(KeyRef):
    """A key of a Secret in the run's namespace."""

    key: DataKey = "apiKey"
    """Key whose value is sent."""


class Endpoint(Model):
    """A judge that somebody else serves with OpenAI's chat completions API."""

    url: Annotated[str, Field(pattern=r"^https?://[^\s]+$", max_length=1024)]
    """Base URL, up to and without /chat/completions."""
    model: Annotated[str, Field(min_length=1, max_length=256)]
    """Name that the endpoint knows the judge by."""
    api_key_secret_ref: ApiKeyRef | None = None
    """Key of a Secret in the run's namespace that is sent as bearer token."""
    active_parameters: Annotated[int | None, Field(ge=1, le=10**15)] = None
    """Active matmul parameters of the judge, for the cost account. Unset: annotation counts as unknown."""


class JudgeSpec(Checked):
    """The thinking reward model that writes the feedback."""

    model: DataUri | None = None
    """Folder or hub repository with the judge's weights, which the run serves itself."""
    revision: Annotated[str | None, Field(min_length=1, max_length=128)] = None
    """Branch, tag or commit of a hub repository."""
    credentials_secret_ref: SecretRef | None = None
    """Secret that model is read with, as for a dataset."""
    endpoint: Endpoint | None = None
    """A judge that is served elsewhere; instead of model."""
    second: Endpoint | None = None
    """Another judge that reads the first sample too, by the same rubric, where there is one (annotate.gates):
    how far its scores go with the judge's is told. It writes no feedback, and its cost is not counted."""
    reasoning_parser: Annotated[str | None, Field(pattern=r"^[a-z0-9_]+$", min_length=1, max_length=40)] = (
        None
    )
    """vLLM's name of the parser that separates reasoning from the answer, for example deepseek_r1."""
    system_prompt: Annotated[str | None, Field(min_length=1, max_length=16_384)] = None
    """System text of every request. Unset: none; the rubric stands in the user's turn in any case."""
    chat_template_kwargs: ChatTemplateKwargs = ()
    """What the judge's chat template is told, for servers that pass it on, such as vLLM."""
    rubric: RubricSpec = RubricSpec(builtin="quality")
    """What the judge is asked for."""
    sampling: Sampling = Sampling()
    """How the judge's answers are sampled."""
    engine: Engine = Engine()
    """How the judge is served; not used with an endpoint."""

    rules = (
        Rule(
            "has(self.model) != has(self.endpoint)",
            "exactly one of model and endpoint must be set",
            lambda self: (self.model is None) != (self.endpoint is None),
        ),
        revision_rule("model"),
        credentials_rule("model"),
        range_rule("sampling.temperature", most=2),
        range_rule("sampling.topP", above=0, most=1),
        range_rule("sampling.minP", most=1),
        range_rule("sampling.presencePenalty", most=2),
    )
