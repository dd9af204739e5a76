"""Every bound, pattern and relation of the API: a value that is accepted, one that is refused, and the words.

The same table runs against the models, the generated schema and a real API server.
"""

import re
from copy import deepcopy
from dataclasses import dataclass, field
from itertools import cycle, pairwise
from typing import Any

from make import runs


@dataclass(frozen=True)
class Limit:
    """A field of a run's manifest with a good and a bad value."""

    path: str
    good: Any
    bad: Any
    message: str
    base: dict[str, Any] = field(default_factory=dict)
    """Fields of the spec that the case needs."""
    at: str = ""
    """Field that the message is about, where it is another one."""

    def manifest(self, value: Any) -> dict[str, Any]:
        """A run with the field set to a value; None leaves it out."""
        return put(runs.manifest(**deepcopy(self.base)), self.path, value)


def put(target: Any, path: str, value: Any) -> Any:
    """The manifest with one field set, for example stages[0].train.maxTokens; None takes it out."""
    steps = [int(step) if step.isdigit() else step for step in re.findall(r"[^.\[\]]+", path)]
    here = target
    for step, following in pairwise(steps):
        if isinstance(here, dict):
            here = here.setdefault(step, [] if isinstance(following, int) else {})
        else:
            here += [{}] * (int(step) + 1 - len(here))
            here = here[step]
    if value is None:
        here.pop(steps[-1], None)
    elif isinstance(here, list):
        here[steps[-1] :] = [value]
    else:
        here[steps[-1]] = value
    return target


NAME = "must be lower-case letters, digits and '-', such as my-name"
URI = "must be a URI without spaces"
DECIMAL = "must be a decimal number of at least 0 in quotes"
TRAIN = "spec.stages[0].train"
ENDPOINT = {"judge": {"endpoint": {"url": "https://judge.example/v1", "model": "m"}}}
SECOND = {"judge": {"model": "hf://a/b", "second": ENDPOINT["judge"]["endpoint"]}}
RUBRIC = {"instructions": "Score it.", "idealCritique": "Good.", "worstCritique": "Bad."}
_HARNESS = {"stages": [runs.stage(evaluate={"harness": {"tasks": [{"name": "gsm8k"}]}})]}
INLINE_RUBRIC = "spec.judge.rubric.inline"
INLINE = {"judge": {"model": "file:///judge", "rubric": {"inline": RUBRIC}}}
EXISTING = {
    "stages": [runs.stage(annotate={"from": {"scoreField": "score"}})],
    "conditioning": {"format": "Token"},
}
PER_NODE = "spec.stages[0].train.resourcesPerNode"


def gpus(path: str) -> list[Limit]:
    """A number of GPUs or Auto."""
    message = "must be a whole number from 1 to 64, or Auto"
    cases: tuple[tuple[Any, Any], ...] = ((1, 0), (64, 65), ("Auto", "auto"), (8, "8"))
    return [Limit(path, good, bad, message) for good, bad in cases]


def rubric(name: str, good: Any, bad: Any, message: str, **more: Any) -> Limit:
    """A field of a rubric that stands in the run."""
    return Limit(f"{INLINE_RUBRIC}.{name}", good, bad, message, base=INLINE, **more)


def whole(path: str, low: int, high: int, **more: Any) -> list[Limit]:
    """Both ends of a range."""
    return [
        Limit(path, low, low - 1, f"must be at least {low}, not {low - 1}", **more),
        Limit(path, high, high + 1, f"must be at most {high}, not {high + 1}", **more),
    ]


def text(path: str, most: int, **more: Any) -> list[Limit]:
    """A text of bounded length that is not empty."""
    return [
        Limit(
            path, "x" * most, "x" * (most + 1), f"must have at most {most} characters, has {most + 1}", **more
        ),
        Limit(path, "x", "", "must not be empty", **more),
    ]


def name(path: str, most: int, **more: Any) -> list[Limit]:
    """The name of an object or of an item."""
    return [
        Limit(path, "a" * most, "a" * (most + 1), f"must have at most {most} characters", **more),
        Limit(path, "a-1", "A_1", NAME, **more),
        Limit(path, "a", "-a", NAME, **more),
    ]


def uri(path: str, **more: Any) -> list[Limit]:
    """A place of data or a model."""
    return [
        Limit(path, "hf://owner/name", "ftp://host/x", URI, **more),
        Limit(
            path, "s3://b/" + "x" * 1017, "s3://b/" + "x" * 1018, "must have at most 1024 characters", **more
        ),
        Limit(path, "gs://b/x", "gs://b/x y", URI, **more),
    ]


SIGNED = {"uri": "s3://bucket/x", "signingKeySecretRef": {"name": "signing", "key": "key"}}


def credentials(path: str, good: str, bad: str, *, field: str = "uri", **more: Any) -> list[Limit]:
    """The credentials of a place that takes some, and of one that does not."""
    schemes = "s3:// and gs://" if path == "spec.storage" else "s3://, gs:// and hf://"
    words = f"credentialsSecretRef is for {schemes} only: leave it out"
    reference = f"{path}.credentialsSecretRef"
    base = put(runs.manifest(), path, {**more, field: good})["spec"]
    values = ({**more, field: place, "credentialsSecretRef": {"name": "keys"}} for place in (good, bad))
    return [Limit(path, *values, words, at=reference), *name(f"{reference}.name", 253, base=base)]


def decimal(path: str, **more: Any) -> list[Limit]:
    """A number as a string."""
    return [
        Limit(path, "3e-4", "-1", DECIMAL, **more),
        Limit(path, "0.5", 0.5, "must be text, not 0.5: put it in quotes", **more),
    ]


def ranged(path: str, good: str, bad: str, message: str, **more: Any) -> list[Limit]:
    """A decimal that lies in a range."""
    at = path.rpartition(".")[0]
    return [*decimal(path, **more), Limit(path, good, bad, message, at=at, **more)]


def items(path: str, item: Any, most: int, least: int = 0, **more: Any) -> list[Limit]:
    """A list of bounded length. `item` makes the item of an index."""
    some = [item(index) for index in range(most + 1)]
    found = [Limit(path, some[:most], some, f"must have at most {most} items, has {most + 1}", **more)]
    return found + ([Limit(path, some[:least], [], "must have at least", **more)] if least else [])


AMOUNTS = (
    *("0", "00", "1", "+1", "1.", "+1.5", ".5", "007", "-0", "-0.0", "-.0"),
    *("100m", "1.5Gi", "3k", "1Ki", "2M", "2Mi", "1G", "1T", "1Ti", "1P", "1Pi", "1E", "1Ei", "5u", "5n"),
    *("1e3", "1E3", "1e+3", "1E-3", "12E6", ".5e3", "-0e3", "1e003", "1e999"),
)
"""What Kubernetes takes for an amount of at least 0."""

NO_AMOUNTS = (
    *("", "-1", "-0.1", "-.5Gi", "--1", "+-1", "1 ", " 1", "1_000", "0x10", "1,5", "1.2.3", "+", ".", "two"),
    *("1K", "1mi", "1ki", "1KB", "1Kib", "1m1", "1e", "1Ee3", "1e3.5", "1e3m", "1e1000", "Gi", "inf", "NaN"),
)
"""What it does not take for one, or takes for one by accident: no digits at all, an exponent without end."""


def one_of(path: str, good: str, words: str, bad: str = "Other", **more: Any) -> list[Limit]:
    """An enum."""
    return [Limit(path, good, bad, f"must be {words}, not '{bad}'", **more)]


def endpoint(path: str, base: dict[str, Any]) -> list[Limit]:
    """A judge that others serve."""
    words = "must be a URL: http:// or https://"
    url, key = f"{path}.url", f"{path}.apiKeySecretRef"
    long = "must have at most 1024 characters"
    return [
        Limit(url, "http://h/v1", "h/v1", words, base=base),
        Limit(url, "http://" + "h" * 1017, "http://" + "h" * 1018, long, base=base),
        *text(f"{path}.model", 256, base=base),
        *name(f"{key}.name", 253, base=base),
        Limit(key, {"name": "a", "key": "token.txt"}, {"name": "a", "key": "t/x"}, "must match", base=base),
        Limit(key, {"name": "a"}, {"key": "a"}, "is required", base=base),
        *whole(f"{path}.activeParameters", 1, 10**15, base=base),
    ]


def tracker_url(path: str, **more: Any) -> list[Limit]:
    """Address of a tracker."""
    words = "must be a URL without credentials: http:// or https://"
    return [
        Limit(path, "http://h:5000/x", "h:5000", words, **more),
        Limit(path, "https://h", "https://user:password@h", words, **more),
        Limit(path, "http://" + "h" * 1017, "http://" + "h" * 1018, "at most 1024 characters", **more),
    ]


def tracker_name(path: str) -> list[Limit]:
    """Project or entity of Weights & Biases."""
    base = {"trackers": {"wandb": {"project": "p"}}}
    return [
        Limit(path, "a.B-c_1", "a/b", "must match ^[-._a-zA-Z0-9]+$", base=base),
        Limit(path, "p" * 128, "p" * 129, "must have at most 128 characters, has 129", base=base),
    ]


YEAR = 31_536_000

LIMITS: list[Limit] = [
    Limit("metadata.name", "a" * 63, "a" * 64, "metadata.name must have at most 63 characters", at=" "),
    *name("spec.runtimeRef.name", 253),
    Limit("spec.storage.uri", "pvc://claim/path", "hf://owner/name", URI),
    *one_of("spec.storage.shared", "Disabled", "Enabled or Disabled"),
    *credentials("spec.storage", "s3://bucket/x", "file:///x"),
    *name("spec.storage.signingKeySecretRef.name", 253, base={"storage": SIGNED}),
    Limit(
        "spec.storage.signingKeySecretRef",
        {"name": "a", "key": "signing.key"},
        {"name": "a", "key": "t/x"},
        "must match",
        base={"storage": SIGNED},
    ),
    Limit(
        "spec.storage.signingKeySecretRef",
        {"name": "a", "key": "k"},
        {"name": "a"},
        "is required",
        base={"storage": SIGNED},
    ),
    *credentials("spec.storage", "gs://bucket/x", "pvc://claim/x"),
    # model
    *uri("spec.model.source", base={"model": {}}),
    *uri("spec.model.config"),
    *uri("spec.model.tokenizer"),
    *text("spec.model.chatTemplate", 128),
    *text("spec.model.revision", 128, base={"model": {"source": "hf://a/b"}}),
    Limit(
        "spec.model",
        {"source": "hf://a/b", "revision": "main"},
        {"source": "file:///a", "revision": "main"},
        "revision is for an hf:// source only: leave it out",
        at="spec.model.revision",
    ),
    *(
        Limit(
            "spec.model",
            {"source": "hf://a/b"},
            bad,
            "exactly one of source, or config with tokenizer, must be set",
        )
        for bad in (
            {},
            {"config": "file:///a"},
            {"tokenizer": "file:///a"},
            {"source": "hf://a/b", "config": "file:///a"},
            {"source": "hf://a/b", "tokenizer": "file:///a"},
        )
    ),
    *credentials("spec.model", "hf://a/b", "file:///a", field="source"),
    *credentials("spec.model", "s3://a/b", "pvc://a/b", field="config", tokenizer="file:///a"),
    *credentials("spec.model", "gs://a/b", "pvc://a/b", field="tokenizer", config="file:///a"),
    # judge
    *uri("spec.judge.model"),
    *text("spec.judge.revision", 128, base={"judge": {"model": "hf://a/b"}}),
    Limit(
        "spec.judge",
        {"model": "hf://a/b", "revision": "main"},
        {"model": "s3://a/b", "revision": "main"},
        "revision is for an hf:// model only: leave it out",
        at="spec.judge.revision",
    ),
    Limit("spec.judge", {"model": "hf://a/b"}, {}, "exactly one of model and endpoint must be set"),
    Limit(
        "spec.judge",
        ENDPOINT["judge"],
        {"model": "hf://a/b", **ENDPOINT["judge"]},
        "exactly one of model and endpoint must be set",
    ),
    *endpoint("spec.judge.endpoint", ENDPOINT),
    *endpoint("spec.judge.second", SECOND),
    *credentials("spec.judge", "gs://a/b", "pvc://a/b", field="model"),
    Limit(
        "spec.judge.credentialsSecretRef",
        None,
        {"name": "keys"},
        "credentialsSecretRef is for s3://, gs:// and hf:// only: leave it out",
        base=ENDPOINT,
    ),
    Limit("spec.judge.reasoningParser", "deepseek_r1", "deep-seek", "must match ^[a-z0-9_]+$"),
    Limit("spec.judge.reasoningParser", "a" * 40, "a" * 41, "must have at most 40 characters"),
    Limit(
        "spec.judge.rubric.builtin",
        "quality",
        "Quality",
        "must be quality, web, code, math or chat, not 'Quality': did you mean quality?",
    ),
    Limit("spec.judge.rubric", {"inline": RUBRIC}, {}, "exactly one of builtin, configMapKeyRef and inline"),
    Limit(
        "spec.judge.rubric",
        {"configMapKeyRef": {"name": "rubric"}},
        {"builtin": "quality", "inline": RUBRIC},
        "exactly one of builtin, configMapKeyRef and inline must be set",
    ),
    *name("spec.judge.rubric.configMapKeyRef.name", 253),
    Limit(
        "spec.judge.rubric.configMapKeyRef",
        {"name": "a", "key": "r.yaml"},
        {"name": "a", "key": "r/y"},
        "must match",
    ),
    *text(f"{INLINE_RUBRIC}.instructions", 16_384, base=INLINE),
    *one_of(f"{INLINE_RUBRIC}.document", "Bare", "Fenced or Bare", base=INLINE),
    *text(f"{INLINE_RUBRIC}.idealCritique", 2048, base=INLINE),
    *text(f"{INLINE_RUBRIC}.worstCritique", 2048, base=INLINE),
    Limit(
        "spec.judge.chatTemplateKwargs",
        [{"name": "enable_thinking", "value": "false"}],
        [{"name": "a-b", "value": "1"}],
        "must match ^[A-Za-z_]",
        at="spec.judge.chatTemplateKwargs[0].name",
    ),
    *items(f"{INLINE_RUBRIC}.axes", lambda index: f"axis_{index}", 16, 1, base=INLINE),
    rubric("axes[0]", "a" * 40, "Axis", "must match"),
    rubric("minScore", 0, -1, "must be at least 0"),
    rubric("maxScore", 100, 101, "must be at most 100"),
    rubric(
        "axes",
        ["critiques", "depth"],
        ["critique", "depth"],
        "no axis may be called critique, which is a field of every answer",
        at=INLINE_RUBRIC,
    ),
    rubric("axes", ["style", "depth"], ["depth", "depth"], "axes must be different", at=INLINE_RUBRIC),
    rubric("minScore", 4, 5, "minScore must be below maxScore", at=INLINE_RUBRIC),
    *ranged("spec.judge.sampling.temperature", "2", "2.1", "temperature must be at most 2"),
    *ranged("spec.judge.sampling.topP", "1", "0", "topP must be above 0 and at most 1"),
    *whole("spec.judge.sampling.topK", 1, 1_000_000),
    *ranged("spec.judge.sampling.minP", "1", "1.01", "minP must be at most 1"),
    *ranged("spec.judge.sampling.presencePenalty", "2", "3", "presencePenalty must be at most 2"),
    *whole("spec.judge.sampling.thinkingTokens", 1, 131_072),
    *text("spec.judge.systemPrompt", 16_384),
    *items("spec.judge.chatTemplateKwargs", lambda index: {"name": f"k{index}", "value": "1"}, 16),
    *whole("spec.judge.sampling.maxTokens", 16, 131_072),
    *whole("spec.judge.sampling.retries", 0, 10),
    Limit("spec.judge.engine.minReplicas", 1, 0, "must be at least 1"),
    *whole("spec.judge.engine.maxReplicas", 1, 1024),
    Limit(
        "spec.judge.engine",
        {"minReplicas": 2, "maxReplicas": 2},
        {"minReplicas": 2},
        "minReplicas must be at most maxReplicas",
        at="spec.judge.engine.minReplicas",
    ),
    *gpus("spec.judge.engine.tensorParallelSize"),
    *items("spec.judge.engine.args", lambda index: f"--max-num-seqs={index + 1}", 64),
    *(
        Limit("spec.judge.engine.args[0]", good, bad, "must be an option of vLLM as --name or --name=value")
        for good, bad in (
            ("--max-model-len=8192", "8192"),
            ("--enforce-eager", "-enforce-eager"),
            ("--hf-overrides.rope_theta=1e6", "--hf-overrides.rope_theta"),
            ("--no_enable_prefix_caching", "--enforce eager"),
            ("--not-known-here=--x=1", "--=1"),
        )
    ),
    Limit("spec.judge.engine.args[0]", "--" + "x" * 1022, "--" + "x" * 1023, "at most 1024 characters"),
    # conditioning
    *one_of("spec.conditioning.format", "Critique", "Token, Critique, TokenAndCritique or Axes"),
    *whole("spec.conditioning.levels", 2, 10),
    *one_of("spec.conditioning.calibration", "Quantile", "Fixed or Quantile"),
    *one_of("spec.conditioning.levelFrom", "Both", "Verifier, Judge or Both"),
    *whole("spec.conditioning.dropoutPercent", 0, 100),
    *whole("spec.conditioning.maxFeedbackTokens", 8, 4096),
    *one_of("spec.conditioning.lossOnFeedback", "Mask", "Include or Mask"),
    *text("spec.conditioning.inferenceFeedback", 2048),
    # arms
    *items("spec.arms", lambda index: runs.arm(f"arm-{index}"), 16, 1),
    *name("spec.arms[0].name", 24),
    Limit(
        "spec.arms",
        [runs.arm("a"), runs.arm("b")],
        [runs.arm("a"), runs.arm("a")],
        "another of arms is named 'a' already",
        at="spec.arms[1].name",
    ),
    Limit(
        "spec.arms[0]",
        {"name": "a", "method": "Shuffled"},
        {"name": "a", "method": "Filter"},
        "must be Conditioned, NextToken, Filtered, Annealed, Shuffled or RejectionSampling, not",
        at="spec.arms[0].method",
    ),
    *items("spec.arms[0].seeds", lambda index: index, 32, 1, base={"arms": [runs.arm("a")]}),
    *whole("spec.arms[0].tokensPercent", 1, 10_000, base={"arms": [runs.arm("a")]}),
    *whole("spec.arms[0].samplePercent", 1, 100, base={"arms": [runs.arm("a")]}),
    Limit(
        "spec.arms[0].seeds",
        [0, 2**31 - 1],
        [2**31],
        "must be at most 2147483647",
        base={"arms": [runs.arm("a")]},
    ),
    Limit(
        "spec.arms[0].seeds",
        [1, 2],
        [1, 1],
        "another of seeds is 1 already",
        base={"arms": [runs.arm("a")]},
    ),
    Limit(
        "spec.arms",
        [runs.arm("a", "Filtered", samplePercent=50)],
        [runs.arm("a", "NextToken", samplePercent=50)],
        "a NextToken or RejectionSampling arm has no documents annotated: leave samplePercent out",
        at="spec.arms[0].samplePercent",
    ),
    Limit(
        "spec.arms",
        [runs.arm(f"arm-{index}") for index in range(10)],
        [runs.arm(f"arm-{index}") for index in range(11)],
        "arms times stages must be at most 40",
        base={"stages": [runs.stage(f"stage-{index}") for index in range(4)]},
    ),
    Limit(
        "spec.arms[0].tokensPercent",
        100,
        101,
        "an arm's tokensPercent of a stage's maxTokens must be at most 1000000000000000 tokens",
        base={"arms": [runs.arm("a")], "stages": [runs.stage(train={"maxTokens": 10**15})]},
        at="spec.arms",
    ),
    *one_of("spec.comparison", "EqualFlops", "EqualFlops or EqualTokens"),
    Limit(
        "spec.comparison",
        "EqualTokens",
        "EqualFlops",
        "comparison EqualFlops plans the tokens of arms: leave tokensPercent out, or set EqualTokens",
        base={"arms": [runs.arm("a"), runs.arm("b", "NextToken", tokensPercent=140)]},
    ),
    *whole("spec.maxParallelLanes", 1, 512),
    # stages
    *items("spec.stages", lambda index: runs.stage(f"stage-{index}"), 16, 1),
    *name("spec.stages[0].name", 24),
    Limit(
        "spec.stages",
        [runs.stage("a"), runs.stage("b")],
        [runs.stage("a"), runs.stage("a")],
        "another of stages is named 'a' already",
        at="spec.stages[1].name",
    ),
    *one_of("spec.stages[0].type", "Midtrain", "Pretrain, Midtrain, SFT or Rollout"),
    Limit(
        "spec.stages[0]",
        runs.stage(type="SFT", datasets=[runs.dataset(messagesField="messages")]),
        runs.stage(type="SFT"),
        "an SFT stage trains on conversations: set messagesField in each of its datasets",
        at="spec.stages[0].datasets",
    ),
    *items("spec.stages[0].datasets", lambda index: runs.dataset(f"d{index}"), 32, 1),
    *name("spec.stages[0].datasets[0].name", 40),
    *uri("spec.stages[0].datasets[0].uri"),
    *credentials("spec.stages[0].datasets[0]", "hf://a/b", "file:///a", name="a"),
    *one_of("spec.stages[0].datasets[0].format", "Jsonl", "Auto, Jsonl, Parquet, Text, Csv, Json or Arrow"),
    *text("spec.stages[0].datasets[0].split", 64),
    *text("spec.stages[0].datasets[0].textField", 128),
    *text("spec.stages[0].datasets[0].messagesField", 128),
    *text("spec.stages[0].datasets[0].promptField", 128),
    *text("spec.stages[0].datasets[0].answerField", 128),
    *whole("spec.stages[0].datasets[0].weight", 1, 1000),
    Limit(
        "spec.stages[0].datasets",
        [runs.dataset("a"), runs.dataset("b")],
        [runs.dataset("a"), runs.dataset("a")],
        "another of datasets is named 'a' already",
        at="spec.stages[0].datasets[1].name",
    ),
    *whole("spec.stages[0].annotate.samplePercent", 1, 100),
    *whole("spec.stages[0].annotate.workers", 1, 256),
    *whole("spec.stages[0].annotate.deadlineSeconds", 1, YEAR),
    *whole("spec.stages[0].annotate.gates.maxInvalidPercent", 0, 100),
    *whole("spec.stages[0].annotate.gates.maxOverlapPercent", 0, 100),
    *whole("spec.stages[0].annotate.gates.maxDisagreementPercent", 0, 100),
    *whole("spec.stages[0].annotate.gates.maxRewritingPercent", 0, 100),
    *whole("spec.stages[0].annotate.gates.minReferencePercent", 0, 100),
    *whole("spec.stages[0].annotate.gates.maxOneScorePercent", 0, 100),
    *whole("spec.stages[0].annotate.gates.maxTruncatedPercent", 0, 100),
    *whole("spec.stages[0].annotate.gates.maxContradictionPercent", 0, 100),
    *whole("spec.stages[0].annotate.gates.maxQuotingPercent", 0, 100),
    Limit(
        "spec.stages[0].annotate.gates.warn",
        ["Overlap", "Rewriting"],
        ["Everything"],
        "must be Invalid, Overlap, Disagreement, Reference, Rewriting, OneScore, Truncated, Contradiction or "
        "Quoting",
        at="spec.stages[0].annotate.gates.warn[0]",
    ),
    *text("spec.stages[0].annotate.referenceField", 128),
    Limit(
        "spec.stages[0].annotate.referenceField",
        None,
        "rating",
        "feedback that the data carry has no reference: leave annotate.from or referenceField out",
        base={"stages": [runs.stage(annotate={"from": {"scoreField": "s", "critiqueField": "c"}})]},
        at="spec.stages[0].annotate",
    ),
    *one_of("spec.stages[0].prepare.decontamination", "Disabled", "Enabled or Disabled"),
    *text("spec.stages[0].annotate.from.scoreField", 128, base=EXISTING),
    Limit(
        "spec.stages[0].annotate.from.scale",
        {"min": "-1.5", "max": "5"},
        {"min": "5", "max": "5.0"},
        "scale.min must be below scale.max",
        base=EXISTING,
    ),
    Limit(
        "spec.stages[0].annotate.from.scale",
        {"min": "0", "max": "1e2"},
        {"min": "0", "max": "five"},
        "must be a decimal number",
        base=EXISTING,
        at="spec.stages[0].annotate.from.scale.max",
    ),
    *text("spec.stages[0].annotate.from.critiqueField", 128, base=EXISTING),
    *one_of("spec.stages[0].conditioning.format", "Token", "Token, Critique, TokenAndCritique or Axes"),
    *whole("spec.stages[0].conditioning.levels", 2, 10),
    *one_of("spec.stages[0].conditioning.calibration", "Fixed", "Fixed or Quantile"),
    *one_of("spec.stages[0].conditioning.levelFrom", "Verifier", "Verifier, Judge or Both"),
    *whole("spec.stages[0].conditioning.dropoutPercent", 0, 100),
    *whole("spec.stages[0].conditioning.maxFeedbackTokens", 8, 4096),
    *one_of("spec.stages[0].conditioning.lossOnFeedback", "Include", "Include or Mask"),
    *text("spec.stages[0].conditioning.inferenceFeedback", 2048),
    Limit("spec.stages[0].prepare.sequenceLength", 32, 31, "must be at least 32"),
    Limit("spec.stages[0].prepare.sequenceLength", 4096, 1_048_577, "must be at most 1048576"),
    *whole("spec.stages[0].prepare.workers", 1, 256),
    Limit(
        "spec.stages[0].prepare.sequenceLength",
        512,
        500,
        "train.batchTokens must be a multiple of prepare.sequenceLength",
        at=TRAIN,
    ),
    # train
    Limit(f"{TRAIN}.maxTokens", 10**15, 10**15 + 1, f"must be at most {10**15}"),
    Limit(f"{TRAIN}.maxTokens", 4096, 0, "must be at least 1, not 0"),
    Limit(f"{TRAIN}.batchTokens", 256, 31, "must be at least 32"),
    Limit(f"{TRAIN}.batchTokens", 65_536, 10**12 + 1, f"must be at most {10**12}"),
    Limit(f"{TRAIN}.batchTokens", 65_536, 131_072, "batchTokens must be at most maxTokens"),
    *ranged(f"{TRAIN}.optimizer.learningRate", "1", "2", "learningRate must be at most 1"),
    *(decimal(f"{TRAIN}.optimizer.weightDecay")),
    *ranged(f"{TRAIN}.optimizer.beta1", "0.999", "1", "beta1 must be below 1"),
    *ranged(f"{TRAIN}.optimizer.beta2", "0", "1.0", "beta2 must be below 1"),
    *ranged(f"{TRAIN}.optimizer.epsilon", "1e-12", "0", "epsilon must be above 0"),
    *(decimal(f"{TRAIN}.optimizer.maxGradNorm")),
    *one_of(f"{TRAIN}.optimizer.momentsPrecision", "BF16", "FP32 or BF16"),
    Limit(
        f"{TRAIN}.optimizer",
        {"momentsPrecision": "BF16", "beta2": "0.99"},
        {"momentsPrecision": "BF16", "beta2": "0.999"},
        "momentsPrecision BF16 needs a beta2 of at most 0.99",
    ),
    *one_of(f"{TRAIN}.schedule.type", "Constant", "Cosine, WarmupStableDecay or Constant"),
    *whole(f"{TRAIN}.schedule.warmupPercent", 0, 100),
    *whole(f"{TRAIN}.schedule.decayPercent", 0, 100),
    *whole(f"{TRAIN}.schedule.finalPercent", 0, 100),
    *one_of(f"{TRAIN}.precision", "FP32", "FP32 or BF16"),
    *whole(f"{TRAIN}.evalEveryTokens", 1, 10**15),
    *one_of(f"{TRAIN}.export", "Best", "Last or Best"),
    Limit(
        "spec.stages[0]",
        *(
            runs.stage(
                train={"maxTokens": 8192, "batchTokens": 4096, "export": "Best"},
                evaluate={"holdoutDocuments": number},
            )
            for number in (1, 0)
        ),
        "train.export Best is chosen by held-out documents: set evaluate.holdoutDocuments above 0, or export "
        "Last (of a Rollout stage always)",
        at="spec.stages[0].train",
    ),
    *whole(f"{TRAIN}.numNodes", 1, 4096),
    *gpus(f"{TRAIN}.numProcPerNode"),
    *whole(f"{TRAIN}.microBatchSequences", 1, 65_536),
    *one_of(f"{TRAIN}.parallelism", "FullyShard", "Auto, Replicate or FullyShard"),
    *one_of(f"{TRAIN}.compile", "Disabled", "Auto, Enabled or Disabled"),
    *one_of(f"{TRAIN}.activationCheckpointing", "Selective", "Auto, None, Selective or Full"),
    *whole(f"{TRAIN}.checkpoint.intervalSeconds", 1, 86_400),
    *whole(f"{TRAIN}.checkpoint.keep", 1, 100),
    Limit(
        f"{TRAIN}.resourcesPerNode.requests",
        {"cpu": 2, "memory": "1.5Gi"},
        {"cpu": "two"},
        "must be an amount",
    ),
    # evaluate
    *credentials("spec.stages[0].evaluate.tasks[0]", "s3://a/b", "pvc://a/b", name="a"),
    *items("spec.stages[0].evaluate.tasks", lambda index: {"name": f"t{index}", "uri": "s3://b/t"}, 32),
    Limit(
        "spec.stages[0].evaluate.tasks",
        [{"name": "a", "uri": "s3://b/t"}],
        [{"name": "a", "uri": "s3://b/t"}] * 2,
        "another of tasks is named 'a' already",
        at="spec.stages[0].evaluate.tasks[1].name",
    ),
    Limit(
        "spec.stages[0].evaluate.tasks",
        [{"name": "a", "uri": "s3://b/t", "maxItems": 100_000}],
        [{"name": "a", "uri": "s3://b/t", "maxItems": 100_001}],
        "must be at most 100000",
        at="spec.stages[0].evaluate.tasks[0].maxItems",
    ),
    Limit("spec.stages[0].evaluate.prefixes", ["Best", "None"], ["Bests"], "did you mean Best?"),
    Limit("spec.stages[0].evaluate.prefixes", ["Best"], [], "must have at least 1"),
    *whole("spec.stages[0].evaluate.holdoutDocuments", 0, 100_000),
    *whole("spec.stages[0].evaluate.maxNewTokens", 1, 8192),
    *credentials("spec.stages[0].evaluate.harness.tasks[0]", "s3://a/b", "pvc://a/b", name="a"),
    *items("spec.stages[0].evaluate.harness.tasks", lambda index: {"name": f"t{index}"}, 32, 1),
    Limit(
        "spec.stages[0].evaluate.harness.tasks",
        [{"name": "mmlu_pro-x.y+z"}],
        [{"name": "../mmlu"}],
        "must match",
        at="spec.stages[0].evaluate.harness.tasks[0].name",
    ),
    Limit(
        "spec.stages[0].evaluate.harness.tasks",
        [{"name": "a"}, {"name": "b"}],
        [{"name": "a"}, {"name": "a"}],
        "another of tasks is named 'a' already",
        at="spec.stages[0].evaluate.harness.tasks[1].name",
    ),
    *whole("spec.stages[0].evaluate.harness.limit", 1, 1_000_000, base=_HARNESS),
    *whole("spec.stages[0].evaluate.harness.fewshot", 0, 64, base=_HARNESS),
    *whole("spec.stages[0].evaluate.harness.samples", 1, 64, base=_HARNESS),
    # trackers
    *tracker_url("spec.trackers.mlflow.uri"),
    *text("spec.trackers.mlflow.experiment", 256, base={"trackers": {"mlflow": {"uri": "http://h"}}}),
    *name(
        "spec.trackers.mlflow.credentialsSecretRef.name",
        253,
        base={"trackers": {"mlflow": {"uri": "http://h"}}},
    ),
    *tracker_name("spec.trackers.wandb.project"),
    *tracker_name("spec.trackers.wandb.entity"),
    *tracker_url("spec.trackers.wandb.baseUrl", base={"trackers": {"wandb": {"project": "p"}}}),
    *name(
        "spec.trackers.wandb.credentialsSecretRef.name", 253, base={"trackers": {"wandb": {"project": "p"}}}
    ),
    # amounts
    *(
        Limit(f"{PER_NODE}.limits", {"cpu": good}, {"cpu": bad}, message)
        for good, bad, message in (
            (0, -1, "must be an amount as Kubernetes writes it, such as 2, '500m' or '16Gi', not '-1'"),
            ("0.5", 0.5, "write the number as a string: '0.5'"),
            ("1" * 32, "1" * 33, "must have at most 32 characters, has 33"),
            (1, True, "must be text, not true"),
            *(
                (good, bad, "must be an amount")
                for good, bad in zip(AMOUNTS, cycle(NO_AMOUNTS), strict=False)
            ),
        )
    ),
    Limit(
        f"{PER_NODE}.requests",
        {f"r{index}": 1 for index in range(16)},
        {f"r{index}": 1 for index in range(17)},
        "must have at most 16 items",
    ),
    # the rest
    Limit("spec.managedBy", "example.com/a", "example.com", "must match"),
    Limit("spec.managedBy", f"a.io/{'x' * 58}", f"a.io/{'x' * 59}", "must have at most 63 characters"),
    *name("spec.queueName", 63),
    Limit("spec.suspend", True, "yes", "must be true or false, not 'yes'"),
    *(
        limit
        for fault in ("infrastructure", "application", "outOfMemory", "diverged", "hung")
        for limit in whole(f"spec.failurePolicy.{fault}", 0, 1000)
    ),
    *one_of("spec.failurePolicy.lanes", "FailFast", "Continue or FailFast"),
    *whole("spec.activeDeadlineSeconds", 1, YEAR),
    *whole("spec.schedulingTimeoutSeconds", 1, YEAR),
    *whole("spec.ttlSecondsAfterFinished", 0, YEAR),
    # relations of the whole
    Limit(
        "spec.judge",
        {"model": "file:///judge"},
        None,
        "a judge is needed: set judge, or annotate.from in every stage, or only NextToken arms",
    ),
    Limit(
        "spec.arms",
        [runs.arm("a", "NextToken")],
        [runs.arm("a", "NextToken"), runs.arm("b")],
        "a judge is needed",
        base={"judge": None},
        at="spec.judge",
    ),
    Limit(
        "spec.stages",
        [runs.stage(annotate={"from": {"scoreField": "s", "critiqueField": "c"}})],
        [runs.stage("a", annotate={"from": {"scoreField": "s", "critiqueField": "c"}}), runs.stage("b")],
        "a judge is needed",
        base={"judge": None},
        at="spec.judge",
    ),
    Limit(
        "spec.stages[0].annotate.from",
        {"scoreField": "score", "critiqueField": "words"},
        {"scoreField": "score"},
        "existing feedback has no critiques without annotate.from.critiqueField: set it, or format Token",
        at="spec.stages",
    ),
    Limit(
        "spec.conditioning.format",
        "Critique",
        "Axes",
        "format Axes shows a judge's scores by axis, which feedback of the data lacks: take another",
        base={"stages": [runs.stage(annotate={"from": {"scoreField": "s", "critiqueField": "c"}})]},
        at="spec.stages",
    ),
    Limit(
        "spec.stages[0].conditioning.format",
        "Token",
        "Critique",
        "existing feedback has no critiques",
        base=EXISTING,
        at="spec.stages",
    ),
    Limit(
        "spec.conditioning.format",
        "Token",
        "TokenAndCritique",
        "existing feedback has no critiques",
        base=EXISTING,
        at="spec.stages",
    ),
]
