"""The three planes of a scan as a person looks at them: axial, coronal and sagittal, linked by one place.

A *place* is a voxel (s, p, l), counted along the axes of radiological viewing: towards superior, posterior
and the patient's left (of a file that does not say how it lies, along its own z, y, x). Slice number s of the
axial plane, p of the coronal and l of the sagittal one meet in it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from synthfm.evaluation.formats.volume import radiological
from synthfm.evaluation.scans.scan import Scan
from synthfm.trainer.model.bits import Bits

Mask = NDArray[np.bool_]

AXES = ((1, 2), (0, 2), (0, 1))
"""Of each plane, the axes of (s, p, l) that its rows follow one another along, and its columns."""
CODES = 2**16 - 1
"""The largest number that a value is sent as."""


@dataclass(frozen=True)
class Planes:
    """How a scan, read upright, is cut in three planes.

    Attributes
    ----------
    scan
        Read with ``upright``, so that its own slices are those of one of the planes.
    """

    scan: Scan

    @property
    def own(self) -> int:
        """The plane, 0, 1 or 2, of the scan's own slices, which are those that are segmented."""
        return self.scan.view.plane

    @cached_property
    def values(self) -> NDArray:
        """The scan's values, a view (S, P, L)."""
        return radiological(self.scan.volume, self.scan.volume.array)[0]

    @property
    def shape(self) -> tuple[int, int, int]:
        """Voxels along s, p, l."""
        s, p, l = self.values.shape  # noqa: E741
        return s, p, l

    @property
    def spacing(self) -> tuple[float, float, float]:
        """mm along s, p, l; 1 where the file does not say."""
        order = radiological(self.scan.volume, self.scan.volume.array)[1]
        file = self.scan.volume.spacing or (1.0, 1.0, 1.0)
        return file[order[0]], file[order[1]], file[order[2]]

    @property
    def upright(self) -> bool:
        """Whether superior is on top in coronal and sagittal slices."""
        return self.scan.volume.direction is not None

    def voxels(self) -> list[tuple[int, bool]]:
        """Of i, j and k of the file: which of s, p, l it is, and whether it is counted from the other end."""
        corner = np.indices((2, 2, 2))[::-1]  # i, j, k of each voxel of a tiny volume of this orientation
        turned = [radiological(self.scan.volume, axis)[0] for axis in corner]
        found = []
        for axis in turned:
            steps = axis[1, 0, 0], axis[0, 1, 0], axis[0, 0, 1]
            found.append(([step != axis[0, 0, 0] for step in steps].index(True), bool(axis[0, 0, 0])))
        return found

    def coding(self) -> tuple[float, float]:
        """`low` and `step`: a value is low + step x its code of 16 bits, exactly where it is an integer."""
        low, high = float(self.values.min()), float(self.values.max())
        exact = self.values.dtype.kind in "iu" and high - low <= CODES
        return low, 1.0 if exact or low == high else (high - low) / CODES

    def image(self, plane: int, at: int, coding: tuple[float, float]) -> NDArray[np.uint16]:
        """A slice's values as codes, (H, W), see :meth:`coding`."""
        low, step = coding
        values = self._rows_down(np.moveaxis(self.values, plane, 0)[at], plane)
        return np.rint((values.astype(np.float64) - low) / step).astype(np.uint16)

    def cut(self, slices: dict[int, Bits], plane: int, at: int) -> Mask:
        """A mask, by the scan's own slices, in a slice of any plane, bool (H, W)."""
        shape = self.shape
        if plane == self.own:
            size = [shape[axis] for axis in AXES[plane]]
            return slices[at].mask if at in slices else np.zeros(size, bool)
        rows, columns = AXES[self.own]
        across = rows if plane == columns else columns  # the axis that the cut keeps of the own slices
        found = np.zeros((shape[self.own], shape[across]), bool)
        turned = plane == rows and self.own > 0 and self.upright  # the own slices have superior on top
        for number, bits in slices.items():
            found[number] = bits.line(
                "row" if plane == rows else "column", shape[plane] - 1 - at if turned else at
            )
        if AXES[plane][0] == self.own:
            return self._rows_down(found, plane)
        return found.T

    def _rows_down(self, cut: NDArray, plane: int) -> NDArray:
        """Rows in the order in which they are shown: from superior down."""
        return cut[::-1] if plane > 0 and self.upright else cut
