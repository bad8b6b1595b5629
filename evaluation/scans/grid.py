"""Where the voxels of a scan lie: in their file, in the patient, in the slices that a person sees."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from synthfm.evaluation.formats.volume import Volume

Points = NDArray[np.float64]


@dataclass(frozen=True)
class Grid:
    """The grid of a file's voxels, in ITK's words and ITK's order of axes: i, j, k, or x, y, z.

    Attributes
    ----------
    size
        Voxels along i, j, k; 1 along k for a 2-D image.
    spacing
        mm from voxel to voxel along i, j, k; 1 where the file does not say.
    origin
        Position of voxel (0, 0, 0) in the patient, mm, LPS (towards left, posterior, superior).
    direction
        3 x 3, its columns the directions in the patient in which i, j, k run.
    placed
        Whether the file says where in the patient all this lies; if not, origin and direction mean nothing.
    measured
        Whether the file says how large a voxel is.
    flat
        Whether the file has two axes only.
    """

    size: tuple[int, int, int]
    spacing: tuple[float, float, float] = (1.0, 1.0, 1.0)
    origin: tuple[float, float, float] = (0.0, 0.0, 0.0)
    direction: tuple[tuple[float, float, float], ...] = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))
    placed: bool = False
    measured: bool = False
    flat: bool = False

    @property
    def affine(self) -> NDArray[np.float64]:
        """4 x 4, from voxels (i, j, k, 1) to mm in the patient (LPS).

        >>> Grid((4, 4, 4), spacing=(1.0, 1.0, 3.0), origin=(-10.0, 0.0, 0.0)).affine @ [1, 0, 2, 1]
        array([-9.,  0.,  6.,  1.])
        """
        affine = np.eye(4)
        affine[:3, :3] = np.array(self.direction) * np.array(self.spacing)
        affine[:3, 3] = self.origin
        return affine

    def to_patient(self, voxels: ArrayLike) -> Points:
        """Voxels (N, 3) as (i, j, k) to mm in the patient (N, 3), LPS."""
        return np.asarray(voxels, float) @ self.affine[:3, :3].T + self.affine[:3, 3]

    def to_voxels(self, points: ArrayLike) -> Points:
        """Points in the patient (N, 3), mm, LPS, to voxels (i, j, k), in fractions."""
        return (np.asarray(points, float) - self.affine[:3, 3]) @ np.linalg.inv(self.affine[:3, :3]).T


def grid_of(volume: Volume) -> Grid:
    """The grid of a volume that was read."""
    z, y, x = volume.array.shape
    spacing = volume.spacing or (1.0, 1.0, 1.0)
    placed = volume.spacing is not None and volume.origin is not None and volume.direction is not None
    return Grid(
        size=(x, y, z),
        spacing=(spacing[2], spacing[1], spacing[0]),
        origin=_triple(volume.origin) if volume.origin is not None else (0.0, 0.0, 0.0),
        direction=tuple(
            _triple(row) for row in (np.eye(3) if volume.direction is None else volume.direction)
        ),
        placed=placed,
        measured=volume.spacing is not None,
        flat=volume.flat,
    )


def _triple(values: ArrayLike) -> tuple[float, float, float]:
    first, second, third = np.asarray(values, float).tolist()
    return first, second, third
