"""What a judge is asked for. Built-in rubrics are texts here, so that their words are part of the key."""

from typing import Annotated

from pydantic import Field

from ixt_workloads.contract.base import InKey, Model


class RubricText(Model):
    """A rubric in full: instructions, the axes that are scored, and what the ends of the scale read like."""

    instructions: Annotated[str, InKey, Field(min_length=1, max_length=16_384)]
    """Put in front of every document in the judge's user turn, a blank line between them."""
    axes: Annotated[
        tuple[Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,39}$", max_length=40)], ...],
        InKey,
        Field(min_length=1, max_length=16),
    ] = ("score",)
    """What is scored, each with an integer. The raw score of a document is the mean over the axes."""
    min_score: Annotated[int, InKey, Field(ge=0, le=100)] = 1
    """Lowest score of an axis."""
    max_score: Annotated[int, InKey, Field(ge=1, le=100)] = 5
    """Highest score of an axis."""
    ideal_critique: Annotated[str, InKey, Field(min_length=1, max_length=2048)]
    """What the critique of a perfect document reads like: asked for at inference."""
    worst_critique: Annotated[str, InKey, Field(min_length=1, max_length=2048)]
    """What the critique of a worthless document reads like: the other end, for the evaluation."""


BUILTIN: dict[str, RubricText] = {
    "quality": RubricText(
        instructions=(
            "You review training data for a language model. Read the document and weigh it on five axes, "
            "each from 1 (worst) to 5 (best): writing_style (clear, well-formed prose or code), expertise "
            "(depth and command of the subject), educational_value (what a learner takes from it), "
            "fact_accuracy (density and correctness of facts, of reasoning or of code), efficiency (says it "
            "without filler). Think it through first. Then answer with a critique of two to four sentences "
            "in your own words, which names concrete strengths and errors without quoting the document, and "
            "the five scores."
        ),
        axes=("writing_style", "expertise", "educational_value", "fact_accuracy", "efficiency"),
        ideal_critique=(
            "Clear and well organised, written with command of the subject. Every statement is correct and "
            "every step justified; a learner gains much from it, and nothing in it is filler."
        ),
        worst_critique=(
            "Incoherent and superficial. Statements are wrong or unsupported, nothing can be learned from "
            "it, and most of it is filler."
        ),
    ),
}
