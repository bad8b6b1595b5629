"""A scan in, an object's mask out, from Python."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from synthfm.data.console import InputError
from synthfm.evaluation.interactive.finding import find, open_model
from synthfm.evaluation.interactive.placing import Asked, place
from synthfm.evaluation.interactive.prompt_files import OBJECT, listed
from synthfm.evaluation.scans.scan import read_scan, scan_of


def segment(
    scan: str | os.PathLike[str] | NDArray,
    spacing: Sequence[float] | None = None,
    *,
    box: ArrayLike | None = None,
    points: ArrayLike | None = None,
    labels: Sequence[int] | None = None,
    strokes: Sequence[ArrayLike] = (),
    stroke_labels: Sequence[int] | None = None,
    mask: NDArray | None = None,
    plane: str = "auto",
    frame: int | None = None,
    window: tuple[float, float] | None = None,
    two_d: bool = False,
    checkpoint: str = "tiny",
    device: str = "auto",
) -> NDArray[np.bool_]:
    """Segment one object in a scan, in all slices from a prompt in one of them.

    Parameters
    ----------
    scan
        A file or the folder of a DICOM series, see :func:`synthfm.evaluation.scans.scan.read_scan`; or an
        array: (slices, H, W), (H, W), or uint8 (H, W, 3).
    spacing
        Of an array: mm along each of its axes. Without it voxels count as cubes.
    box
        ``(x0, y0, x1, y1, slice)``, half-open, in pixels of a slice; the slice, counted from 0, may be left
        out where there is one. Or several, (N, 5), of different slices.
    points, labels
        Clicks, (x, y, slice) or (N, 3), and for each 1 (on the object, where left out) or 0 (on what is not).
    strokes, stroke_labels
        Lines that somebody has drawn, each through its points, (x, y, slice) as (N, 3) with one slice, or
        (N, 2); and for each the same.
    mask
        To begin with, an array of the scan's shape: what is above 0 is refined in its slices, and filled in
        between them; where it is one slice, the object is found in the others.
    plane, frame, window
        As :func:`synthfm.evaluation.scans.scan.read_scan` takes them.
    two_d
        Answer in the prompted slices alone.
    checkpoint, device
        A SAM-format file, or ``tiny``; ``auto`` takes the GPU if there is one.

    Returns
    -------
    array
        bool, of an array's shape (without its colours); of a file (slices, H, W) in the order in which
        SimpleITK reads it, of a picture (H, W).

    Raises
    ------
    InputError
        If the scan cannot be segmented as it is, or a prompt does not lie in it.

    >>> z, y, x = np.indices((5, 64, 80))
    >>> volume = np.where(np.hypot(y - 30, x - 40) < 15, 180, 60)
    >>> found = segment(volume, spacing=(3, 1, 1), box=(25, 15, 56, 46, 2))
    >>> found.shape, bool(found[1, 30, 40]), bool(found[2, 5, 5])
    ((5, 64, 80), True, False)
    """
    if isinstance(scan, np.ndarray):
        read = scan_of(scan, spacing, plane=plane, window=window)
    elif spacing is not None:
        raise InputError("spacing is for arrays: a file has its own")
    else:
        read = read_scan(Path(scan), plane=plane, frame=frame, window=window)
    boxes, clicks = (
        [] if given is None else np.atleast_2d(np.asarray(given)).tolist() for given in (box, points)
    )
    lines = [_line(np.asarray(stroke)) for stroke in strokes]
    marks = listed("segment:", OBJECT, boxes, clicks, labels, lines, stroke_labels)
    asked = place(marks, read) or [Asked(OBJECT)]
    shape = read.volume.array.shape
    if mask is not None:
        if mask.reshape(-1, *mask.shape[-2:]).shape != shape or not (mask > 0).any():
            raise InputError(f"mask {mask.shape}: expected {shape}, as the scan, with values above 0 in it")
        asked = [replace(asked[0], mask=read.by_slice(mask.reshape(shape) > 0))]
    elif not marks:
        raise InputError("nothing is asked: give box, points, strokes or mask")
    (found,) = find(read, asked, open_model(str(checkpoint), device), two_d=two_d)
    placed = read.on_grid(found.mask)
    return placed[0] if read.grid.flat else placed


def _line(stroke: NDArray) -> list[float]:
    """A stroke's points, (N, 3) or (N, 2), one after the other, the slice at the end."""
    if stroke.ndim != 2 or stroke.shape[1] not in (2, 3) or (stroke[:, 2:] != stroke[:1, 2:]).any():
        shown = str(stroke.tolist())
        raise InputError(f"segment: stroke {shown[:50]}: expected points (x, y, slice) of one slice, (N, 3)")
    return [*stroke[:, :2].ravel().tolist(), *stroke[:1, 2:].ravel().tolist()]
