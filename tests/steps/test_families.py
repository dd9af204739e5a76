"""Models of the families that people train: what training and evaluation make of packed documents is what
transformers' own eager attention makes of each document alone."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from make.families import FAMILIES, SIZES, family
from torch.nn import functional
from transformers import AutoConfig, AutoModelForCausalLM

from ixt_workloads.attention import ATTENTION, check_attention
from ixt_workloads.contract.exits import StepError
from ixt_workloads.data.packed import Packed
from ixt_workloads.losses import IGNORED, check_head, token_losses
from ixt_workloads.models import dry_load, load_model
from ixt_workloads.steps.train.batches import Layout, make_batch
from ixt_workloads.steps.train.train import losses_of

pytestmark = pytest.mark.engine

LENGTH = 48
ROWS = ((20, 9, 14), (30, 18))
"""Lengths of documents in two sequences; the first is padded."""


def packed() -> tuple[list[Packed], list[torch.Tensor]]:
    """Sequences of random documents, and the documents."""
    random = np.random.default_rng(5)
    rows, documents = [], []
    for lengths in ROWS:
        texts = [random.integers(4, 99, length) for length in lengths]
        documents += [torch.from_numpy(text)[None] for text in texts]
        ids = np.concatenate([*texts, np.zeros(LENGTH - sum(lengths), dtype=np.int64)])
        rows.append(
            Packed(
                input_ids=ids.astype(np.int32),
                loss_mask=(np.arange(LENGTH) < sum(lengths)).astype(np.uint8),
                starts=np.cumsum([0, *lengths[:-1]]).astype(np.int32),
                levels=np.zeros(len(lengths), dtype=np.int32),
                documents=np.arange(len(lengths), dtype=np.int32),
                length=sum(lengths),
            )
        )
    return rows, documents


def eager(model: Any, documents: list[torch.Tensor]) -> torch.Tensor:
    """Sum of the documents' losses."""
    model.set_attn_implementation("eager")
    losses = [
        functional.cross_entropy(
            model(input_ids=ids, use_cache=False).logits[0, :-1].float(), ids[0, 1:], reduction="sum"
        )
        for ids in documents
    ]
    return torch.stack(losses).sum()


def gradients(model: Any, loss: torch.Tensor) -> dict[str, torch.Tensor]:
    model.zero_grad()
    torch.autograd.backward(loss)
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("name", FAMILIES)
def test_loss_and_gradients_are_those_of_each_document_alone(name: str) -> None:
    model = family(name).train()
    check_attention(model)
    rows, documents = packed()
    expected = eager(model, documents)
    wanted = gradients(model, expected)
    model.set_attn_implementation(ATTENTION)
    for layout in Layout:
        found, _ = losses_of(model, make_batch(rows, layout, torch.device("cpu")))
        assert float(found.detach()) == pytest.approx(float(expected.detach()), rel=1e-5), layout
        made = gradients(model, found)
        assert made.keys() == wanted.keys()
        for weight, gradient in made.items():
            scale = wanted[weight].abs().max()
            atol = float(scale) * 1e-3
            torch.testing.assert_close(gradient, wanted[weight], atol=atol, rtol=1e-2, msg=weight)


@pytest.mark.parametrize("name", FAMILIES)
def test_evaluation_of_padded_rows_is_that_of_each_document_alone(name: str) -> None:
    model = family(name).eval()
    _, documents = packed()
    longest = max(ids.shape[1] for ids in documents)
    ids = torch.zeros(len(documents), longest, dtype=torch.long)
    labels = torch.full((len(documents), longest), IGNORED)
    for row, document in enumerate(documents):
        length = document.shape[1]
        ids[row, :length] = document
        labels[row, : length - 1] = document[0, 1:]
    with torch.no_grad():
        model.set_attn_implementation("eager")
        logits = [model(input_ids=document, use_cache=False).logits[0].float() for document in documents]
        model.set_attn_implementation(ATTENTION)
        found = token_losses(model, {"input_ids": ids}, labels.flatten())
    nats, best = found.nats.view_as(labels), found.best.view_as(labels)
    for row, (document, expected) in enumerate(zip(documents, logits, strict=True)):
        length = document.shape[1] - 1
        wanted = functional.cross_entropy(expected[:-1], document[0, 1:], reduction="none")
        torch.testing.assert_close(nats[row, :length], wanted, atol=1e-3, rtol=1e-4)
        assert (best[row, :length] == expected[:-1].argmax(-1)).all()


def test_the_head_is_applied_to_some_tokens_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    model = family("gemma2").train()
    rows, _ = packed()
    batch = make_batch(rows, Layout.FLAT, torch.device("cpu"))
    whole, _ = losses_of(model, batch)
    wanted = gradients(model, whole)
    largest: list[int] = []
    model.lm_head.register_forward_hook(lambda _, inputs, __: largest.append(inputs[0].shape[0]))
    monkeypatch.setattr("ixt_workloads.losses.LOGITS", 16 * 99)
    parts, _ = losses_of(model, batch)
    assert float(parts.detach()) == pytest.approx(float(whole.detach()))
    for weight, gradient in gradients(model, parts).items():
        torch.testing.assert_close(gradient, wanted[weight], atol=1e-4, rtol=1e-4)
    assert max(largest) == 16


@pytest.mark.parametrize("name", ["mixtral", "qwen3-moe", "gpt-oss"])
def test_the_loss_of_the_router_is_the_familys_own(name: str) -> None:
    model = family(name).train()
    _, documents = packed()
    batch = {"input_ids": documents[0]}
    labels = torch.cat([documents[0][0, 1:], torch.tensor([IGNORED])])
    assert token_losses(model, batch, labels).router is None
    own = model(**batch, output_router_logits=True, use_cache=False).aux_loss
    model.config.output_router_logits = True
    found = token_losses(model, batch, labels).router
    assert found is not None
    assert float(found.detach()) == pytest.approx(float(own.detach()) * model.router_aux_loss_coef)


@pytest.mark.parametrize(
    ("kind", "settings", "reason"),
    [
        ("bloom", {"n_layer": 2, "n_head": 4}, "does its attention itself"),
        ("mamba", {}, "has layers of type linear_attention"),
        ("qwen3_next", {"num_hidden_layers": 4}, "has layers of type linear_attention"),
        ("llama4_text", {"num_hidden_layers": 4}, "has layers of type chunked_attention"),
    ],
)
def test_a_model_that_attends_otherwise_is_refused_by_name(
    kind: str, settings: dict[str, Any], reason: str
) -> None:
    with torch.device("meta"):
        build: Any = AutoModelForCausalLM.from_config
        model = build(AutoConfig.for_model(kind, hidden_size=64, **settings))
    with pytest.raises(StepError, match=f"{kind} {reason}.*, which ixt does not train"):
        check_attention(model)


@pytest.mark.parametrize(
    ("kind", "settings", "reason"),
    [
        ("nemotron", {}, "nemotron does not tell its attention where documents end"),
        ("recurrent_gemma", {}, "recurrent_gemma does not tell its attention where documents end"),
        ("bert", {}, "BertSelfAttention attends to what follows"),
        ("roberta", {"is_decoder": True}, "roberta makes its logits in a way that ixt does not know"),
    ],
)
def test_a_model_that_would_train_otherwise_than_it_says_is_refused_dry(
    kind: str, settings: dict[str, Any], reason: str, tmp_path: Path
) -> None:
    AutoConfig.for_model(kind, **{**SIZES, **settings}).save_pretrained(tmp_path)
    with pytest.raises(StepError, match=reason):
        dry_load(tmp_path, weights=False)


@pytest.mark.parametrize("kind", ["gpt2", "opt", "gpt_neox", "starcoder2", "cohere", "granitemoe"])
def test_models_with_ways_of_their_own_are_taken(kind: str, tmp_path: Path) -> None:
    AutoConfig.for_model(kind, **SIZES).save_pretrained(tmp_path)
    dry_load(tmp_path, weights=False)


def test_a_head_that_is_not_known_is_refused() -> None:
    model = family("llama")
    check_head(model)
    forward = model.forward

    def twice(*args: Any, **kwargs: Any) -> Any:
        output = forward(*args, **kwargs)
        output.logits = 2 * output.logits
        return output

    model.forward = twice
    with pytest.raises(StepError, match="llama makes its logits in a way that ixt does not know"):
        check_head(model)


@pytest.mark.parametrize("name", FAMILIES)
def test_families_are_taken_dry(name: str, tmp_path: Path) -> None:
    family(name).config.save_pretrained(tmp_path)
    dry_load(tmp_path, weights=False)


def test_weights_that_the_config_does_not_know_are_no_truncated_model(tmp_path: Path) -> None:
    family("llama").save_pretrained(tmp_path)
    path = tmp_path / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "num_hidden_layers": 1}))
    with pytest.raises(
        StepError, match=r"hold 9 tensors that its config.json does not know, such as model.layers.1"
    ):
        load_model(tmp_path)
