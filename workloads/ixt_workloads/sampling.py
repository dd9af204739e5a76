"""What a trained model writes after a prompt, level by level: `ixt sample`."""

from collections.abc import Iterator

import torch

from ixt_workloads import models
from ixt_workloads.asking import Asker, Level
from ixt_workloads.contract.exits import Exit, StepError
from ixt_workloads.contract.exported import SampleQuestion
from ixt_workloads.store import Artifact, NotFound, open_storage


def sample(question: SampleQuestion) -> Iterator[str]:
    """An answer to the prompt for each level, greedily written, under a heading. Raises StepError."""
    try:
        trained = Artifact.open(open_storage(question.storage), question.train)
    except NotFound:
        raise StepError(
            Exit.NO_INPUT, f"{question.name} is not there yet", "run it to its end first"
        ) from None
    with models.gathered(trained) as folder:
        asker = Asker(folder)
        levels: list[Level] = [*question.levels]
        if not levels:
            levels = ["best", "none"] if asker.contract else ["none"]
        asked = {level: asker.ids(question.prompt, level) for level in levels}
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        model = models.load_model(folder, dtype=None).to(device).eval()
    tokenizer = asker.tokenizer
    for level, prompt in asked.items():
        ids = torch.tensor([prompt], device=device)
        written = model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=question.max_new_tokens,
            do_sample=False,
            pad_token_id=tokenizer.pad_token_id if tokenizer.pad_token_id is not None else 0,
        )
        yield f"--- {f'level {level}' if isinstance(level, int) else level}"
        yield tokenizer.decode(written[0, len(prompt) :], skip_special_tokens=True)
