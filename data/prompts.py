"""A prompt, and prompts from a mask: clicks, boxes, scribbles, the next corrective click.

The same type and functions serve synthetic and real masks, the generator, the trainer and the evaluation.
Points are (x, y) in pixels, (0, 0) the centre of the top left pixel; boxes are XYXY, half-open. Where
something is drawn, it is drawn from the `numpy.random.Generator` given.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, TypeVar

import numpy as np
import scipy
import skimage
from numpy.typing import ArrayLike, NDArray

from synthfm.data import distance
from synthfm.data.compiled import compiling
from synthfm.data.distance import bounds, farthest, squared_distance

Mask = NDArray[np.bool_]
SomePrompt = TypeVar("SomePrompt", bound="Prompt")
Multimask = Literal["auto", "always", "never"]
"""Whether a prompt gets three masks of which the model's own estimate picks one: ``auto`` does so for one
click alone, as SAM's authors advise for ambiguous prompts."""


@dataclass(frozen=True, eq=False, init=False)
class Prompt:
    """What is asked of one object in one image: clicks, a box, a mask, or several of them.

    Whatever :func:`numpy.asarray` takes may be given; what it holds cannot be written to. Prompts of the same
    content are equal and hash alike.

    Attributes
    ----------
    points, labels
        (N, 2) clicks (x, y), in order, int64 or float64; int64 (N,), 1 for object, 0 for background. A
        scribble is many of them. N may be 0.
    box
        float64 (4,) XYXY, half-open; None without a box.
    mask
        bool (H, W) of the image's size (of integers, what is above 0): what is known of the object from
        elsewhere, such as the slice before. Or its logits, floating point, a mask where they are above 0.
        None without.

    Raises
    ------
    ValueError
        If one of them has another shape, or holds what it cannot.

    >>> Prompt([[30, 40]], [1]) == Prompt(np.array([[30, 40]]), np.array([1]))
    True
    """

    points: NDArray
    labels: NDArray[np.int64]
    box: NDArray[np.floating] | None = None
    mask: NDArray | None = None

    def __init__(
        self,
        points: ArrayLike = (),
        labels: ArrayLike = (),
        box: ArrayLike | None = None,
        mask: ArrayLike | None = None,
    ) -> None:
        for name, part in (("points", points), ("labels", labels), ("box", box), ("mask", mask)):
            object.__setattr__(self, name, part)
        self.__post_init__()

    def __post_init__(self) -> None:
        points, labels = _numbers("points", self.points), _numbers("labels", self.labels)
        if points.size == labels.size == 0:
            points, labels = np.zeros((0, 2), np.int64), np.zeros(0, np.int64)
        if points.ndim != 2 or points.shape[1] != 2 or labels.shape != points.shape[:1]:
            raise ValueError(f"points {points.shape} and labels {labels.shape}: expected (N, 2) and (N,)")
        if not ((labels == 0) | (labels == 1)).all():
            raise ValueError(f"labels {labels.tolist()}: expected 1 for object, 0 for background")
        parts = {"points": points, "labels": labels.astype(np.int64)}
        if self.box is not None:
            parts["box"] = box = _numbers("box", self.box).astype(np.float64)
            if box.shape != (4,) or not np.isfinite(box).all():
                raise ValueError(f"box {box.tolist()}: expected four numbers, XYXY")
        if self.mask is not None:
            mask = np.array(self.mask)
            parts["mask"] = mask = mask > 0 if mask.dtype.kind in "iu" else mask
            if mask.ndim != 2 or not (mask.dtype == bool or np.isfinite(_numbers("mask", mask)).all()):
                raise ValueError(f"mask {mask.dtype} {mask.shape}: expected bool or finite logits (H, W)")
        for name, part in parts.items():
            part.flags.writeable = False
            object.__setattr__(self, name, part)

    def _content(self) -> tuple[object, ...]:
        parts = (self.points, self.labels, self.box, self.mask)
        return tuple(None if part is None else (part.dtype.str, part.shape, part.tobytes()) for part in parts)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Prompt) and self._content() == other._content()

    def __hash__(self) -> int:
        return hash(self._content())

    @property
    def positives(self) -> NDArray:
        """Clicks on the object, (n, 2)."""
        return self.points[self.labels == 1]

    @property
    def negatives(self) -> NDArray:
        """Clicks on the background, (n, 2)."""
        return self.points[self.labels == 0]

    @property
    def is_ambiguous(self) -> bool:
        """Whether it is one click alone, which may mean a part or the whole."""
        return len(self.points) == 1 and self.box is None and self.mask is None

    def with_click(self: SomePrompt, point: ArrayLike, label: int) -> SomePrompt:
        """The same and one more click, (x, y)."""
        return replace(
            self, points=np.concatenate([self.points, [point]]), labels=np.append(self.labels, label)
        )

    def moved(self, x: float, y: float) -> Prompt:
        """Its clicks and box, in pixels of a crop whose top left pixel is (x, y) here."""
        box = None if self.box is None else self.box - [x, y, x, y]
        return Prompt(self.points - [x, y], self.labels, box)

    def within(self: SomePrompt, shape: tuple[int, ...]) -> SomePrompt:
        """The same for an image of that height and width: its box is cut to the image.

        Raises
        ------
        ValueError
            If there is no prompt, or part of it is not in the image.
        """
        height, width = shape[:2]
        if not len(self.points) and self.box is None and self.mask is None:
            raise ValueError("no prompt: give points, a box or a mask")
        # NaN is neither
        if not ((self.points >= -0.5) & (self.points <= [width - 0.5, height - 0.5])).all():
            raise ValueError(f"points {self.points.tolist()} are not all in the image, {width} x {height}")
        if self.mask is not None and self.mask.shape != (height, width):
            raise ValueError(f"mask {self.mask.shape}: the image is {(height, width)}")
        if self.box is None:
            return self
        x0, y0, x1, y1 = self.box
        if not (x0 < x1 and y0 < y1 and x0 < width and y0 < height and x1 > 0 and y1 > 0):
            raise ValueError(f"box {self.box.tolist()} holds nothing of the image, {width} x {height} (XYXY)")
        cut = np.clip(self.box, 0, [width, height, width, height])
        return self if (cut == self.box).all() else replace(self, box=cut)


def _numbers(name: str, given: ArrayLike) -> NDArray:
    """A copy as int64 or float64."""
    try:
        numbers = np.asarray(given)
        return numbers.astype(np.int64 if numbers.dtype.kind in "iub" else np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name} {given!r}: expected numbers ({error})") from error


def tight_box(mask: Mask) -> NDArray[np.int32]:
    """The smallest XYXY half-open box around a mask, int32 (4,).

    Raises
    ------
    ValueError
        If the mask is empty.

    >>> tight_box(np.eye(5, dtype=bool)[1:, :3]).tolist()
    [1, 0, 3, 2]
    """
    box = bounds(mask)
    if box[2] == 0:
        raise ValueError("an empty mask has no box")
    return box


def frame_box(shape: tuple[int, ...]) -> NDArray[np.int32]:
    """The XYXY half-open box of a whole image (H, W) of that shape, int32 (4,).

    People draw it around what is thin and spread over the image, such as a tree of vessels.

    >>> frame_box((48, 64)).tolist()
    [0, 0, 64, 48]
    """
    return np.array([0, 0, shape[1], shape[0]], np.int32)


def loose_box(
    box: NDArray, rng: np.random.Generator, shape: tuple[int, int], *, outward: float = 0.2
) -> NDArray[np.float32]:
    """A box as a person would draw it around a tight one, float32 (4,), inside the image.

    Each side moves by its own draw: in most cases outward by up to the share `outward` of the box's extent,
    inward by up to 5 % in the others, and by about a pixel of hand tremor on top.
    """
    sides = [float(side) for side in box]
    extent = [sides[2] - sides[0], sides[3] - sides[1]] * 2
    beyond = rng.uniform(0.0, outward, 4).tolist()
    inward = rng.uniform(-0.05, 0.0, 4).tolist()
    choice, tremor = rng.random(4).tolist(), rng.normal(0.0, 0.7, 4).tolist()
    drawn = []
    for k in range(4):
        shift = (beyond[k] if choice[k] < 0.85 else inward[k]) * extent[k] + tremor[k]
        shift = max(shift, -0.2 * extent[k])  # tremor must not turn a tiny box inside out
        drawn.append(min(max(sides[k] + (shift if k > 1 else -shift), 0.0), float(shape[1 - k % 2])))
    return np.array(drawn, np.float32)


def depth(mask: Mask) -> NDArray[np.float32]:
    """Distance of every pixel of a mask to the nearest pixel outside, in pixels; 0 outside.

    The frame's edge counts as outside, so that the centre of a shape which the frame cuts stays clear of it.
    """
    return distance.depth(mask)


def centre_point(mask: Mask) -> NDArray[np.int16]:
    """The point deepest inside a mask, int16 (2,); among equals the one nearest to their middle.

    Raises
    ------
    ValueError
        If the mask is empty.
    """
    return deepest(depth(mask))


def deepest(inner: NDArray[np.float32]) -> NDArray[np.int16]:
    """As :func:`centre_point`, from the mask's :func:`depth`."""
    x, y, top = distance.peak(inner) if inner.size else (0, 0, 0.0)
    if top <= 0:
        raise ValueError("an empty mask has no centre")
    return np.array([x, y], np.int16)


def random_point(mask: Mask, rng: np.random.Generator) -> NDArray[np.int16]:
    """A pixel of the mask drawn uniformly, int16 (2,)."""
    inside = np.flatnonzero(mask)
    if not len(inside):
        raise ValueError("an empty mask has no point")
    y, x = divmod(int(inside[rng.integers(len(inside))]), mask.shape[1])
    return np.array([x, y], np.int16)


def person_point(mask: Mask, rng: np.random.Generator) -> NDArray[np.int16]:
    """A pixel of the mask as a person clicks it: towards the middle, but seldom on it, int16 (2,).

    Pixels are drawn in proportion to their :func:`depth`, which [1]_ takes as a simple model of where people
    click, beside the uniform one of :func:`random_point`. In a disc of radius r such a click lies r/2 from
    the centre in the mean (a random pixel 2r/3).

    Raises
    ------
    ValueError
        If the mask is empty.

    References
    ----------
    .. [1] A. Antonov et al., "RClicks: realistic click simulation for benchmarking interactive segmentation",
       NeurIPS (2024).
    """
    x, y = distance.by_depth(mask, rng.random())
    if x < 0:
        raise ValueError("an empty mask has no point")
    return np.array([x, y], np.int16)


def positive_points(mask: Mask, count: int, rng: np.random.Generator) -> NDArray[np.int16]:
    """`count` clicks spread over a mask, int16 (count, 2): its centre first, then far from those before.

    Each further click is the farthest from the earlier ones among pixels drawn from the mask's inner part,
    so that clicks keep away from the edge as a person's do. A small mask may repeat pixels.
    """
    x0, y0, x1, y1 = tight_box(mask)
    inner = depth(mask[y0:y1, x0:x1])
    first = deepest(inner)
    if count == 1:
        return (first + np.array([x0, y0])).astype(np.int16)[None]
    candidates = np.flatnonzero(inner > min(0.35 * inner[first[1], first[0]], 4.0))
    spread = farthest(_some(candidates, 128, rng), inner.shape[1], first[None].astype(np.int64), count - 1)
    return (np.concatenate([first[None], spread]) + np.array([x0, y0])).astype(np.int16)


def reach(area: int) -> int:
    """How far from a mask of that many pixels a hard negative may lie, in pixels."""
    return int(min(max(0.25 * area**0.5, 4), 24))


def negative_points(
    mask: Mask,
    count: int,
    rng: np.random.Generator,
    label: NDArray | None = None,
    squared: NDArray[np.int32] | None = None,
    usable: Mask | None = None,
) -> NDArray[np.int16]:
    """`count` hard negatives around a mask, int16 (count, 2), spread along its outline, or none: (0, 2).

    They lie outside the mask in a ring whose width follows the mask's size, one pixel off the edge at
    least. With a label map, every second one lies in another labelled region where the ring has one.
    Who has it already gives the squared distance to the mask as `squared`, int32 (H, W). `usable`, bool
    (H, W), is False where nobody clicks, such as beyond the field of view. There are none only where no
    usable pixel lies in the mask's box, widened by :func:`reach`, but outside the mask; where there are
    few, pixels repeat.
    """
    height, width = mask.shape
    x0, y0, x1, y1 = tight_box(mask)
    far = reach(int(np.count_nonzero(mask)))
    top, left = max(y0 - far, 0), max(x0 - far, 0)
    window = np.s_[top : min(y1 + far, height), left : min(x1 + far, width)]
    squared = squared_distance(~mask[window], False, far) if squared is None else squared[window]
    clickable = np.ones(squared.shape, bool) if usable is None else usable[window]
    beside = np.zeros(squared.shape, np.uint8) if label is None else label[window]
    # Of one layout, whatever part of the image they are: it is compiled once.
    planes = [np.ascontiguousarray(plane) for plane in (squared, clickable, beside)]
    free, neighbours = distance.ring(*planes, 2, far**2)
    if not len(free):
        free, neighbours = distance.ring(*planes, 0, squared.max())
    if not len(free):
        return np.zeros((0, 2), np.int16)
    pools = [neighbours, free] if len(neighbours) else [free]
    wide = squared.shape[1]
    points = np.zeros((count, 2), np.int64)
    for turn in range(count):
        pool = _some(pools[turn % len(pools)], 64, rng)
        first = pool[rng.integers(len(pool))]
        points[turn] = farthest(pool, wide, points[:turn], 1)[0] if turn else (first % wide, first // wide)
    return (points + np.array([left, top])).astype(np.int16)


def _some(candidates: NDArray, count: int, rng: np.random.Generator) -> NDArray:
    """All candidates, or `count` draws of them where they are more (one may be drawn twice)."""
    return candidates if len(candidates) <= count else candidates[rng.integers(len(candidates), size=count)]


def corrective_point(predicted: Mask, mask: Mask) -> tuple[NDArray[np.int16], int]:
    """The next click of interactive segmentation: the point deepest in the largest error region.

    Returns the point, int16 (2,), and its label: 1 where the mask was missed, 0 where it was overrun. A
    perfect prediction gets the mask's centre as a positive click. Regions are 4-connected.
    """
    best, label = 0, 1
    region = mask
    for error, kind in ((mask & ~predicted, 1), (predicted & ~mask, 0)):
        if not error.any():
            continue
        numbered, _ = scipy.ndimage.label(error)
        sizes = np.bincount(numbered.ravel())
        sizes[0] = 0
        if sizes.max() > best:
            best, label, region = int(sizes.max()), kind, numbered == sizes.argmax()
    return centre_point(region), label


def scribble(mask: Mask, count: int, rng: np.random.Generator) -> NDArray[np.int16]:
    """A freehand stroke along the inside of a mask as `count` points in order, int16 (count, 2).

    The stroke runs between two drawn pixels that lie far apart, along the path that keeps deepest inside
    the mask; where the mask is in pieces, it stays in the largest.
    """
    numbered, pieces = scipy.ndimage.label(mask, structure=np.ones((3, 3)))
    if pieces > 1:
        mask = numbered == np.bincount(numbered.ravel())[1:].argmax() + 1
    x0, y0, x1, y1 = tight_box(mask)
    inner = depth(mask)[y0:y1, x0:x1]
    candidates = np.flatnonzero(inner > 0.35 * inner.max())
    candidates = rng.choice(candidates, size=min(len(candidates), 64), replace=False)
    places = np.stack(np.divmod(candidates, inner.shape[1]), axis=1)
    squared = ((places[:, None] - places[None]) ** 2).sum(-1)
    start, end = np.unravel_index(squared.argmax(), squared.shape)
    cost = np.where(inner > 0, 1.0 / np.maximum(inner, 0.5) ** 2, 1e6)  # 1e6: never leaves the mask
    path, _ = skimage.graph.route_through_array(cost, places[start], places[end], fully_connected=True)
    stroke = np.array(path)[np.linspace(0, len(path) - 1, count).round().astype(int)]
    return (stroke[:, ::-1] + np.array([x0, y0])).astype(np.int16)


def compile_kernels(shown: bool) -> None:
    """Have numba compile what drawing prompts needs, which other processes then find in its cache.

    With `shown` it is said on standard error that something is compiled, and how long it took.
    """
    label = np.pad(np.ones((9, 9), np.uint8), 6)
    mask, rng = label > 0, np.random.default_rng(0)
    with compiling(shown):
        distance.around(distance.extents(label)[0], np.ones(256, bool))
        for kind in (bool, np.float32):
            distance.look_up(label, np.ones(256, bool), np.empty(label.shape, kind))
        centre_point(mask)
        person_point(mask, rng)
        positive_points(mask, 2, rng)
        negative_points(mask, 2, rng, label)
        negative_points(mask, 2, rng, usable=mask)
