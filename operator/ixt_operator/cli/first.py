"""`ixt init`: a first manifest that validates and fits, from a look at data and model."""

import json
import os
import re
from pathlib import Path
from typing import NamedTuple

from ixt_operator.adapters.local.machine import gpus_here
from ixt_operator.cli import artifacts
from ixt_operator.cli.stop import stop
from ixt_operator.manifests.loading import loads
from ixt_operator.manifests.messages import HUB_NAME, nearest
from ixt_workloads.contract.looked import Looked, LookedData, LookedModel, LookQuestion
from ixt_workloads.contract.settings import Sampling

LONGEST_SEQUENCE = 4096
"""Tokens of a sequence that a first run trains on at most, whatever the model takes."""
DEFAULT_SEQUENCE = 2048
UNKNOWN_TOKENS = 100_000_000
"""Tokens to train on where the data were not looked at."""
STEPS = 500
"""Optimizer steps of a first run, about."""
LARGEST_BATCH = 524_288
PROCESSORS = "        precision: FP32   # this machine has no GPU; leave it out where there is one"
"""Many processors multiply matrices in bfloat16 several times slower."""


class Wishes(NamedTuple):
    """What the user said. Places as they were typed."""

    data: str
    model: str
    judge: str | None
    scores: str | None
    """Field of the data with scores, instead of a judge."""


def write_manifest(file: Path, wishes: Wishes) -> Looked:
    """Look at data and models, and write the manifest. What cannot be right ends the program with a
    message."""
    if file.exists():
        stop(f"{file} is there already: name another file")
    folder = file.absolute().parent
    data, model, judge = (_uri(place, folder) for place in (wishes.data, wishes.model, wishes.judge or ""))
    found = artifacts.looked_at(LookQuestion(data=data, model=model, judge=judge or None))
    _check(wishes, found)
    text = _manifest(file, wishes, found, *(_written(uri, folder) for uri in (data, model, judge)))
    loads(text, str(file), folder)
    try:
        file.write_text(text)
    except OSError as error:
        stop(f"{file} cannot be written: {error.strerror}")
    return found


def _check(wishes: Wishes, found: Looked) -> None:
    known = found.data.score_fields if found.data else ()
    if wishes.scores and found.data and wishes.scores not in known:
        there = f"; fields with numbers: {', '.join(known) or 'none'}{nearest(wishes.scores, known)}"
        stop(f"{wishes.data} has no field {wishes.scores} with numbers{there}")
    if _is_chat(found.data) and found.model and found.model.chat is False:
        stop(
            f"{wishes.data} holds conversations, and the tokenizer in {wishes.model} has no chat template: "
            "name a model that has one"
        )


def _is_chat(data: LookedData | None) -> bool:
    return data is not None and data.text_field is None and data.messages_field is not None


def _uri(place: str, folder: Path) -> str:
    """A place as a URI: what is there is on this machine, owner/name is on the Hugging Face hub."""
    if not place or "://" in place:
        return place
    path = Path(place).expanduser()
    if not path.exists() and re.fullmatch(HUB_NAME, place):
        return f"hf://{place}"
    return path.absolute().as_uri()


def _written(uri: str, folder: Path) -> str:
    """A URI as the manifest has it: relative to the manifest where it lies on this machine."""
    if not uri.startswith("file://"):
        return uri
    from urllib.parse import unquote, urlsplit

    path = os.path.relpath(unquote(urlsplit(uri).path), folder)
    return path if path.startswith("..") else f"./{path}"


def _manifest(file: Path, wishes: Wishes, found: Looked, data: str, model: str, judge: str) -> str:
    chat = _is_chat(found.data)
    kind = "SFT" if chat else "Midtrain" if found.model is None or found.model.weights else "Pretrain"
    name = _name(file.stem, 40) or "run"
    lines = [
        "# Made by `ixt init`. `ixt validate` checks it, `ixt plan` says what it costs, `ixt run` runs it.",
        "apiVersion: ixt.dev/v1alpha1",
        "kind: IXTRun",
        f"metadata: {{name: {name}}}",
        "spec:",
        "  storage: {uri: ./storage}   # artifacts; on a cluster s3://bucket/path or pvc://claim/path",
        *_model(model, found.model),
        *(_judge(judge, found.judge) if judge else ()),
        *_conditioning(wishes, found.data),
        "  arms:",
        "    - {name: conditioned}                     # trains with the feedback in front of documents",
        "    - {name: next-token, method: NextToken}   # the baseline, at equal FLOPs",
        "  stages:",
        f"    - name: {kind.lower()}",
        f"      type: {kind}",
        "      datasets:",
        f"        - name: {_name(data.rstrip('/').rpartition('/')[2].partition('.')[0], 24) or 'data'}",
        f"          uri: {_scalar(data)}",
        *_fields(found.data),
        *_annotate(wishes, found.data),
        *_sizes(found),
    ]
    return "\n".join(lines) + "\n"


def _model(model: str, found: LookedModel | None) -> list[str]:
    if found is None or found.weights:
        return [f"  model: {{source: {_scalar(model)}}}"]
    return [f"  model: {{config: {_scalar(model)}, tokenizer: {_scalar(model)}}}   # from scratch"]


def _judge(judge: str, found: LookedModel | None) -> list[str]:
    lines = ["  judge:", f"    model: {_scalar(judge)}"]
    sampling = []
    if found and found.reasoning_parser:
        lines.append(f"    reasoningParser: {found.reasoning_parser}   # it thinks before it answers")
        sampling.append('temperature: "0.6"')
    if found and found.context and found.context < 4 * Sampling().max_tokens:
        sampling.append(f"maxTokens: {found.context // 4}")
    return [
        *lines,
        *([f"    sampling: {{{', '.join(sampling)}}}"] if sampling else []),
        "    # rubric: what it is asked; unset: general quality (docs/api.md)",
    ]


def _conditioning(wishes: Wishes, data: LookedData | None) -> list[str]:
    if wishes.scores is None:
        return []
    if data and data.critique_field:
        return ["  conditioning: {format: TokenAndCritique}"]
    return ["  conditioning: {format: Token}   # a level: the data have no critiques"]


def _fields(data: LookedData | None) -> list[str]:
    if data is None:
        return ["          # textField: text   # not looked at: name the field, if another"]
    if _is_chat(data):
        return [f"          messagesField: {_scalar(data.messages_field)}"]
    return (
        [f"          textField: {_scalar(data.text_field)}"] if data.text_field not in (None, "text") else []
    )


def _annotate(wishes: Wishes, data: LookedData | None) -> list[str]:
    if wishes.scores is None:
        return ["      annotate: {samplePercent: 15}   # of the documents; the rest train without feedback"]
    critique = f", critiqueField: {_scalar(data.critique_field)}" if data and data.critique_field else ""
    return [
        "      annotate:",
        "        samplePercent: 100",
        f"        from: {{scoreField: {_scalar(wishes.scores)}{critique}}}   # the higher, the better",
    ]


def _sizes(found: Looked) -> list[str]:
    context = found.model.context if found.model else None
    length = min(context or DEFAULT_SEQUENCE, LONGEST_SEQUENCE)
    least = 16 * length
    tokens = max(least, found.data.tokens if found.data else UNKNOWN_TOKENS)
    batch = length
    while batch * 2 <= min(LARGEST_BATCH, tokens // STEPS):
        batch *= 2
    tokens -= tokens % batch
    why = f"the model takes {context:,}" if context else "not looked at: the model must take it"
    seen = "about once through the data" if found.data and found.data.tokens > least else "a first try"
    return [
        f"      prepare: {{sequenceLength: {length}}}   # tokens; {why}",
        "      train:",
        f"        maxTokens: {tokens}   # {seen}",
        f"        batchTokens: {batch}   # a step; {tokens // batch:,} steps",
        *([] if found.data is None or gpus_here() else [PROCESSORS]),
    ]


def _name(text: str, most: int) -> str:
    """A text as the name of an object or an item; empty where nothing of it may be in one."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:most].strip("-")


def _scalar(value: str | None) -> str:
    """A text as YAML has it, in quotes where it needs them."""
    text = str(value)
    plain = re.fullmatch(r"[A-Za-z./~][\w./:@-]*", text) and text.lower() not in YAML_WORDS
    return text if plain else json.dumps(text, ensure_ascii=False)


YAML_WORDS = ("true", "false", "yes", "no", "on", "off", "null", "y", "n")
