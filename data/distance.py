"""Geometry of masks, compiled: exact Euclidean distances, bounds, deepest and farthest points, rings."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from synthfm.data.compiled import compiled

_ANY = 2**14
"""A reach beyond any image's."""

_BRIEF = 32
"""In a row whose pixels all have one outside as near as that in their column all so near are compared,
several pixels at once, which is quicker than Meijster's way."""


@compiled
def squared_distance(mask: NDArray, frame_is_outside: bool, reach: int = _ANY) -> NDArray:
    """Squared distance of each pixel of a mask to the nearest pixel outside it, int32 (H, W); 0 outside.

    The algorithm is Meijster's [1]_, in integers, so that the result is exact on every machine.

    Parameters
    ----------
    mask
        bool or uint8 (H, W).
    frame_is_outside
        Whether the pixels just beyond the frame count as outside the mask. Where they do not and the mask
        fills its array, the result is ``(H + W) ** 2`` and more, or beyond the reach.
    reach
        Pixels; a distance above it is any that is larger, which is several times quicker.

    References
    ----------
    .. [1] A. Meijster, J. Roerdink, W. Hesselink, "A general algorithm for computing distance transforms in
       linear time", Mathematical Morphology and its Applications to Image and Signal Processing (2000).
    """
    height, width = mask.shape
    far = np.int32(min(height + width, reach + 1))
    one = np.int32(1)
    column = np.empty((height, width), np.int32)  # distance to the nearest outside pixel of the same column
    for j in range(width):
        column[0, j] = 0 if not mask[0, j] else (one if frame_is_outside else far)
    for i in range(1, height):
        for j in range(width):
            column[i, j] = min(column[i - 1, j] + one, far) if mask[i, j] else 0
    if frame_is_outside:
        for j in range(width):
            column[height - 1, j] = min(column[height - 1, j], one)
    for i in range(height - 2, -1, -1):
        for j in range(width):
            column[i, j] = min(column[i, j], column[i + 1, j] + one)
    out = np.zeros((height, width), np.int32)
    padded = np.full(width + 2 * (_BRIEF + 1), 2**30, np.int32)
    site, start = np.empty(width + 2, np.int32), np.empty(width + 2, np.int32)
    line = np.empty(width + 2, np.int64)
    shift = 1 if frame_is_outside else 0  # a column of outside pixels on either side
    count = width + 2 * shift
    for i in range(height):
        most = np.int32(0)
        for j in range(width):
            most = max(most, column[i, j])
        if most <= _BRIEF:
            _nearest_of_all(column[i], most, frame_is_outside, padded, out[i])
            continue
        for j in range(width):
            line[j + shift] = np.int64(column[i, j]) ** 2
        if frame_is_outside:
            line[0] = 0
            line[count - 1] = 0
        last = 0
        site[0] = 0
        start[0] = 0
        for u in range(1, count):
            if line[u] == 0 and line[u - 1] == 0:  # within a run of outside pixels each is its own nearest
                last += 1
                site[last] = u
                start[last] = u
                continue
            while last >= 0:
                s, t = site[last], start[last]
                if (t - s) ** 2 + line[s] <= (t - u) ** 2 + line[u]:
                    break
                last -= 1
            if last < 0:
                last = 0
                site[0] = u
                start[0] = 0
            else:
                s = site[last]
                # Exact: the numbers are whole and below 2**52.
                where = 1 + int(np.floor(float(u * u - s * s + line[u] - line[s]) / float(2 * (u - s))))
                if where < count:
                    last += 1
                    site[last] = u
                    start[last] = where
        for u in range(count - 1, -1, -1):
            j = u - shift
            if 0 <= j < width and mask[i, j]:
                out[i, j] = (u - site[last]) ** 2 + line[site[last]]
            if u == start[last]:
                last -= 1
    return out


@compiled
def _nearest_of_all(
    column: NDArray, most: int, frame_is_outside: bool, padded: NDArray, out: NDArray
) -> None:
    """A row of :func:`squared_distance` from the distances in the columns, none of them above `most`."""
    width, middle = len(column), padded[_BRIEF + 1 :]
    for j in range(width):
        middle[j] = out[j] = column[j] * column[j]
    for k in range(1, most + 1):
        away = np.int32(k * k)
        before, after = padded[_BRIEF + 1 - k :], padded[_BRIEF + 1 + k :]
        for j in range(width):
            out[j] = min(out[j], min(before[j], after[j]) + away)
    if frame_is_outside:
        for j in range(min(most, width)):
            out[j] = min(out[j], np.int32((j + 1) ** 2))
            out[width - 1 - j] = min(out[width - 1 - j], np.int32((j + 1) ** 2))


@compiled
def farthest(candidates: NDArray, width: int, points: NDArray, count: int) -> NDArray:
    """`count` of the candidates, each the farthest from `points` and from those chosen before.

    Parameters
    ----------
    candidates
        int64 (n,), flat indices into an image of the given width.
    points
        int64 (m, 2), x and y.

    Returns
    -------
    int64 (count, 2), x and y; among equals the first candidate.
    """
    nearest = np.full(len(candidates), np.iinfo(np.int64).max)
    chosen = np.empty((count, 2), np.int64)
    for turn in range(-len(points), count):
        if turn >= 0:
            best = np.argmax(nearest)
            chosen[turn, 0], chosen[turn, 1] = candidates[best] % width, candidates[best] // width
        x, y = (chosen[turn, 0], chosen[turn, 1]) if turn >= 0 else (points[turn, 0], points[turn, 1])
        for k in range(len(candidates)):
            away = (candidates[k] % width - x) ** 2 + (candidates[k] // width - y) ** 2
            nearest[k] = min(nearest[k], away)
    return chosen


@compiled
def bounds(mask: NDArray) -> NDArray:
    """The smallest XYXY half-open box around a mask's pixels, int32 (4,); zeros for an empty mask."""
    height, width = mask.shape
    box = np.array([width, height, 0, 0], np.int32)
    for i in range(height):
        first, last = -1, -1
        for j in range(width):
            if mask[i, j]:
                if first < 0:
                    first = j
                last = j
        if first >= 0:
            box[0], box[2] = min(box[0], first), max(box[2], last + 1)
            box[1], box[3] = min(box[1], i), i + 1
    if box[2] == 0:
        box[:] = 0
    return box


@compiled
def extents(label: NDArray) -> tuple[NDArray, NDArray]:
    """Where the numbers of a uint8 label map lie, and how many pixels each has.

    Returns
    -------
    boxes
        int32 (256, 4), the smallest XYXY half-open box around each number. One that does not occur has its
        left and top at the far edges and its right and bottom at 0, so that the box of several numbers
        together is the least of the first two and the largest of the last two.
    pixels
        int64 (256,).
    """
    height, width = label.shape
    boxes, pixels = np.zeros((256, 4), np.int32), np.zeros(256, np.int64)
    boxes[:, 0], boxes[:, 1] = width, height
    for i in range(height):
        row, start = label[i], 0
        for j in range(1, width + 1):  # run by run: a label map has few in a row
            if j < width and row[j] == row[start]:
                continue
            box = boxes[row[start]]
            box[0], box[2] = min(box[0], start), max(box[2], j)
            box[1], box[3] = min(box[1], i), i + 1
            pixels[row[start]] += j - start
            start = j
    return boxes, pixels


@compiled
def around(boxes: NDArray, members: NDArray) -> NDArray:
    """The smallest box around the :func:`extents` of several numbers, int32 (4,); `members` bool (256,)."""
    box = np.array([np.iinfo(np.int32).max, np.iinfo(np.int32).max, 0, 0], np.int32)
    for number in range(len(members)):
        if members[number]:
            box[:2] = np.minimum(box[:2], boxes[number, :2])
            box[2:] = np.maximum(box[2:], boxes[number, 2:])
    return box


@compiled
def look_up(label: NDArray, table: NDArray, out: NDArray) -> None:
    """Write ``table[label]`` into `out`, as NumPy's indexing does in seven times the time.

    Parameters
    ----------
    label
        uint8 (H, W), a label map or a part of one.
    table
        (256,), such as which numbers are a mask's.
    out
        (H, W) of any type of numbers.
    """
    height, width = label.shape
    for i in range(height):
        for j in range(width):
            out[i, j] = table[label[i, j]]


@compiled
def depth(mask: NDArray) -> NDArray:
    """Distance of every pixel of a mask to the nearest pixel outside, float32 (H, W); see :mod:`.prompts`."""
    out = np.zeros(mask.shape, np.float32)
    x0, y0, x1, y1 = bounds(mask)
    if x1 == 0:
        return out
    squared = squared_distance(mask[y0:y1, x0:x1].copy(), True)
    for i in range(y1 - y0):
        for j in range(x1 - x0):
            out[y0 + i, x0 + j] = np.sqrt(float(squared[i, j]))
    return out


@compiled
def by_depth(mask: NDArray, share: float) -> tuple[int, int]:
    """x and y of the pixel at which a mask's summed :func:`depth`, row by row, exceeds a share of the whole.

    So a share drawn evenly in 0..1 draws pixels in proportion to their depth. (-1, -1) for an empty mask.
    """
    x0, y0, x1, y1 = bounds(mask)
    if x1 == 0:
        return -1, -1
    squared = squared_distance(mask[y0:y1, x0:x1].copy(), True).ravel()
    sums, total = np.empty(len(squared)), 0.0
    for k in range(len(squared)):
        total += np.float32(np.sqrt(float(squared[k])))
        sums[k] = total
    place = np.searchsorted(sums, share * total, side="right")
    return x0 + place % (x1 - x0), y0 + place // (x1 - x0)


@compiled
def peak(values: NDArray) -> tuple[int, int, float]:
    """x, y and value of the largest of float32 (H, W); among equals (1e-4) the nearest to their middle."""
    top = np.float32(0)
    for value in values.flat:
        top = max(top, value)
    least = top - np.float32(1e-4)
    count, total_x, total_y = 0, 0, 0
    for i in range(values.shape[0]):
        for j in range(values.shape[1]):
            if values[i, j] >= least:
                count, total_x, total_y = count + 1, total_x + j, total_y + i
    x, y, best = 0, 0, np.iinfo(np.int64).max
    for i in range(values.shape[0]):
        for j in range(values.shape[1]):
            if values[i, j] >= least:
                # The squared distance to the middle, times `count` and less what all have in common. In whole
                # numbers, so that it does not matter where the array begins, and small enough for an int64.
                away = j * (count * j - 2 * total_x) + i * (count * i - 2 * total_y)
                if away < best:
                    x, y, best = j, i, away
    return x, y, top


@compiled
def ring(squared: NDArray, usable: NDArray, label: NDArray, low: int, high: int) -> tuple[NDArray, NDArray]:
    """Flat indices, int64, of the usable pixels with ``low < squared <= high``, and of those labelled."""
    height, width = squared.shape
    pixels, labelled = np.empty(height * width, np.int64), np.empty(height * width, np.int64)
    n, m = 0, 0
    for i in range(height):
        for j in range(width):
            if low < squared[i, j] <= high and usable[i, j]:
                pixels[n] = i * width + j
                n += 1
                if label[i, j] > 0:
                    labelled[m] = i * width + j
                    m += 1
    return pixels[:n].copy(), labelled[:m].copy()


@compiled
def walk(pixels: NDArray, start: int, longest: int) -> NDArray:
    """The shortest way over 8-connected pixels, bool (H, W), from one of them to one of those farthest off.

    Farthest among those within `longest` steps, over the pixels alone; `start` is a flat index. Returns int64
    (n, 2), x and y, in order from the start.
    """
    height, width = pixels.shape
    before = np.full(height * width, -1, np.int64)
    steps = np.zeros(height * width, np.int64)
    queue = np.empty(height * width, np.int64)
    queue[0], before[start] = start, start
    first, last = 0, 1
    while first < last:
        here = queue[first]
        first += 1
        if steps[here] == longest:
            continue
        row, column = here // width, here % width
        for i in range(max(row - 1, 0), min(row + 2, height)):
            for j in range(max(column - 1, 0), min(column + 2, width)):
                there = i * width + j
                if pixels[i, j] and before[there] < 0:
                    before[there] = here
                    steps[there] = steps[here] + 1
                    queue[last] = there
                    last += 1
    here = queue[last - 1]
    path = np.empty((steps[here] + 1, 2), np.int64)
    for k in range(steps[here], -1, -1):
        path[k, 0], path[k, 1] = here % width, here // width
        here = before[here]
    return path
