"""What a client of nnInteractive asks in the voxels of its array, put to a session, and what it changes.

nnInteractive's model is asked in 3-D. Here each prompt is put to slices, and the object is propagated from
them: a prompt that lies in one slice is that slice's. One that a person has drawn in another plane lies in
many slices, in each as a line, and is asked as clicks.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from synthfm.data.console import InputError
from synthfm.data.prompts import Prompt, centre_point, positive_points
from synthfm.evaluation.cases.prompting import SCRIBBLE_POINTS
from synthfm.evaluation.cases.slicing import acquisition_axis
from synthfm.evaluation.interactive.finding import Model, open_session
from synthfm.evaluation.scans.scan import scan_of
from synthfm.evaluation.scans.session import STEPS_BACK, Object
from synthfm.trainer.model.bits import Bits

Mask = NDArray[np.bool_]
Bounds = Sequence[tuple[int, int]]
"""First voxel and the one behind the last along each axis of the client's array."""

NAME = "object"
"""Clients have one object at a time."""
MOST_SLICES = 5
"""A correction that lies in many slices is asked in so many."""


@dataclass(frozen=True)
class Change:
    """Where the object's mask is no longer as the client has it.

    Attributes
    ----------
    bounds
        Around it, in the client's array.
    mask
        The object there, uint8, 0 or 1, in the client's order of axes.
    """

    bounds: list[list[int]]
    mask: NDArray[np.uint8]


class RemoteSession:
    """A client's image and the object in it.

    Methods that take a prompt ask the model in the prompt's own slices; :meth:`propagate` brings it to the
    others, and :meth:`change` says what the client does not have yet.

    Parameters
    ----------
    array
        Numbers, with three axes in any order.
    spacing
        mm along each of them, of either sign; None where unknown.
    model
        Who is asked.

    Raises
    ------
    InputError
        If the array holds values that are no numbers, or prompts lie outside of it: by all that takes one.
    """

    def __init__(self, array: NDArray, spacing: Sequence[float] | None, model: Model) -> None:
        self.shape = array.shape
        if spacing is not None:
            spacing = np.abs(spacing).tolist()  # napari's is below 0 where it turns an axis
            if min(spacing) <= 0:
                raise InputError(f"spacing {_text(spacing)}: expected three numbers that are not 0, in mm")
        axis = slice_axis(array.shape, spacing)
        self._order = (axis, *(k for k in range(3) if k != axis))
        values = np.moveaxis(array, axis, 0)
        if values.dtype == np.uint8 and values.shape[2] == 3:
            values = values.astype(np.int16)  # three columns, not three colours
        steps = None if spacing is None else [spacing[k] for k in self._order]
        self.session = open_session(scan_of(values, steps, plane="axial"), model)
        self.session.add(NAME)
        self._steps: deque[Object] = deque(maxlen=STEPS_BACK)
        self._known = self._object

    def point(self, place: Sequence[float], positive: bool) -> None:
        """A click on the object, or on what is not it."""
        voxel = np.rint(place).astype(int)
        if (voxel < 0).any() or (voxel >= self.shape).any():
            raise InputError(f"point {_text(place)}: outside of the image, {_text(self.shape)} voxels")
        number, y, x = voxel[list(self._order)].tolist()
        self._click(number, [[x, y]], positive)

    def box(self, bounds: Sequence[Sequence[float]], positive: bool) -> None:
        """A box around the object, half-open along each axis, or one in which the object is not.

        One that lies in a slice is the prompt there. One of several slices also says where the object ends;
        it is the prompt of its middle slice, or, drawn in another plane, a click there.
        """
        (first, behind), (y0, y1), (x0, x1) = (self._cut(bounds)[k] for k in self._order)
        if not positive:
            self._take_away(np.ones((behind - first, y1 - y0, x1 - x0), bool), (first, y0, x0))
            return
        middle = (first + behind - 1) // 2
        if behind - first > 1 and 1 in (y1 - y0, x1 - x0):
            self._click(middle, [[(x0 + x1 - 1) // 2, (y0 + y1 - 1) // 2]], True)
        else:
            self.session.box(NAME, middle, [x0, y0, x1, y1])
        self._reach(first, behind - 1, says_ends=behind - first > 1)

    def scribble(self, drawn: NDArray, bounds: Bounds | None, positive: bool) -> None:
        """A stroke on the object, or on what is not it: the voxels above 0, in those `bounds`."""
        region, (first, y0, x0) = self._placed(drawn, bounds)
        for k in self._asked(region):
            count = min(SCRIBBLE_POINTS, int(np.count_nonzero(region[k])))
            points = positive_points(region[k], count, np.random.default_rng(0))
            self._draw(self.session.scribble, first + k, np.add(points, [x0, y0]), positive)

    def lasso(self, drawn: NDArray, bounds: Bounds | None, positive: bool) -> None:
        """A sketch of the object, or of what is not it: the voxels above 0, in those `bounds`.

        It is the mask prompt of its slice. Drawn in another plane, it also says where the object ends.
        """
        region, corner = self._placed(drawn, bounds)
        if not positive:
            self._take_away(region, corner)
            return
        if _is_thin(region):
            self.scribble(drawn, bounds, True)
        else:
            for k in self._asked(region):
                self._sketch(region[k], corner[0] + k, corner[1:])
        touched = np.flatnonzero(region.any((1, 2))) + corner[0]
        self._reach(int(touched[0]), int(touched[-1]), says_ends=len(touched) > 1)

    def begin(self, mask: NDArray, refine: bool, enough: Callable[[], bool]) -> None:
        """Begin anew with a mask of the image's shape, voxels above 0, which the client has.

        With `refine` it is a sketch, which the model is asked for in each slice, until that is `enough`.
        """
        if mask.shape != self.shape:
            raise InputError(f"mask {_text(mask.shape)}: expected the image's shape, {_text(self.shape)}")
        by_slice = self._by_slice(mask) != 0
        self.session.begin(NAME, by_slice)
        self._known = self._object
        if refine:
            for _ in self.session.refine(NAME, enough):
                pass
            drawn = sorted(self._object.anchors)
            if len(drawn) > 1:
                self.session.limit(NAME, (drawn[0], drawn[-1]))

    def propagate(self, enough: Callable[[], bool]) -> tuple[int, int] | None:
        """Find the object in the other slices.

        Where `enough` has ended that before it was done, the first and the last slice in which it was found.
        """
        if not any(bits.mask.any() for bits in self._object.anchors.values()):
            return None
        for _ in self.session.propagate(NAME, enough):
            pass
        found = {*self._object.anchors, *self._object.found}
        return (min(found), max(found)) if self._object.changed else None

    def interact(self, prompt: Callable[[], None]) -> None:
        """Do what one call of a client asks: it can be undone, and leaves nothing behind where it fails."""
        before, known = self._object, self._known
        try:
            prompt()
        except BaseException:
            self.session.restore(before)
            self._known = known
            raise
        self._steps.append(before)

    def undo(self) -> bool:
        """Take the last interaction back, and what was found from it; False where there is none."""
        if not self._steps:
            return False
        self.session.restore(self._steps.pop())
        return True

    def reset(self) -> None:
        """Forget the object; the image stays. The client's mask is empty."""
        self.session.restore(Object(NAME))
        self._steps.clear()
        self._known = self._object

    def forget_known(self) -> None:
        """The client has a new, empty mask."""
        self._known = Object(NAME)

    def change(self) -> Change | None:
        """What has changed since the client was last told; None where nothing has."""
        before, now = self._known, self._object
        self._known = now
        differs: dict[int, Mask] = {}
        for k in {*before.anchors, *before.found, *now.anchors, *now.found}:
            if before.at(k) is not now.at(k):
                differs[k] = self._mask(before.at(k)) != self._mask(now.at(k))
        differs = {k: plane for k, plane in differs.items() if plane.any()}
        if not differs:
            return None
        ends = [(min(differs), max(differs) + 1)]
        for axis in (1, 0):
            used = np.flatnonzero(np.any([plane.any(axis) for plane in differs.values()], axis=0))
            ends.append((int(used[0]), int(used[-1]) + 1))
        (first, behind), (y0, y1), (x0, x1) = ends
        part = np.zeros((behind - first, y1 - y0, x1 - x0), np.uint8)
        for k in range(first, behind):
            part[k - first] = self._mask(now.at(k))[y0:y1, x0:x1]
        bounds = [[0, 0]] * 3
        for place, span in zip(self._order, ends, strict=True):
            bounds[place] = list(span)
        return Change(bounds, np.ascontiguousarray(np.moveaxis(part, 0, self._order[0])))

    @property
    def _object(self) -> Object:
        return self.session[NAME]

    def _mask(self, bits: Bits | None) -> Mask:
        return np.zeros(self.session.shape[1:], bool) if bits is None else bits.mask

    def _by_slice(self, array: NDArray) -> NDArray:
        return np.moveaxis(array, self._order[0], 0)

    def _click(self, number: int, points: NDArray | list[list[int]], positive: bool) -> None:
        self._draw(self.session.click, number, points, positive)

    def _draw(self, draw: Callable[..., object], number: int, points: ArrayLike, positive: bool) -> None:
        """Nothing is taken from a slice where nothing is."""
        if positive or self.session.mask_in(NAME, number).any():
            draw(NAME, number, points, int(positive))
        elif not self._is_there():
            raise InputError("a negative prompt, and there is no object yet; begin with a positive one")
        if positive:
            self._reach(number, number)

    def _asked(self, region: Mask) -> list[int]:
        """In which of the slices that something is drawn in the model is asked.

        In the middle one where the object begins, as propagation finds the others better than many prompts
        of a line each do; in some, spread and not at the ends, where it is corrected.
        """
        touched = np.flatnonzero(region.any((1, 2)))
        count = min(len(touched), MOST_SLICES if self._is_there() else 1)
        return touched[((np.arange(count) + 0.5) * len(touched) / count).astype(int)].tolist()

    def _is_there(self) -> bool:
        """Whether there is an object."""
        return any(bits.mask.any() for bits in {**self._object.found, **self._object.anchors}.values())

    def _sketch(self, drawn: Mask, number: int, corner: tuple[int, int]) -> None:
        """Ask in a slice with what was drawn there, beside what is known, as a mask prompt."""
        mask = self.session.mask_in(NAME, number)
        (y0, x0), (height, width) = corner, drawn.shape
        mask[y0 : y0 + height, x0 : x0 + width] |= drawn
        earlier = self._object.prompts.get(number, Prompt())
        clicked = earlier.with_click(np.add(centre_point(drawn), [x0, y0]), 1)
        self.session.ask(NAME, number, Prompt(clicked.points, clicked.labels, earlier.box, mask))

    def _take_away(self, region: Mask, corner: tuple[int, int, int]) -> None:
        """The object is not where the region is, whatever the model says; of a line in each slice, clicks."""
        first, y0, x0 = corner
        for k in self._asked(region) if _is_thin(region) else range(len(region)):
            mask = self.session.mask_in(NAME, first + k)
            there = mask[y0 : y0 + region.shape[1], x0 : x0 + region.shape[2]]
            if _is_thin(region):
                self._click(first + k, np.add(centre_point(region[k]), [x0, y0]), False)
            elif (there & region[k]).any():
                there &= ~region[k]
                self.session.draw(NAME, first + k, mask)

    def _reach(self, first: int, last: int, says_ends: bool = False) -> None:
        """The object is in those slices, and if they say where it ends, in no others but those prompted."""
        span = self._object.span
        if span is None and not says_ends:
            return
        inside = [first, last, *(span or ()), *self._object.anchors]
        if span != (min(inside), max(inside)):
            self.session.limit(NAME, (min(inside), max(inside)))

    def _cut(self, bounds: Sequence[Sequence[float]]) -> list[tuple[int, int]]:
        """A box in whole voxels, at least one along each axis, cut to the image."""
        cut = []
        for (low, high), size in zip(bounds, self.shape, strict=True):
            start, end = round(low), round(high)
            if low >= high or start >= size or end <= 0:
                why = "is empty" if low >= high else f"outside of the image, {_text(self.shape)} voxels"
                raise InputError(f"box {' '.join(_text(pair) for pair in bounds)}: {why}")
            start = max(start, 0)
            cut.append((start, min(max(end, start + 1), size)))
        return cut

    def _placed(self, drawn: NDArray, bounds: Bounds | None) -> tuple[Mask, tuple[int, int, int]]:
        """What was drawn by slice, bool (slices, h, w), and its slice, row and column in the image."""
        bounds = [(0, size) for size in self.shape] if bounds is None else bounds
        where = " ".join(_text(pair) for pair in bounds)
        if not all(0 <= low < high <= size for (low, high), size in zip(bounds, self.shape, strict=True)):
            raise InputError(f"bounds {where}: outside of the image, {_text(self.shape)} voxels")
        sides = tuple(high - low for low, high in bounds)
        if drawn.shape != sides:
            raise InputError(
                f"drawing of {_text(drawn.shape)} voxels: its bounds {where} hold {_text(sides)}"
            )
        region = self._by_slice(drawn) != 0
        if not region.any():
            raise InputError("nothing is drawn: all voxels are 0")
        first, y0, x0 = (bounds[k][0] for k in self._order)
        return region, (first, y0, x0)


def slice_axis(shape: Sequence[int], spacing: Sequence[float] | None) -> int:
    """The axis of an array across which it is cut in slices.

    One that has a single voxel; else the one whose spacing differs from the two others'; where none does, one
    that has at most half as many voxels as each of the others; else the first.

    >>> slice_axis((512, 512, 60), (0.7, 0.7, 5.0)), slice_axis((60, 512, 512), (5.0, 0.7, 0.7))
    (2, 0)
    >>> slice_axis((512, 60, 512), None), slice_axis((180, 200, 160), (1.0, 1.0, 1.0))
    (1, 0)
    """
    single = [k for k in range(3) if shape[k] == 1]
    if len(single) == 1:
        return single[0]
    if spacing is not None and max(spacing) > 1.05 * min(spacing):
        return acquisition_axis((spacing[0], spacing[1], spacing[2]))
    shortest, second, _ = np.argsort(shape, kind="stable").tolist()
    return shortest if 2 * shape[shortest] <= shape[second] else 0


def _is_thin(region: Mask) -> bool:
    """Whether what is drawn lies in several slices, in each as a line: it was drawn in another plane."""
    used = [np.count_nonzero(region.any(tuple({0, 1, 2} - {axis}))) for axis in range(3)]
    return bool(used[0] > 1 and 1 in used[1:])


def _text(numbers: Sequence[float]) -> str:
    """Numbers for people: with commas between, in brackets."""
    return f"({', '.join(f'{number:g}' for number in numbers)})"
