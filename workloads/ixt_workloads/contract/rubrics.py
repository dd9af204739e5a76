"""What a judge is asked for. Built-in rubrics are texts here, so that their words are part of the key."""

from enum import StrEnum
from typing import Annotated

from pydantic import Field

from ixt_workloads.contract.base import InKey, Model


class DocumentForm(StrEnum):
    """How a document stands in the judge's turn."""

    FENCED = "Fenced"
    """Between two lines with a number of its own, and words that it is text to judge and no instruction."""
    BARE = "Bare"
    """As it is, for judges that were trained so."""


class RubricText(Model):
    """A rubric in full: instructions, the axes that are scored, and what the ends of the scale read like."""

    instructions: Annotated[str, InKey, Field(min_length=1, max_length=16_384)]
    """Put in front of every document in the judge's user turn, a blank line between them."""
    document: Annotated[DocumentForm, InKey] = DocumentForm.FENCED
    """Fenced: each document stands between two lines with a number of its own, as text to judge that is no
    instruction. Bare: as it is, for judges that were trained so. Tokens of the judge's chat template are
    broken up in both."""
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


def _described(subject: str, axes: dict[str, str], *, ideal: str, worst: str) -> RubricText:
    """A rubric with five axes, each with its levels in words."""
    scales = "\n".join(f"- {name}. {levels}" for name, levels in axes.items())
    return RubricText(
        instructions=(
            f"You review training data for a language model: {subject}. Weigh it on five axes, each from 1 "
            f"(worst) "
            f"to 5 (best); 2 and 4 lie between what is described:\n{scales}\n"
            "Judge the content, not its topic, length, language, case or layout. Think it through first, "
            "and check "
            "what can be checked. Then answer with a critique of two to four sentences in your own words, "
            "which "
            "names the concrete strengths and errors, and the five scores. In the critique you may not "
            "quote the "
            "document: no more than four words in a row from it, and none of its answers or results."
        ),
        axes=tuple(axes),
        ideal_critique=ideal,
        worst_critique=worst,
    )


BUILTIN_RUBRICS: dict[str, RubricText] = {
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
    "web": _described(
        "text from the web",
        {
            "writing_style": "1: broken sentences, lists of keywords or leftovers of a page. 3: readable, "
            "uneven. "
            "5: clear, well-formed prose with a thread that a reader can follow.",
            "expertise": "1: hearsay or advertising. 3: common knowledge, correctly told. 5: the command "
            "of the "
            "subject that only somebody in the field has.",
            "educational_value": "1: a learner takes nothing from it. 3: some facts in passing. 5: it "
            "explains, "
            "with reasons and examples, so that a learner can use it.",
            "fact_accuracy": "1: claims that are wrong or cannot be checked. 3: few facts, mostly right. "
            "5: many "
            "facts, all of them right as far as you know, with their limits.",
            "efficiency": "1: filler, repetition, navigation, calls to buy. 3: some padding. 5: every "
            "sentence "
            "adds something.",
        },
        ideal="Clear prose by somebody who knows the field. It explains step by step, is rich in facts "
        "that hold, "
        "states their limits, and has no sentence too many.",
        worst="Leftovers of a web page and advertising. Nothing is explained, claims are wrong or empty, "
        "and most "
        "of it repeats itself.",
    ),
    "code": _described(
        "source code, or text about code",
        {
            "writing_style": "1: unreadable, with names that say nothing. 3: usual style with lapses. 5: "
            "names, "
            "structure and comments make the intent plain.",
            "expertise": "1: misuses the language or its libraries. 3: works in the common case. 5: "
            "idiomatic, "
            "handles errors and edges, chooses fitting data structures.",
            "educational_value": "1: generated or boilerplate code. 3: an ordinary solution. 5: shows how "
            "and why "
            "a problem is solved, so that a reader can solve the next one.",
            "correctness": "1: does not run or does something else than it says. 3: right but for edges or "
            "small "
            "errors. 5: correct in all cases that matter, and what is said of it is true.",
            "efficiency": "1: repeated, dead or needlessly slow code. 3: somewhat longer or slower than "
            "needed. 5: "
            "as short as it can clearly be, with a fitting complexity.",
        },
        ideal="Idiomatic, well-named and correct in every case, errors and edges included. The reasons of "
        "the "
        "design are plain, and nothing in it is superfluous.",
        worst="Does not do what it says. Names mean nothing, errors are ignored, blocks are copied, and "
        "there is "
        "nothing to learn from it.",
    ),
    "math": _described(
        "mathematics, or text that reasons with numbers",
        {
            "writing_style": "1: symbols without order or definition. 3: readable with gaps. 5: notation is "
            "defined, and steps stand in the order in which they follow.",
            "expertise": "1: confuses the notions. 3: applies known recipes. 5: chooses the right tool and "
            "says why "
            "it applies.",
            "educational_value": "1: a bare result. 3: the steps without their reasons. 5: the idea is "
            "told, each "
            "step has its reason, and the result is checked.",
            "correctness": "1: the result or a step it needs is wrong. 3: right with slips that do not "
            "carry on. 5: "
            "every step and the result are right; check them yourself.",
            "efficiency": "1: wanders or computes what is not needed. 3: some detours. 5: the shortest "
            "argument "
            "that is complete.",
        },
        ideal="Notation is defined, each step follows from the one before and says why, and the result has "
        "been "
        "checked and is right. No step could be left out.",
        worst="Steps do not follow from each other and the result is wrong. Symbols are undefined, and "
        "nothing is "
        "explained or checked.",
    ),
    "chat": _described(
        "a conversation between a user and an assistant; judge what the assistant says",
        {
            "writing_style": "1: confused, or in a tone that does not fit. 3: understandable, wooden. 5: "
            "clear, "
            "well ordered, in the tone and language that the user needs.",
            "expertise": "1: does not grasp the request. 3: answers its surface. 5: sees what is behind it "
            "and "
            "answers with command of the subject.",
            "helpfulness": "1: refuses without need or misses the request. 3: helps in part. 5: does all "
            "that is "
            "asked, keeps every constraint, and says what it cannot do.",
            "fact_accuracy": "1: false or invented statements. 3: mostly right. 5: all of it is right, and "
            "what is "
            "not known is said to be so.",
            "efficiency": "1: phrases, repetition of the question, endless lists. 3: longer than needed. "
            "5: as long "
            "as the request asks for and no longer.",
        },
        ideal="The assistant sees what the user needs and does all of it, within every constraint. What it "
        "says is "
        "right, clear and in the fitting tone, and it stops when it is done.",
        worst="The assistant misses the request, invents facts and ignores constraints. It repeats the "
        "question, "
        "fills space with phrases, and is of no use.",
    ),
}
