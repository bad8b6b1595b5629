"""One person's scan: objects, what has been asked of each in which slice, and the masks that came of it.

A session holds an image or a volume as a model is shown it, slice by slice. It knows no file format and no
transport: a command, a page and a server stand before it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from synthfm.data.prompts import Prompt
from synthfm.data.strokes import pixels_of
from synthfm.evaluation.scans.corrections import ask_with, beside, correct
from synthfm.evaluation.scans.encodings import MEMORY, Encodings, Image, Segmenter
from synthfm.trainer.model import next_slice, propagate
from synthfm.trainer.model.bits import Bits
from synthfm.trainer.model.next_slice import Answer, Propagation, Step
from synthfm.trainer.model.propagate import Run

Mask = NDArray[np.bool_]

STEPS_BACK = 100
"""How many changes can be undone."""


@dataclass(frozen=True)
class Object:
    """An object of a session. Never changed, only replaced: what an undo brings back is an earlier one.

    Attributes
    ----------
    name
        The object's.
    prompts
        Slice to all that has been asked there.
    answers
        Slice to the model's answer there, which the next click corrects.
    anchors
        Slice to its mask, where that comes of a prompt, a mask to begin with, or a brush.
    found
        Slice to its mask, where that comes of propagation.
    iou
        Slice to the model's own estimate of its mask's IoU.
    changed
        Anchors since the last propagation.
    runs
        Of the last propagation, see :func:`synthfm.trainer.model.propagate.propagate`.
    span
        First and last slice in which the object may be, None where nobody has said.
    finished
        Whether it is protected from the others.
    """

    name: str
    prompts: Mapping[int, Prompt] = field(default_factory=dict)
    answers: Mapping[int, Answer] = field(default_factory=dict)
    anchors: Mapping[int, Bits] = field(default_factory=dict)
    found: Mapping[int, Bits] = field(default_factory=dict)
    iou: Mapping[int, float] = field(default_factory=dict)
    changed: frozenset[int] = frozenset()
    runs: Mapping[tuple[int, int], Run] = field(default_factory=dict)
    span: tuple[int, int] | None = None
    finished: bool = False

    def at(self, number: int) -> Bits | None:
        """Its mask in a slice; None where it has none."""
        return self.anchors.get(number, self.found.get(number))


def _without(item: Object, number: int, *parts: str) -> Object:
    """An object without what some of its parts hold of a slice."""
    left = {part: {k: v for k, v in getattr(item, part).items() if k != number} for part in parts}
    return replace(item, **left)  # type: ignore[arg-type]


def _is_of(known: Bits, answer: Answer | None) -> bool:
    return answer is not None and np.array_equal(known.packed, Bits.of(answer.mask).packed)


class Session:
    """An image or a volume, its objects, and what has been done, step by step.

    One object may be propagated in a thread of its own while others are prompted; two changes of the same
    object at once are for who calls to avoid.

    Parameters
    ----------
    slices
        uint8 (H, W) or (H, W, 3) each, all of one size; one for an image.
    segmenter
        Who answers.
    nearby
        Who answers in propagation, and clicks that correct what came of it, which show squares around the
        object and no whole slices; by default the same.
    settings, spacing
        Of the propagation; the distance between slices in pixels.
    memory
        Bytes that encodings may take.
    encodings
        Of another session with the same slices and segmenter, to be shared.

    Raises
    ------
    ValueError
        By all that takes a name or a slice, where there is none such.
    """

    def __init__(
        self,
        slices: Sequence[Image],
        segmenter: Segmenter,
        *,
        nearby: next_slice.Segmenter | None = None,
        settings: Propagation = next_slice.SHIPPED,
        spacing: float = 1.0,
        memory: int = MEMORY,
        encodings: Encodings | None = None,
    ) -> None:
        self.slices = slices
        self.shape = (len(slices), *np.shape(slices[0])[:2])
        self._memory = memory
        self._segmenter, self._nearby = segmenter, nearby or segmenter
        self.encodings = Encodings(slices, segmenter, memory) if encodings is None else encodings
        self._settings, self._spacing = settings, spacing
        self._objects: dict[str, Object] = {}
        self._before: list[dict[str, Object]] = []
        self._after: list[dict[str, Object]] = []
        self._changing = threading.RLock()

    @contextmanager
    def at_once(self) -> Iterator[None]:
        """What is changed in the block is undone, and done again, together; an error takes it all back."""
        before = self._objects
        try:
            yield
        except BaseException:
            self._forget(before)
            self._objects = before
            raise
        if self._objects is not before:
            self._forget(before)
            self._before.append(before)

    def _forget(self, objects: dict[str, Object]) -> None:
        """Take this state, and those after it, from what can be gone back to."""
        places = [k for k, one in enumerate(self._before) if one is objects]
        if places:
            del self._before[places[-1] :]

    def show(self, slices: Sequence[Image]) -> None:
        """Show the model the same slices otherwise from now on: in another window of grey values."""
        if (len(slices), *np.shape(slices[0])[:2]) != self.shape:
            raise ValueError(f"slices {(len(slices), *np.shape(slices[0])[:2])}: expected {self.shape}")
        self.slices = slices
        self.encodings = Encodings(slices, self._segmenter, self._memory)

    @property
    def names(self) -> list[str]:
        """The objects, in the order in which they were added."""
        return list(self._objects)

    def __getitem__(self, name: str) -> Object:
        if name not in self._objects:
            raise ValueError(f"no object {name!r}; there are {', '.join(self.names) or 'none'}")
        return self._objects[name]

    def add(self, name: str) -> None:
        """Add an object without a mask."""
        if name in self._objects:
            raise ValueError(f"there is an object {name!r} already")
        self._put(Object(name))

    def rename(self, name: str, new: str) -> None:
        """Give an object another name; it keeps its place."""
        item = replace(self[name], name=new)
        if new in self._objects:
            raise ValueError(f"there is an object {new!r} already")
        with self._changing:
            self._change(
                dict((new, item) if key == name else (key, one) for key, one in self._objects.items())
            )

    def remove(self, name: str) -> None:
        """Take an object out."""
        self[name]
        with self._changing:
            self._change({key: item for key, item in self._objects.items() if key != name})

    def finish(self, name: str, finished: bool = True) -> None:
        """Protect an object from the others, which from now on end where it is; or no longer."""
        item = self[name]
        if finished:  # what it is now: where it meets another that was finished before, it has ended
            anchors, found = (
                {k: Bits.of(self.mask_in(name, k)) for k in part} for part in (item.anchors, item.found)
            )
            item = replace(item, anchors=anchors, found=found)
        self._put(replace(item, finished=finished))

    def click(self, name: str, number: int, points: ArrayLike, label: int = 1) -> Mask:
        """Click on an object in a slice, or beside it, and see its mask there.

        What is there already is corrected: the answer to the clicks before, or what propagation has found.

        Parameters
        ----------
        points
            (2,) or (N, 2), (x, y) in pixels.
        label
            1 on the object, 0 on the background.
        """
        item = self[name]
        prompt = item.prompts.get(number, Prompt())
        places = np.atleast_2d(np.asarray(points))
        labels = np.append(prompt.labels, np.full(len(places), label))
        more = Prompt(np.concatenate([prompt.points, places]), labels, prompt.box)
        return self._ask(item, number, more, item.at(number), (places, label))

    def scribble(self, name: str, number: int, points: ArrayLike, label: int = 1) -> Mask:
        """Draw a stroke on an object in a slice, or beside it, and see its mask there.

        It is a click at each of its points, (N, 2), that lies in the slice and that the answer to those
        before has on the other side: many at once, in a line, mislead a model.
        """
        self._check(number)
        places = pixels_of(points, "the stroke", self.shape[1:])
        with self.at_once():
            for x, y in places.tolist():
                if self.mask_in(name, number)[y, x] != bool(label):
                    self.click(name, number, (x, y), label)
        return self.mask_in(name, number)

    def box(self, name: str, number: int, box: ArrayLike) -> Mask:
        """Draw a box, XYXY, half-open, around an object in a slice, and see its mask there."""
        prompt = self[name].prompts.get(number, Prompt())
        return self.ask(name, number, Prompt(prompt.points, prompt.labels, box))

    def ask(self, name: str, number: int, prompt: Prompt) -> Mask:
        """Put a prompt in the place of all that was asked of an object in a slice, and of its mask there."""
        return self._ask(_without(self[name], number, "answers"), number, prompt, None)

    def draw(self, name: str, number: int, mask: Mask) -> Mask:
        """Say what an object's mask in a slice is, as a brush and an eraser do."""
        self._check(number, mask)
        item = self[name]
        rest = _without(item, number, "prompts", "answers", "iou")
        anchors = {**item.anchors, number: Bits.of(np.asarray(mask, bool))}
        self._put(replace(rest, anchors=anchors, changed=item.changed | {number}))
        return self.mask_in(name, number)

    def begin(self, name: str, mask: Mask) -> None:
        """Begin with a mask, bool (slices, H, W): an earlier one to go on with, or a sketch to be refined.

        Propagation does not change what it says.
        """
        if mask.shape != self.shape:
            raise ValueError(f"mask {mask.shape}: expected {self.shape}")
        anchors = {k: Bits.of(mask[k]) for k in np.flatnonzero(mask.any((1, 2))).tolist()}
        self._put(Object(name, anchors=anchors))

    def limit(self, name: str, span: tuple[int, int] | None) -> None:
        """Say in which slices, the first and the last, an object may be."""
        self._put(replace(self[name], span=span))

    def clear(self, name: str, number: int | None = None) -> None:
        """Forget all that was asked and found of an object, or what was in one slice."""
        item = self[name]
        if number is None:
            self._put(Object(name, span=item.span))
            return
        self._check(number)
        rest = _without(item, number, "prompts", "answers", "anchors", "found", "iou")
        self._put(replace(rest, changed=item.changed | {number}))

    def restore(self, item: Object) -> None:
        """Make an object again what it was before."""
        self[item.name]
        self._put(item)

    def propagate(self, name: str, enough: Callable[[], bool] = lambda: False) -> Iterator[Step]:
        """Find an object in the slices without a prompt of their own.

        Only those whose nearest anchors have changed since the last time are asked. A step is yielded for
        each as it is found; all become the object's when the last one is, and can be undone together. Who
        stops before leaves everything as it was.

        Parameters
        ----------
        enough
            Asked after each step. Where it says so, what is found so far becomes the object's, slices that
            were not reached stay as they were, and the next propagation asks all of them again.
        """
        item = self[name]
        anchors = {k: bits.mask for k, bits in item.anchors.items()}
        if not any(mask.any() for mask in anchors.values()):
            raise ValueError(f"{name}: nothing to go out from; prompt a slice first")
        asked = set(propagate.affected(anchors, len(self.slices), item.changed))
        found = {k: bits for k, bits in item.found.items() if k not in asked}
        iou = {k: value for k, value in item.iou.items() if k not in asked}
        runs = {
            key: run for key, run in item.runs.items() if key[0] in anchors and key[0] not in item.changed
        }
        reached: set[int] = set()
        changed: frozenset[int] = frozenset()
        steps = propagate.propagate(
            self.slices,
            anchors,
            self._nearby,
            self._settings,
            spacing=self._spacing,
            span=item.span,
            changed=item.changed,
            runs=runs,
        )
        for step in steps:
            yield step
            reached.add(step.slice)
            found[step.slice], iou[step.slice] = step.bits, step.iou
            if enough():
                for k in {*item.found} & asked - reached:
                    found[k], iou[k] = item.found[k], item.iou[k]
                changed = item.changed
                break
        with self._changing:
            if self._objects.get(name) is not item:
                raise ValueError(f"{name} was changed while it was propagated; propagate it again")
            self._put(replace(item, found=found, iou=iou, changed=changed, runs=runs))

    def refine(self, name: str, enough: Callable[[], bool] = lambda: False) -> Iterator[int]:
        """Ask the model, in each slice of the mask that an object began with, for what that is a sketch of.

        The slices are yielded as they are asked; all become the object's when the last one is, or `enough`,
        which is asked after each, says so.
        """
        item = self[name]
        anchors, answers, iou = dict(item.anchors), dict(item.answers), dict(item.iou)
        for k, bits in item.anchors.items():
            if k in item.prompts or not bits.mask.any():
                continue
            (answer,) = self._segmenter.predict(self.encodings[k], [next_slice.as_prompt(bits.mask)], [None])
            anchors[k], answers[k], iou[k] = Bits.of(answer.mask), answer, float(answer.iou)
            yield k
            if enough():
                break
        changed = item.changed | set(anchors)
        self._put(replace(item, anchors=anchors, answers=answers, iou=iou, changed=changed))

    def bits_in(self, name: str, number: int) -> Bits | None:
        """An object's mask in a slice, without what belongs to objects that are finished; None without."""
        self._check(number)
        item = self[name]
        bits = item.at(number)
        if bits is not None and not item.finished:
            for other in self._objects.values():
                taken = other.at(number) if other.finished else None
                if taken is not None:
                    bits = bits.without(taken)
        return bits

    def mask_in(self, name: str, number: int) -> Mask:
        """The same, bool (H, W)."""
        bits = self.bits_in(name, number)
        return np.zeros(self.shape[1:], bool) if bits is None else bits.mask

    def mask(self, name: str) -> Mask:
        """An object's mask, bool (slices, H, W), without what belongs to objects that are finished."""
        item = self[name]
        mask = np.zeros(self.shape, bool)
        for k in {*item.anchors, *item.found}:
            mask[k] = self.mask_in(name, k)
        return mask

    @property
    def can_undo(self) -> bool:
        """Whether there is a change to take back."""
        return bool(self._before)

    @property
    def can_redo(self) -> bool:
        """Whether something that was taken back can be done again."""
        return bool(self._after)

    def undo(self) -> bool:
        """Take the last change back; False where there is none."""
        return self._go(self._before, self._after)

    def redo(self) -> bool:
        """Do again what was taken back; False where there is nothing."""
        return self._go(self._after, self._before)

    def forget_steps(self) -> None:
        """What has been done until now cannot be undone any more."""
        self._before.clear()
        self._after.clear()

    def _go(self, source: list[dict[str, Object]], target: list[dict[str, Object]]) -> bool:
        with self._changing:
            if not source:
                return False
            target.append(self._objects)
            self._objects = source.pop()
            return True

    def _ask(
        self,
        item: Object,
        number: int,
        prompt: Prompt,
        known: Bits | None,
        clicks: tuple[NDArray, int] | None = None,
    ) -> Mask:
        """Ask in a slice; `clicks`, places and label, are those that correct what is known there, if they do.

        What the model has answered, it answers anew, as it was trained to; what comes of propagation, a brush
        or an earlier correction is changed at the clicks alone. Where nothing is known, a click that may mean
        that the object goes on is asked with what the nearest slice has: alone it may mean anything.
        """
        self._check(number)
        previous, image, factor = item.answers.get(number), self.slices[number], self._settings.factor
        answers = {k: answer for k, answer in item.answers.items() if k != number}
        empty = known is None or not known.count
        nearest = None
        if clicks is not None and empty and previous is None:
            nearest = beside({**item.found, **item.anchors}, number, prompt)
        if known is not None and clicks is not None and known.count and not _is_of(known, previous):
            mask, estimate = correct(self._nearby, image, prompt, known.mask, clicks, factor)
        elif nearest is not None:
            mask, estimate = ask_with(self._segmenter, image, prompt, nearest, factor)
        else:
            (answer,) = self._segmenter.predict(self.encodings[number], [prompt], [previous])
            mask, estimate, answers[number] = answer.mask, float(answer.iou), answer
        self._put(
            replace(
                item,
                prompts={**item.prompts, number: prompt},
                answers=answers,
                anchors={**item.anchors, number: Bits.of(mask)},
                iou={**item.iou, number: estimate},
                changed=item.changed | {number},
            )
        )
        return self.mask_in(item.name, number)

    def _check(self, number: int, mask: Mask | None = None) -> None:
        if not 0 <= number < len(self.slices):
            raise ValueError(f"slice {number}: expected 0 to {len(self.slices) - 1}")
        if mask is not None and mask.shape != self.shape[1:]:
            raise ValueError(f"mask {mask.shape}: expected {self.shape[1:]}")

    def _put(self, item: Object) -> None:
        with self._changing:
            self._change({**self._objects, item.name: item})

    def _change(self, objects: dict[str, Object]) -> None:
        self._before.append(self._objects)
        del self._before[:-STEPS_BACK]
        self._after.clear()
        self._objects = objects
