"""Compiled raster geometry: filling outlines, connected pieces, partitions, measures along an outline.

All kernels are single-threaded, release the GIL and use no fast-math, so that the same input gives the same
output whatever runs beside them. They are compiled once and cached beside the source.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from synthfm.data.compiled import compiled
from synthfm.data.distance import squared_distance


@compiled
def fill_contours(mask: NDArray, points: NDArray, starts: NDArray, left: int, top: int) -> None:
    """Set the interior of closed contours in `mask`, uint8 (H, W), by the non-zero winding rule.

    Contour i has the vertices ``starts[i]:starts[i + 1]`` of `points`, float64 (n, 2) of x and y; the mask's
    top left pixel is (`left`, `top`). A pixel is inside if its centre is. Contours of one orientation unite;
    one of the other orientation cuts a hole.
    """
    height, width = mask.shape
    turns = np.zeros((height, width), np.int8)
    for contour in range(len(starts) - 1):
        first, last = starts[contour], starts[contour + 1]
        for i in range(first, last):
            j = i + 1 if i + 1 < last else first
            x0, y0 = points[i, 0] - left, points[i, 1] - top
            x1, y1 = points[j, 0] - left, points[j, 1] - top
            step = 1
            if y0 == y1:
                continue
            if y0 > y1:
                x0, y0, x1, y1, step = x1, y1, x0, y0, -1
            slope = (x1 - x0) / (y1 - y0)
            for row in range(max(0, int(np.ceil(y0))), min(height - 1, int(np.ceil(y1)) - 1) + 1):
                cross = np.ceil(x0 + (row - y0) * slope)
                if cross < width:
                    turns[row, int(max(cross, 0.0))] += step
    for row in range(height):
        winding = 0
        for column in range(width):
            winding += turns[row, column]
            mask[row, column] = 1 if winding != 0 else mask[row, column]


@compiled
def fill_field(mask: NDArray, field: NDArray, inverse: NDArray, cx: float, cy: float) -> None:
    """OR into `mask` where a scalar field over the square [-1, 1]², bilinearly interpolated, is positive.

    `inverse` (2, 2) takes an offset from the centre (cx, cy), in pixels, to the field's coordinates.
    """
    rows, columns = field.shape
    for row in range(mask.shape[0]):
        for column in range(mask.shape[1]):
            dx, dy = column - cx, row - cy
            u = (inverse[0, 0] * dx + inverse[0, 1] * dy + 1.0) * 0.5 * (columns - 1)
            v = (inverse[1, 0] * dx + inverse[1, 1] * dy + 1.0) * 0.5 * (rows - 1)
            if u < 0.0 or v < 0.0 or u >= columns - 1 or v >= rows - 1:
                continue
            i, j = int(v), int(u)
            a, b = v - i, u - j
            top = field[i, j] * (1.0 - b) + field[i, j + 1] * b
            low = field[i + 1, j] * (1.0 - b) + field[i + 1, j + 1] * b
            if top * (1.0 - a) + low * a > 0.0:
                mask[row, column] = 1


@compiled
def transformed(points: NDArray, matrix: NDArray, cx: float, cy: float) -> NDArray:
    """Points (n, 2) times a (2, 2) matrix, moved to (cx, cy); the rounding does not depend on a BLAS."""
    out = np.empty((len(points), 2), np.float64)
    for k in range(len(points)):
        x, y = points[k, 0], points[k, 1]
        out[k, 0] = matrix[0, 0] * x + matrix[0, 1] * y + cx
        out[k, 1] = matrix[1, 0] * x + matrix[1, 1] * y + cy
    return out


@compiled
def extent(points: NDArray) -> tuple[float, float, float, float]:
    """Smallest x and y and largest x and y of points (n, 2)."""
    x0, y0 = points[0]
    x1, y1 = x0, y0
    for k in range(1, len(points)):
        x, y = points[k]
        x0, y0, x1, y1 = min(x0, x), min(y0, y), max(x1, x), max(y1, y)
    return x0, y0, x1, y1


@compiled
def signed_area(contour: NDArray) -> float:
    """Twice the area of a closed contour (n, 2), negative where it runs the other way round."""
    total, x, y = 0.0, contour[-1, 0], contour[-1, 1]
    for k in range(len(contour)):
        total += x * contour[k, 1] - y * contour[k, 0]
        x, y = contour[k, 0], contour[k, 1]
    return total


@compiled
def widened(path: NDArray, radius: NDArray, cap_cos: NDArray, cap_sin: NDArray) -> NDArray:
    """A path (n, 2) widened by `radius` (n,) to both sides, with a cap of k points at each end.

    `cap_cos` and `cap_sin` are those of the caps' angles to the path. One side, the end's cap, the other side
    backwards, the start's cap: float64 (2 n + 2 k, 2).
    """
    n, k = len(path), len(cap_cos)
    out = np.empty((2 * n + 2 * k, 2))
    for i in range(n):
        before, after = path[max(i - 1, 0)], path[min(i + 1, n - 1)]
        along_x, along_y = after[0] - before[0], after[1] - before[1]
        length = max(np.sqrt(along_x * along_x + along_y * along_y), 1e-9)
        along_x, along_y = along_x / length, along_y / length
        side_x, side_y = -along_y, along_x
        for row, sign in ((i, 1.0), (2 * n + k - 1 - i, -1.0)):
            out[row, 0] = path[i, 0] + sign * (radius[i] * side_x)
            out[row, 1] = path[i, 1] + sign * (radius[i] * side_y)
        if i in (0, n - 1):
            first, sign = (2 * n + k, -1.0) if i == 0 else (n, 1.0)
            for j in range(k):
                out[first + j, 0] = path[i, 0] + sign * (
                    radius[i] * (cap_cos[j] * along_x + cap_sin[j] * side_x)
                )
                out[first + j, 1] = path[i, 1] + sign * (
                    radius[i] * (cap_cos[j] * along_y + cap_sin[j] * side_y)
                )
    return out


@compiled
def displaced(points: NDArray, grid: NDArray, scale: float) -> NDArray:
    """Points (n, 2) of x and y moved by a displacement (2, n, n), bilinear at ``points * scale``, clamped."""
    out = np.empty_like(points)
    last = grid.shape[1] - 1
    for k in range(len(points)):
        u = min(max(points[k, 0] * scale, 0.0), last - 1e-6)
        v = min(max(points[k, 1] * scale, 0.0), last - 1e-6)
        i, j = int(v), int(u)
        a, b = v - i, u - j
        for axis in range(2):
            upper = grid[axis, i, j] * (1 - b) + grid[axis, i, j + 1] * b
            lower = grid[axis, i + 1, j] * (1 - b) + grid[axis, i + 1, j + 1] * b
            out[k, axis] = points[k, axis] + upper * (1 - a) + lower * a
    return out


@compiled
def undisplaced(points: NDArray, grid: NDArray, scale: float) -> NDArray:
    """The points (n, 2), float64, that :func:`displaced` moves to `points`, by fixed-point iteration.

    The iteration settles where the displacement differs by less than the way between two points, as the
    generator's does; where a displacement folds the plane the result is one that comes near. Steps of 0.8 of
    the error: whole ones overshoot where the scene is stretched.
    """
    out = points.copy()
    for _ in range(24):
        out += 0.8 * (points - displaced(out, grid, scale))
    return out


@compiled
def restrict(mask: NDArray, region: NDArray, top: int, left: int, parent: int, gap: int) -> int:
    """Clear `mask` where the region map is not `parent`; returns the pixels kept.

    The mask's top left pixel is (`left`, `top`) of the map. With a gap, pixels nearer than that to any other
    region go too.
    """
    height, width = mask.shape
    first, start = max(0, top - gap), max(0, left - gap)  # what lies farther off is no nearer than the gap
    squared = np.zeros((0, 0), np.int32)
    if gap > 0:
        free = region[first : top + height + gap, start : left + width + gap] == parent
        squared = squared_distance(free, False, gap)
    kept = 0
    for row in range(height):  # no branch within: several pixels at once
        line = mask[row]
        if gap > 0:
            away = squared[row + top - first, left - start :]
            for column in range(width):
                line[column] = line[column] if away[column] > gap * gap else 0
        else:
            below = region[row + top, left:]
            for column in range(width):
                line[column] = line[column] if below[column] == parent else 0
        for column in range(width):
            kept += line[column] != 0
    return kept


@compiled
def stamp(mask: NDArray, region: NDArray, top: int, left: int, number: int) -> None:
    """Set the region map to `number` where the mask is, whose top left pixel is (`left`, `top`) of it."""
    for row in range(mask.shape[0]):
        line, below = mask[row], region[row + top, left:]
        for column in range(mask.shape[1]):  # no branch: several pixels at once
            below[column] = number if line[column] else below[column]


@compiled
def _root(parent: NDArray, i: int) -> int:
    while parent[i] != i:
        parent[i] = parent[parent[i]]
        i = parent[i]
    return i


@compiled
def keep_pieces(mask: NDArray, least: float) -> int:
    """Clear the 4-connected pieces of `mask`, uint8, smaller than `least` times the largest one.

    The largest stays, of several as large the first. Returns the pixels left.
    """
    height, width = mask.shape
    runs = 0  # runs of pixels along rows, joined where runs of neighbouring rows overlap
    for row in range(height):
        before = np.uint8(0)
        for column in range(width):
            runs += mask[row, column] != 0 and before == 0
            before = mask[row, column]
    if runs == 0:
        return 0
    start, stop, line = np.empty(runs, np.int32), np.empty(runs, np.int32), np.empty(runs, np.int32)
    parent, size = np.arange(runs), np.zeros(runs, np.int64)
    k, above, above_end = 0, 0, 0
    for row in range(height):
        here, column = k, 0
        while column < width:
            if mask[row, column] == 0:
                column += 1
                continue
            start[k], line[k] = column, row
            while column < width and mask[row, column] != 0:
                column += 1
            stop[k] = column
            while above < above_end and stop[above] <= start[k]:
                above += 1
            i = above
            while i < above_end and start[i] < stop[k]:
                parent[_root(parent, i)] = _root(parent, k)
                i += 1
            k += 1
        above, above_end = here, k
    for i in range(runs):
        size[_root(parent, i)] += stop[i] - start[i]
    best = int(np.argmax(size))
    kept = int((stop - start).sum())
    if size[best] < kept:
        for i in range(runs):
            root = _root(parent, i)
            if root != best and size[root] < least * size[best]:
                mask[line[i], start[i] : stop[i]] = 0
                kept -= stop[i] - start[i]
    return kept


@compiled
def keep_largest(mask: NDArray) -> int:
    """Clear all 4-connected pieces of `mask`, uint8, but the largest; returns its pixels."""
    return keep_pieces(mask, 2.0)


@compiled
def nearest_seed(region: NDArray, parent: int, seeds: NDArray, warp: NDArray, weights: NDArray) -> NDArray:
    """Partition the pixels of a region among fewer than 255 seeds: uint8 (H, W), 255 outside it.

    A pixel goes to the seed (x, y) nearest to it after its own position was moved by `warp` (2, H, W), in
    pixels, squared distances multiplied by the seed's weight.
    """
    height, width = region.shape
    cell = np.full((height, width), 255, np.uint8)
    for row in range(height):
        for column in range(width):
            if region[row, column] != parent:
                continue
            x, y = column + warp[0, row, column], row + warp[1, row, column]
            best = np.inf
            for k in range(len(seeds)):
                away = ((seeds[k, 0] - x) ** 2 + (seeds[k, 1] - y) ** 2) * weights[k]
                if away < best:
                    best = away
                    cell[row, column] = k
    return cell


@compiled
def edge_width(mask: NDArray, image: NDArray, top: int, left: int, reach: int, floor: float) -> float:
    """Median width of the edge along a mask's outline, in pixels.

    Along the normal at 96 to 191 outline pixels, or all where they are fewer, the width is the rise of
    `image` (noise-free) within `reach` pixels of the outline over its steepest slope there. Stretches whose
    rise is under `floor` have no edge and do not count; where three quarters of the outline have none, the
    width is ``2 * reach``.

    `mask` is uint8 (h, w), whose top left pixel is (`left`, `top`) of the image.
    """
    h, w = mask.shape
    height, width = image.shape
    outline = np.empty(h * w, np.int32)
    count = 0
    for row in range(h):
        for column in range(w):
            if mask[row, column] == 0:
                continue
            y, x = row + top, column + left
            if y < 1 or x < 1 or y >= height - 1 or x >= width - 1:
                continue
            edge = row == 0 or column == 0 or row == h - 1 or column == w - 1
            if not edge:
                edge = mask[row - 1, column] == 0 or mask[row + 1, column] == 0
                edge = edge or mask[row, column - 1] == 0 or mask[row, column + 1] == 0
            if edge:
                outline[count] = row * w + column
                count += 1
    if count == 0:
        return 2.0 * reach
    step = max(1, count // 96)
    widths = np.empty(count // step + 1, np.float64)
    used, profile = 0, np.empty(2 * reach + 1, np.float64)
    for k in range(0, count, step):
        row, column = outline[k] // w, outline[k] % w
        nx, ny = 0.0, 0.0
        for i in range(-2, 3):
            for j in range(-2, 3):
                r, c = row + i, column + j
                if 0 <= r < h and 0 <= c < w and mask[r, c] != 0:
                    nx += j
                    ny += i
        length = np.sqrt(nx * nx + ny * ny)
        if length == 0.0:
            continue
        for t in range(2 * reach + 1):
            x = min(max(column + left + nx / length * (t - reach), 0.0), width - 1.001)
            y = min(max(row + top + ny / length * (t - reach), 0.0), height - 1.001)
            i, j = int(y), int(x)
            a, b = y - i, x - j
            profile[t] = (image[i, j] * (1 - b) + image[i, j + 1] * b) * (1 - a) + (
                image[i + 1, j] * (1 - b) + image[i + 1, j + 1] * b
            ) * a
        # From the steepest slope near the outline to where the rise ends on either side.
        steep, at = 0.0, reach
        for t in range(reach - 2, reach + 2):
            if abs(profile[t + 1] - profile[t]) > steep:
                steep, at = abs(profile[t + 1] - profile[t]), t
        sign = 1.0 if profile[at + 1] > profile[at] else -1.0
        low, high = at, at + 1
        while low > 0 and (profile[low] - profile[low - 1]) * sign > 0.05 * steep:
            low -= 1
        while high < 2 * reach and (profile[high + 1] - profile[high]) * sign > 0.05 * steep:
            high += 1
        rise = abs(profile[high] - profile[low])
        if rise > floor:
            widths[used] = min(rise / steep, 2.0 * reach)
            used += 1
    if used * 4 < count // step + 1:
        return 2.0 * reach
    return float(np.median(widths[:used]))
