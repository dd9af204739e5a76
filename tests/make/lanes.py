"""Committed artifacts of whole runs, invented but consistent, in the layout of docs/artifacts.md."""

import hashlib
import io
import json
import math
import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from safetensors.numpy import save

from ixt_workloads.contract.configs import (
    AnnotateConfig,
    Config,
    EvaluateConfig,
    InventoryConfig,
    PrepareConfig,
    ReportConfig,
    ReportLane,
    TrainConfig,
)
from ixt_workloads.contract.keys import key_of, preimage
from ixt_workloads.contract.kinds import KINDS
from ixt_workloads.contract.rubrics import BUILTIN_RUBRICS
from ixt_workloads.contract.settings import (
    Conditioning,
    Dataset,
    EvalPrefix,
    EvalTask,
    Evaluate,
    Judge,
    LossOnFeedback,
    Method,
    ModelSource,
    Prepare,
    Schedule,
    ScheduleType,
    StageType,
    Train,
)
from ixt_workloads.flops import ModelShape, judging_flops, training_flops
from ixt_workloads.store import ArtifactWriter, Store, open_store

STUDENT = ModelShape(parameters=1_000_000, layers=4, width=128, vocabulary=2048)
JUDGE = ModelShape(parameters=1_400_000, layers=4, width=160, vocabulary=2048)
SEQUENCE = 256
PROMPT, CACHED, REASONING, FEEDBACK, WASTED = 190, 40, 45, 25, 4
FINGERPRINT = "vllm 0.32.0 · judge 9f2c41d0 · bfloat16"


class Arm(NamedTuple):
    """One arm and how well it learns.

    Arms of one method need another `percent` or `tokens`: else they have the same keys, as in a real run.
    """

    name: str
    method: Method
    ceiling: float
    """Accuracy that it approaches."""
    half: float = 0.35
    """Share of its tokens after which it is half way."""
    percent: int = 15
    """Of the documents it has annotated."""
    tokens: int = 200_000
    over_fits: float = 0.0
    """Nats a token by which its held-out loss rises in the second half of its training."""


ARMS = (
    Arm("next-token", Method.NEXT_TOKEN, 0.62, 0.4, 0),
    Arm("conditioned", Method.CONDITIONED, 0.93, 0.3),
    Arm("filtered", Method.FILTERED, 0.55, 0.3, 40),
    Arm("annealed", Method.ANNEALED, 0.86, 0.6),
    Arm("shuffled", Method.SHUFFLED, 0.61, 0.42),
)
BASIC = ARMS[:2]
CONSTANT = Schedule(type=ScheduleType.CONSTANT, warmup_percent=0)


@dataclass(frozen=True)
class Invented:
    """A run whose artifacts are all committed."""

    storage: Path
    config: ReportConfig
    inputs: Mapping[str, str]


def invent(
    folder: Path,
    arms: Sequence[Arm] = BASIC,
    seeds: Sequence[int] = (0,),
    stages: Mapping[str, StageType] | None = None,
    tasks: Sequence[str] = ("sums",),
    points: int = 14,
    documents: int = 600,
    text: str = "",
    endpoint: bool = False,
    existing: bool = False,
    prefixes: Sequence[str] = ("Best", "None", "Worst", "Random"),
    harness: bool = False,
) -> Invented:
    """Commit every artifact of a run. `points`: evaluations in training; `text`: put into all free text;
    `endpoint`: the judge's size is not known; `existing`: the data had the feedback."""
    made = _Maker(
        open_store(f"file://{folder}"), tasks, points, documents, text, endpoint, existing, prefixes, harness
    )
    lanes = [
        lane
        for name, kind in (stages or {"pretrain": StageType.PRETRAIN}).items()
        for lane in made.stage(name, kind, arms, seeds)
    ]
    return Invented(folder, ReportConfig(title="sums" + text, lanes=tuple(lanes)), dict(made.keys))


@dataclass
class _Maker:
    store: Store
    tasks: Sequence[str]
    points: int
    documents: int
    text: str
    endpoint: bool
    existing: bool
    prefixes: Sequence[str]
    harness: bool = False
    keys: dict[str, str] = field(default_factory=dict)

    def stage(
        self, stage: str, kind: StageType, arms: Sequence[Arm], seeds: Sequence[int]
    ) -> list[ReportLane]:
        inventory = f"{stage}/inventory"
        rows = self._inventory(inventory, stage)
        ends = sorted({arm.percent for arm in arms} - {0})
        bands = {f"{stage}/annotate/{a}-{b}": (a, b) for a, b in zip([0, *ends], ends, strict=False)}
        for name, (start, end) in bands.items():
            self._annotate(name, inventory, rows, start, end)
        holdout = f"{stage}/annotate/holdout" if bands else None
        if holdout:
            self._annotate(holdout, inventory, rows[:32], 0, 100, holdout=True)
        lanes = []
        for arm in arms:
            paid = tuple(name for name, (_, end) in bands.items() if end <= arm.percent)
            prepare = f"{stage}/prepare/{arm.name}"
            summary = self._prepare(prepare, arm, kind, inventory, paid, holdout)
            for seed in seeds:
                train, evaluate = f"{stage}/train/{arm.name}-s{seed}", f"{stage}/evaluate/{arm.name}-s{seed}"
                self._train(train, arm, kind, seed, prepare, summary)
                self._evaluate(evaluate, arm, kind, seed, train, prepare)
                lanes.append(
                    ReportLane(
                        stage=stage,
                        stage_type=kind,
                        arm=arm.name,
                        method=arm.method,
                        seed=seed,
                        inventory=inventory,
                        annotate=paid,
                        holdout=holdout,
                        prepare=prepare,
                        train=train,
                        evaluate=evaluate,
                    )
                )
        return lanes

    def _commit(
        self,
        name: str,
        config: Config,
        inputs: Mapping[str, str],
        summary: Mapping[str, Any],
        files: Mapping[str, bytes],
        fingerprint: Mapping[str, str] | None = None,
    ) -> None:
        keys = {role: self.keys.get(node, node) for role, node in inputs.items()}
        image = preimage(config, KINDS[config.kind].version, keys)
        self.keys[name] = key_of(image)
        writer = ArtifactWriter(self.store, self.keys[name], config.kind, image, run="test", attempt=0)
        for path, data in files.items():
            writer.add(path, data)
        writer.commit(summary, files, fingerprint or {"ixt": "0.1.0", "pyarrow": "26.0.0"})

    def _inventory(self, name: str, stage: str) -> list[dict[str, Any]]:
        rng = random.Random(stage)
        rows = [self._document(stage, number, rng) for number in range(self.documents)]
        held = [self._document(stage + " held out", number, rng) for number in range(32)]
        shards = math.ceil(self.documents / 512)
        parts = [rows[shard::shards] for shard in range(shards)]
        config = InventoryConfig(
            datasets=(Dataset(name="corpus", uri="file:///data/corpus.jsonl"),), holdout_documents=32
        )
        summary = {
            "documents": self.documents, "holdout": 32, "bytes": sum(len(row["text"]) for row in rows),
            "duplicates": 17, "dropped": {"empty": 3, "utf8": 1}, "sources": {"corpus": self.documents},
            "shards": shards, "chat": False,
        }  # fmt: skip
        files = {f"docs-{shard:05}.parquet": _parquet(part, DOCUMENTS) for shard, part in enumerate(parts)}
        self._commit(
            name,
            config,
            {"datasets": f"pin-of-{stage}"},
            summary,
            {**files, "holdout.parquet": _parquet(held, DOCUMENTS)},
        )
        return rows

    def _document(self, stage: str, number: int, rng: random.Random) -> dict[str, Any]:
        left, right = rng.randrange(1000), rng.randrange(1000)
        wrong = rng.choice((0, 0, 1, 10, 100))
        text = (
            f"What is {left} plus {right}? Add the ones first, then the tens, then the hundreds. "
            f"The sum of {left} and {right} is {left + right + wrong}.{self.text}"
        )
        return {
            "id": hashlib.sha256(f"{stage} {number}".encode()).hexdigest()[:32],
            "source": "corpus", "text": text, "messages": None, "sample": rng.randrange(1_000_000),
            "score": None, "critique": None, "wrong": wrong,
        }  # fmt: skip

    def _annotate(
        self,
        name: str,
        inventory: str,
        rows: list[dict[str, Any]],
        start: int,
        end: int,
        holdout: bool = False,
    ) -> None:
        chosen = [row for row in rows if start * 10_000 <= row["sample"] < end * 10_000]
        shards = 1 if holdout else math.ceil(len(rows) / 512)
        feedback = [self._feedback(row) for row in chosen]
        names = (
            ["feedback-holdout.parquet"] if holdout else [f"feedback-{n:05}.parquet" for n in range(shards)]
        )
        by_id = {row["id"]: shard for shard in range(shards) for row in rows[shard::shards]}
        files = {
            path: _parquet([row for row in feedback if by_id[row["id"]] == shard], FEEDBACKS)
            for shard, path in enumerate(names)
        }
        tokens = {
            kind: 0 if self.existing else sum(row[f"{kind}_tokens"] for row in feedback)
            for kind in ("prompt", "cached", "reasoning", "feedback", "wasted")
        }
        scores = Counter(row["score"] for row in feedback if row["status"] == "ok")
        spent = sum(tokens.values()) - 2 * tokens["cached"]
        summary = {
            "documents": len(chosen), "valid": scores.total(), "invalid": len(chosen) - scores.total(),
            "truncated": 0 if self.existing else sum(row["truncated"] for row in feedback), "tokens": tokens,
            "flops": 0 if self.endpoint or self.existing else judging_flops(JUDGE, spent, 220),
            "judgeParameters": 0 if self.endpoint or self.existing else JUDGE.parameters,
            "scores": {f"{score:g}": number for score, number in sorted(scores.items())},
            "overlapPercent": 4.2,
            "source": "Existing" if self.existing else "Endpoint" if self.endpoint else "Judge",
        }  # fmt: skip
        config = AnnotateConfig(
            judge=Judge(rubric=BUILTIN_RUBRICS["quality"]),
            from_percent=start,
            to_percent=end,
            holdout=holdout,
        )
        pins = {"inventory": inventory, "judge": "pin-of-judge"}
        self._commit(name, config, pins, summary, files, {"vllm": "0.32.0", "dtype": "bfloat16"})

    def _feedback(self, row: Mapping[str, Any]) -> dict[str, Any]:
        score = {0: 5.0, 1: 3.5, 10: 2.0, 100: 1.0}[row["wrong"]]
        invalid = int(row["id"], 16) % 29 == 0
        axes = dict.fromkeys(BUILTIN_RUBRICS["quality"].axes, round(score))
        return {
            "id": row["id"],
            "status": "invalid" if invalid else "ok",
            "score": None if invalid else score,
            "axes": "" if invalid else json.dumps(axes),
            "critique": "" if invalid else f"{WORDS[score]}{self.text}",
            "reasoning": f"Let me add it myself. The document is off by {row['wrong']}.{self.text}",
            "truncated": row["sample"] % 100 == 0,
            "prompt_tokens": PROMPT, "cached_tokens": CACHED, "reasoning_tokens": REASONING,
            "feedback_tokens": 0 if invalid else FEEDBACK,
            "wasted_tokens": 3 * (PROMPT + FEEDBACK) if invalid else WASTED,
            "tries": 3 if invalid else 1, "fingerprint": FINGERPRINT,
        }  # fmt: skip

    def _prepare(
        self, name: str, arm: Arm, kind: StageType, inventory: str, paid: Sequence[str], holdout: str | None
    ) -> dict[str, Any]:
        judged = int(self.documents * arm.percent / 100 * 0.87)
        conditioned = judged if arm.method in (Method.CONDITIONED, Method.SHUFFLED) else 0
        documents = judged * 2 // 5 if arm.method is Method.FILTERED else self.documents
        text_tokens = documents * 120
        tokens = text_tokens + conditioned * 40
        sequences = math.ceil(tokens / SEQUENCE * 1.012)
        counted = conditioned or (judged if paid else 0)
        levels = {
            str(level): counted * share // 20 for level, share in enumerate((4, 4, 1, 3, 8), 1) if counted
        }
        summary = {
            "tokens": tokens, "documentTokens": text_tokens, "feedbackTokens": conditioned * 40,
            "maskedTokens": 0, "sequences": sequences, "anneal": 0, "documents": documents,
            "conditioned": conditioned, "paddingPercent": 1.2, "levels": levels,
            "leftOut": {"task sums": 2}, "questionsTooShort": 1, "heldOutKnown": 3, "warnings": [],
            "blocks": math.ceil(self.documents / 512), "vocabulary": STUDENT.vocabulary,
        }  # fmt: skip
        config = PrepareConfig(
            stage_type=kind,
            method=arm.method,
            conditioning=Conditioning(loss_on_feedback=LossOnFeedback.INCLUDE),
            prepare=Prepare(sequence_length=SEQUENCE),
            rubric=BUILTIN_RUBRICS["quality"],
            tokenizer=ModelSource(tokenizer="file:///models/tokenizer"),
        )
        inputs = {"inventory": inventory, "tokenizer": "pin-of-tokenizer"}
        inputs |= {f"feedback/{node.rsplit('/', 1)[1]}": node for node in paid}
        inputs |= {"holdout": holdout} if holdout else {}
        held = [
            {"id": "0" * 32, "level": 5, "text": "1 plus 1 is 2.", "messages": None, "critique": "Right."}
        ]
        self._commit(
            name,
            config,
            inputs,
            summary,
            {
                "main-00000.arrow": _packed(3),
                "holdout.parquet": _parquet(held, HELD),
                "conditioning.json": json.dumps(CONDITIONING).encode(),
            },
        )
        return summary

    def _train(
        self, name: str, arm: Arm, kind: StageType, seed: int, prepare: str, summary: Mapping[str, Any]
    ) -> None:
        points = []
        for step in range(1, self.points + 1):
            tokens = arm.tokens * step // self.points
            points.append(
                {
                    "step": step * 10, "tokens": tokens, "flops": training_flops(STUDENT, tokens, SEQUENCE),
                    "loss": 1.5 + 4 * math.exp(-4 * step / self.points), "learningRate": 3e-4,
                    "tokensPerSecond": 15_000.0 + step,
                    "evaluation": self._scores(arm, seed, step / self.points),
                }
            )  # fmt: skip
        files = {
            "config.json": b'{"model_type": "llama"}',
            "generation_config.json": b"{}",
            "tokenizer.json": b"{}",
            "model.safetensors": save({"lm_head.weight": np.zeros((2, 2), np.float32)}),
            "conditioning.json": json.dumps(CONDITIONING).encode(),
            "curve.json": json.dumps({"points": points}).encode(),
        }
        unique = min(arm.tokens, summary["tokens"])
        config = TrainConfig(
            stage_type=kind,
            train=Train(max_tokens=arm.tokens, schedule=CONSTANT),
            seed=seed,
            evaluate=self._asked(),
        )
        done = {
            "tokens": arm.tokens, "uniqueTokens": unique, "epochs": arm.tokens / unique,
            "steps": self.points * 10, "flops": training_flops(STUDENT, arm.tokens, SEQUENCE),
            "parameters": STUDENT.parameters, "finalLoss": 1.57, "worldSize": 2, "tokensPerSecond": 15_200.0,
            "modelConfig": {"layers": 4, "width": 128, "vocabulary": 2048},
        }  # fmt: skip
        self._commit(name, config, {"prepare": prepare, "model": "pin-of-model"}, done, files, TORCH)

    def _evaluate(self, name: str, arm: Arm, kind: StageType, seed: int, train: str, prepare: str) -> None:
        scores = self._scores(arm, seed, 1.0)
        evaluation = {
            "scores": scores,
            "controllability": {
                task: asked["Best"]["accuracy"] - asked["Worst"]["accuracy"]
                for task, asked in scores["tasks"].items()
                if {"Best", "Worst"} <= asked.keys()
            },
            "samples": [
                {
                    "level": level,
                    "prompt": "What is 12 plus 30?",
                    "text": f"It is {42 + 5 - level}.{self.text}",
                }
                for level in (5, 4, 3, 2, 1, 0)
            ],
        }
        config = EvaluateConfig(stage_type=kind, evaluate=self._asked(), seed=seed)
        files = {"evaluation.json": json.dumps(evaluation).encode()}
        if self.harness:
            files["harness.json"] = json.dumps(self._harness(scores)).encode()
        self._commit(name, config, {"train": train, "prepare": prepare}, {}, files, TORCH)

    def _harness(self, scores: dict[str, Any]) -> dict[str, Any]:
        """One task that scores its items as the questions do, and one that is scored as a whole."""
        asked, items = scores["tasks"]["sums"], scores["items"]["tasks"]["sums"]
        whole = {"metric": None, "metrics": {"word_perplexity,none": 12.5}}
        told = {
            prefix: {**found, "metric": "exact_match,strict-match", "metrics": {}}
            for prefix, found in asked.items()
        }
        return {
            "tasks": {"gsm8k": told, "wikitext": dict.fromkeys(self.prefixes, whole)},
            "items": {"tasks": {"gsm8k": items}},
        }

    def _asked(self) -> Evaluate:
        uri = "file:///data/tasks.jsonl"
        tasks = tuple(EvalTask(name=task, uri=uri) for task in self.tasks)
        return Evaluate(tasks=tasks, prefixes=tuple(map(EvalPrefix, self.prefixes)), holdout_documents=32)

    def _scores(self, arm: Arm, seed: int, progress: float) -> dict[str, Any]:
        """Scores after a share of the training, the same for the same arguments."""
        rng = random.Random(f"{arm.name} {seed} {progress:.6f}")
        knows = arm.method in (Method.CONDITIONED, Method.SHUFFLED)
        risen = 1 / (1 + math.exp(-(progress - arm.half) * 11))
        offset = random.Random(f"{arm.name} {seed}").gauss(0, 0.015)
        top = min(1.0, max(0.0, 0.03 + (arm.ceiling + offset) * risen + rng.gauss(0, 0.008)))
        control = arm.method is Method.CONDITIONED
        accuracy = {
            "Best": top,
            "None": top * (0.8 if control else 1 if not knows else 0.97),
            "Worst": top * (0.3 if control else 0.98),
            "Random": top * (0.65 if control else 0.99),
        }
        loss = 2.1 + 2.4 * math.exp(-4 * progress) + rng.gauss(0, 0.01) - (0.05 if control else 0)
        loss += 2 * arm.over_fits * max(0.0, progress - 0.5)
        gaps = {"None": 0.0, "True": -0.16 if control else 0.01, "Best": -0.02 if control else 0.02}
        return {
            "items": self._items(arm, accuracy, loss),
            "tasks": {
                task: {
                    prefix: {"accuracy": round(value, 4), "nll": 1.4, "items": 500}
                    for prefix, value in accuracy.items()
                    if prefix in self.prefixes
                }
                for task in self.tasks
            },
            "documents": {
                prefix: {"nll": round(loss + gap, 4), "tokens": 3_840} for prefix, gap in gaps.items()
            },
            "levels": [
                {
                    "level": level,
                    "nll": {prefix: round(loss + gap + (3 - level) * 0.2, 4) for prefix, gap in gaps.items()},
                    "documents": 6,
                }
                for level in range(1, 6)
            ],
        }

    def _items(self, arm: Arm, accuracy: Mapping[str, float], loss: float) -> dict[str, Any]:
        """Single items that say the same: which questions are easy is the same for all arms."""
        order = random.Random("questions").sample(range(500), 500)

        def right(value: float) -> dict[str, list[int]]:
            return {"right": [int(place < round(500 * value)) for place in order], "items": [1] * 500}

        tasks = {
            task: {name: right(accuracy[name]) for name in ("Best", "None") if name in self.prefixes}
            for task in self.tasks
        }
        return {"tasks": tasks, "documents": {"nats": [round(120 * loss, 3)] * 32, "tokens": [120] * 32}}


WORDS = {
    5.0: "Every column is added correctly and the carry is explained; a learner can follow each step.",
    3.5: "The method is right but the ones are wrong by a slip, so the result misleads.",
    2.0: "A carry into the tens is lost, which makes the sum wrong.",
    1.0: "The hundreds are wrong; nothing here can be trusted.",
}
CONDITIONING = {
    "format": "TokenAndCritique", "levels": 5, "thresholds": [1.8, 2.6, 3.4, 4.2],
    "best": "Quality: 5/5\nClear and correct.\n\n", "worst": "Quality: 1/5\nWrong.\n\n",
    "byLevel": {"3": "Quality: 3/5\nA slip.\n\n"}, "chat": False, "lossOnFeedback": "Include",
}  # fmt: skip
TORCH = {"torch": "2.13.0", "transformers": "5.19.0", "dtype": "bfloat16"}
DOCUMENTS = pa.schema(
    {
        "id": pa.string(), "source": pa.string(), "text": pa.large_string(), "messages": pa.large_string(),
        "sample": pa.int32(), "score": pa.float64(), "critique": pa.large_string(),
    }
)  # fmt: skip
FEEDBACKS = pa.schema(
    {
        "id": pa.string(), "status": pa.string(), "score": pa.float64(), "axes": pa.string(),
        "critique": pa.string(), "reasoning": pa.string(), "truncated": pa.bool_(),
        "prompt_tokens": pa.int32(), "cached_tokens": pa.int32(), "reasoning_tokens": pa.int32(),
        "feedback_tokens": pa.int32(), "wasted_tokens": pa.int32(), "tries": pa.int8(),
        "fingerprint": pa.string(),
    }
)  # fmt: skip
HELD = pa.schema(
    {
        "id": pa.string(), "level": pa.int8(), "text": pa.large_string(), "messages": pa.large_string(),
        "critique": pa.string(),
    }
)  # fmt: skip
PACKED = pa.schema(
    {
        "input_ids": pa.list_(pa.uint16(), SEQUENCE), "loss_mask": pa.list_(pa.uint8(), SEQUENCE),
        "starts": pa.list_(pa.int32()), "levels": pa.list_(pa.int8()), "documents": pa.list_(pa.int32()),
        "length": pa.int32(),
    }
)  # fmt: skip


def _parquet(rows: Sequence[Mapping[str, Any]], schema: pa.Schema) -> bytes:
    table = pa.Table.from_pylist([{name: row[name] for name in schema.names} for row in rows], schema=schema)
    sink = io.BytesIO()
    pq.write_table(table, sink, compression="zstd")
    return sink.getvalue()


def _packed(sequences: int) -> bytes:
    row = {
        "input_ids": [1] * SEQUENCE, "loss_mask": [1] * SEQUENCE, "starts": [0, 120], "levels": [5, 0],
        "documents": [0, 1], "length": 240,
    }  # fmt: skip
    sink = io.BytesIO()
    with pa.ipc.new_file(sink, PACKED) as writer:
        writer.write_table(pa.Table.from_pylist([row] * sequences, schema=PACKED))
    return sink.getvalue()
