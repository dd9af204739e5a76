"""Loads what the stage will use before anything is paid for: tokenizer, chat template and model to train, the
first conversations of each dataset, and the judge's config, tokenizer and chat template."""

import math
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import chain, islice
from pathlib import Path
from typing import Any

from ixt_workloads import logs
from ixt_workloads.contract.base import AUTO
from ixt_workloads.contract.configs import (
    AnnotateConfig,
    GenerateConfig,
    InventoryConfig,
    PrepareConfig,
    TrainConfig,
)
from ixt_workloads.contract.exits import Exit, StepError
from ixt_workloads.contract.graph import Node
from ixt_workloads.contract.settings import Dataset, Judge, ModelSource, Train
from ixt_workloads.contract.trainer_pod import TRAINER_POD, TrainerPod
from ixt_workloads.data.chat import Conversation
from ixt_workloads.data.locate import local_folder
from ixt_workloads.data.memory import bounded
from ixt_workloads.sizes import Decoder, fit
from ixt_workloads.steps.inventory.files import FilesOfDatasets
from ixt_workloads.steps.inventory.sources import Prompts, Raw, documents
from ixt_workloads.steps.train.peaks import DEVICES, device_of

CONVERSATIONS = 64
"""Conversations of each dataset that are tried."""
MOST_REFUSED_PERCENT = 50
FEEDBACK = "Quality: 1/5"


def dry_load(config: InventoryConfig, files: FilesOfDatasets, nodes: Sequence[Node]) -> list[str]:
    """Load what these nodes of the stage need, as they will: a judge that the run serves, a model that the
    stage starts from, and a chat template. What is to be told of what was found.

    Raises StepError for what cannot be asked or trained.
    """
    judges = (node.config.judge for node in nodes if isinstance(node.config, AnnotateConfig))
    judge = next((each for each in judges if each and each.source), None)
    if judge:
        logs.take_over()
        _try_judge(judge)
    prepares = [node.config for node in nodes if isinstance(node.config, PrepareConfig)]
    trains = [node.config for node in nodes if isinstance(node.config, TrainConfig)]
    source = next((each.model for each in trains if each.model), None)
    chat = any(each.stage_type.is_chat for each in prepares)
    if source is None and not chat:
        return []
    # Imported here: transformers takes seconds, and is not needed where all of this is committed.
    from ixt_workloads.tokenizer import load_tokenizer

    logs.take_over()
    model = _dry_model(source) if source else None
    given = source or prepares[0].tokenizer
    tokenizer = load_tokenizer(_folder(given, "tokenizer"), given.chat_template)
    told = []
    if chat:
        feedback = FEEDBACK if any(each.method.conditions for each in prepares) else ""
        asked = [node.config.generation for node in nodes if isinstance(node.config, GenerateConfig)]
        answer = max((each.max_tokens for each in asked), default=0)
        room = prepares[0].prepare.sequence_length - answer if config.rollout else None
        told = [
            words
            for dataset in config.datasets
            if (words := _try_first(dataset, config, files, tokenizer, feedback, room))
        ]
    if model is not None:
        lengths = [each.prepare.sequence_length for each in prepares]
        _check_fit(model, tokenizer, lengths)
        if pod := os.environ.get(TRAINER_POD):
            _check_memory(model, trains[0].train, max(lengths), TrainerPod.model_validate_json(pod))
    return told


def _try_judge(judge: Judge) -> None:
    """Raise StepError for a judge of our own that its server would refuse to load or to ask."""
    # Imported here, as below.
    from ixt_workloads import models
    from ixt_workloads.steps.annotate.judging import LEAST, MAKE_ROOM, request
    from ixt_workloads.tokenizer import load_tokenizer

    assert judge.source
    folder = local_folder(judge.source, judge.revision, judge.credentials_secret_ref, what="judge.model")
    config = models.load_config(folder)
    models.check_generation(folder)
    tokenizer = load_tokenizer(folder)
    if any(option.startswith("--chat-template=") for option in judge.engine_args):
        return
    if not tokenizer.chat_template:
        raise StepError(
            Exit.CONFIG,
            f"judge.model: the tokenizer in {folder} has no chat template, so that it cannot be asked",
            "take a model that was trained on chats, or name a template in judge.engine.args: "
            "--chat-template=PATH",
        )
    asked = request(judge, "A document.")
    try:
        ids = tokenizer.apply_chat_template(
            asked["messages"], add_generation_prompt=True, return_dict=False,
            **asked.get("chat_template_kwargs", {}),
        )  # fmt: skip
    except Exception as error:  # noqa: BLE001 - templates raise what they like
        said = " ".join(str(error).split())
        raise StepError(
            Exit.CONFIG,
            f"judge.model: the chat template in {folder} refuses what the judge is asked: {said}",
            "leave out judge.systemPrompt or what is told in judge.chatTemplateKwargs, or take another judge",
        ) from None
    context = getattr(config.get_text_config(), "max_position_embeddings", None)
    needed = len(ids) + LEAST + judge.sampling.max_tokens
    if context and needed > context:
        raise StepError(
            Exit.CONFIG,
            f"judge.model: rubric and answer need more than {needed:,} tokens, the judge has {context:,} "
            "positions",
            MAKE_ROOM,
        )


def _try_first(
    dataset: Dataset,
    config: InventoryConfig,
    files: FilesOfDatasets,
    tokenizer: Any,
    feedback: str,
    room: int | None,
) -> str:
    """What is refused of a dataset's first conversations, or prompts, which may have at most `room` tokens;
    empty for nothing. Raises StepError when most of them are refused, or any conversation is."""
    from ixt_workloads.chat_template import ChatTemplate, Refused

    template = ChatTemplate(tokenizer)
    template.check(feedback)
    refused, tried = [], 0
    with bounded():
        for raw in islice(_documents(dataset, config, files), CONVERSATIONS):
            tried += 1
            talk = Conversation.from_json(raw.messages or "")
            try:
                if room is None:
                    template.rendered(talk, feedback)
                else:
                    _check_length(template.prompted(talk, feedback), tokenizer, room)
            except Refused as why:
                refused.append(f"{raw.place}: {why}")
    if not refused:
        return ""
    what, hint = "conversations", "give a tokenizer whose template takes them"
    if room is not None:
        what, hint = "prompts", f"{hint}, or raise prepare.sequenceLength"
    found = (
        f"the tokenizer's chat template refuses {len(refused)} of the first {tried} {what} of "
        f"{dataset.name}, such as {refused[0]}"
    )
    if 100 * len(refused) > MOST_REFUSED_PERCENT * tried:
        raise StepError(Exit.DATA, found, f"leave such {what} out, or {hint}")
    return found


def _check_length(prompt: str, tokenizer: Any, room: int) -> None:
    """Raise Refused for a prompt that leaves an answer no room in a sequence of the training."""
    from ixt_workloads.chat_template import Refused

    tokens = len(tokenizer.backend_tokenizer.encode(prompt, add_special_tokens=False).ids)
    if tokens > room:
        raise Refused(
            f"it makes {tokens:,} tokens of it, and prepare.sequenceLength less rollout.maxTokens is {room:,}"
        )


def _documents(dataset: Dataset, config: InventoryConfig, files: FilesOfDatasets) -> Iterator[Raw]:
    prompts = Prompts.of(config)
    found = (documents(dataset, file, config.existing, Counter(), prompts) for file in files[dataset.name])
    return chain.from_iterable(found)


def _dry_model(source: ModelSource) -> Any:
    from ixt_workloads import models

    return models.dry_load(_folder(source, "config"), weights=bool(source.source))


def _check_fit(model: Any, tokenizer: Any, lengths: Sequence[int]) -> None:
    """Raise StepError unless the model knows the tokenizer's ids and attends over its sequences."""
    from ixt_workloads import models

    vocabulary = max(tokenizer.get_vocab().values()) + 1
    models.check_vocabulary(model.get_input_embeddings().weight.shape[0], vocabulary)
    for length in lengths:
        models.check_context(model.config, length)


def _check_memory(model: Any, train: Train, length: int, pod: TrainerPod) -> None:
    """Raise StepError for a model that cannot fit onto the pods of its training, as training would."""
    processes = max(1, pod.gpus) if train.num_proc_per_node == AUTO else int(train.num_proc_per_node)
    available, hint = math.inf, ""
    if pod.gpus:
        device = device_of(pod.gpu) if pod.gpu else None
        if device or not pod.gpu:
            available = 1e9 * (device or max(DEVICES.values(), key=lambda each: each.gigabytes)).gigabytes
        if not pod.gpu:
            hint = "; of GPUs whose nodes no nodeSelector names, the largest that are known are taken"
    elif pod.memory_bytes:
        available = pod.memory_bytes / processes
    parameters = sum(each.numel() for each in model.parameters())
    decoder = replace(Decoder.from_config(model.config.to_dict()), parameters=parameters)
    ranks = train.num_nodes * processes
    try:
        fit(train, decoder, length, ranks=ranks, gpu=bool(pod.gpus), available=available)
    except StepError as error:
        # Of a training it may be worth another try; this is arithmetic.
        raise StepError(Exit.CONFIG, error.message, error.hint + hint) from None


def _folder(source: ModelSource, what: str) -> Path:
    """The folder of a part of the model: `tokenizer` or `config`."""
    place = source.source or getattr(source, what)
    field = "source" if source.source else what
    return local_folder(place, source.revision, source.credentials_secret_ref, what=f"model.{field}")
