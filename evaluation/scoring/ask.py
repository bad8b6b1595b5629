"""Everything one method says to one case."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from synthfm.evaluation.cases import prompting
from synthfm.evaluation.cases.case import Case, Object
from synthfm.evaluation.cases.prompting import DrawnPrompt, DrawnVolumePrompt, Key
from synthfm.evaluation.methods.method import Method, Predicted, VolumeMethod


@dataclass(frozen=True)
class Answer:
    """One mask that a method gave, and what it was asked."""

    object: Object
    prompt: DrawnPrompt | DrawnVolumePrompt
    round: int
    predicted: Predicted
    seconds: float


Asked = Sequence[tuple[Object, DrawnPrompt]]
AskedOfVolume = Sequence[tuple[Object, DrawnVolumePrompt]]
"""Objects, and what is asked of each."""


def case_prompts(
    case: Case, settings: Sequence[str], seed: int, missing: Callable[[str], object] | None = None
) -> list[tuple[Object, DrawnPrompt]]:
    """The (first) prompt of every object and setting of a case.

    Parameters
    ----------
    missing
        Called with a line on each that a person should have drawn and has not; without it that is a
        :class:`ValueError`.
    """
    prompts = []
    for setting in settings:
        person = prompting.parse_setting(setting).person is not None
        for item in case.objects:
            key = Key(case.dataset, case.case, item.key, setting)
            if not person:
                prompts.append((item, prompting.make_prompt(item.mask, key, seed)))
                continue
            try:
                prompts.append((item, prompting.person_prompt(item.strokes, key)))
            except ValueError as error:
                if missing is None:
                    raise
                missing(str(error))
    return prompts


def volume_prompts(case: Case, settings: Sequence[str], seed: int) -> list[tuple[Object, DrawnVolumePrompt]]:
    """As :func:`case_prompts`, of a volume."""
    return [
        (item, prompting.make_volume_prompt(item.mask, Key(case.dataset, case.case, item.key, setting), seed))
        for setting in settings
        for item in case.objects
    ]


def ask(method: Method, case: Case, prompts: Asked) -> tuple[float, list[Answer]]:
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
        goes_on = [
            (item, prompt, answer.predicted)
            for (item, prompt), answer in zip(asked, answered, strict=True)
            if prompt.setting.rounds >= turn
        ]
        previous = [mask for _, _, mask in goes_on]
        asked = [
            (item, prompting.correct(prompt, answer.mask, item.mask)) for item, prompt, answer in goes_on
        ]
    return encode_seconds, answers


def ask_volume(method: VolumeMethod, case: Case, prompts: AskedOfVolume) -> Iterator[tuple[float, Answer]]:
    """Everything one method says to one case of a volume, one mask at a time: they are large.

    Yields
    ------
    encode_seconds, answer
        Seconds to prepare the volume; the rounds of one prompt in their order, before the next one's.
    """
    asked = [(item, prompt) for item, prompt in prompts if method.accepts(prompt.setting)]
    if not asked:
        return
    started = time.perf_counter()
    encoded = method.encode(case.image, case.spacing)
    encode_seconds = time.perf_counter() - started
    for item, prompt in asked:
        predicted = None
        for turn in range(1, prompt.setting.rounds + 1):
            if predicted is not None:
                prompt = prompting.correct_volume(prompt, predicted.mask, item.mask, case.spacing)
            started = time.perf_counter()
            predicted = method.predict(encoded, prompt, predicted)
            seconds = time.perf_counter() - started
            shown = dataclasses.replace(predicted, state=None)
            yield encode_seconds, Answer(item, prompt, turn, shown, seconds)
