"""Everything one method says to one case."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence
from dataclasses import dataclass

from synthfm.evaluation.cases import prompting
from synthfm.evaluation.cases.case import Case, Object
from synthfm.evaluation.cases.prompting import DrawnPrompt
from synthfm.evaluation.methods.method import Method, Predicted


@dataclass(frozen=True)
class Answer:
    """One mask that a method gave, and what it was asked."""

    object: Object
    prompt: DrawnPrompt
    round: int
    predicted: Predicted
    seconds: float


def object_key(item: Object) -> str:
    """An object's name in its case: the structure, with its number where there are several."""
    return f"{item.structure}#{item.instance}" if item.instance else item.structure


def case_prompts(case: Case, settings: Sequence[str], seed: int) -> list[tuple[Object, DrawnPrompt]]:
    """The (first) prompt of every object and setting of a case."""
    return [
        (item, prompting.make_prompt(item.mask, (case.dataset, case.case, object_key(item), setting), seed))
        for setting in settings
        for item in case.objects
    ]


def ask(
    method: Method, case: Case, prompts: Sequence[tuple[Object, DrawnPrompt]]
) -> tuple[float, list[Answer]]:
    """Everything one method says to one case: the image is encoded once.

    First rounds of all settings go to the method in one call, then each further round of all objects that
    are clicked interactively.

    Returns
    -------
    encode_seconds, answers
        Seconds to encode the image; the answers in no particular order.
    """
    asked = [(item, prompt) for item, prompt in prompts if method.accepts(prompt.setting)]
    if not asked:
        return 0.0, []
    started = time.perf_counter()
    encoded = method.encode(case.image)
    encode_seconds = time.perf_counter() - started
    answers: list[Answer] = []
    previous: list[Predicted] = []
    turn = 1
    while asked:
        started = time.perf_counter()
        predicted = method.predict(encoded, [prompt for _, prompt in asked], previous)
        seconds = (time.perf_counter() - started) / len(asked)
        answered = [
            Answer(item, prompt, turn, mask, seconds)
            for (item, prompt), mask in zip(asked, predicted, strict=True)
        ]
        # Logits of old rounds need not be kept.
        answers += [
            dataclasses.replace(answer, predicted=dataclasses.replace(answer.predicted, state=None))
            for answer in answered
        ]
        turn += 1
        goes_on = [answer for answer in answered if answer.prompt.setting.rounds >= turn]
        previous = [answer.predicted for answer in goes_on]
        asked = [
            (answer.object, prompting.correct(answer.prompt, answer.predicted.mask, answer.object.mask))
            for answer in goes_on
        ]
    return encode_seconds, answers
