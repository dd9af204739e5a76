"""Asks an exported model by one engine of vLLM, a program for test_harness.py:

python with_vllm.py QUESTION MODEL CODE

asks the harness's question (a file with JSON), and runs the file with Python code, whose vLLM is the same
engine. Its last line is JSON: the table, and what the code's `answers` are.
"""

import contextlib
import json
import sys
from pathlib import Path

import vllm

from ixt_workloads.contract.exported import EvalQuestion
from ixt_workloads.harness import engines
from ixt_workloads.harness.again import evaluate

if __name__ == "__main__":
    question, model, code = map(Path, sys.argv[1:])
    with engines.vllm_engine(model, 64) as engine:
        engines.LARGE = 0
        engines.vllm_engine = lambda folder, most: contextlib.nullcontext(engine)
        vllm.LLM = lambda folder: engine
        table = [*evaluate(EvalQuestion.model_validate_json(question.read_text()))]
        found = {}
        exec(code.read_text(), found)
    text = found["answers"][0].outputs[0].text
    print(json.dumps({"table": table, "asked": found["answers"][0].prompt_token_ids, "text": text}))
