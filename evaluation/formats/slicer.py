"""3D Slicer's segmentations, ``.seg.nrrd``: named segments, each a number in one of several layers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from synthfm.evaluation.formats.packed import check_packed
from synthfm.evaluation.formats.reach import check_data_files
from synthfm.evaluation.formats.sizes import readable
from synthfm.evaluation.formats.volume import Unreadable, Volume, placement


def is_slicer(path: Path) -> bool:
    """Whether an NRRD file's header names segments."""
    if not path.name.lower().endswith(".nrrd"):
        return False
    with open(path, "rb") as handle:
        return b"Segment0_ID:=" in handle.read(1 << 20).partition(b"\n\n")[0]


@readable()
def read_slicer(path: Path, image: Volume) -> dict[str, NDArray[np.bool_]]:
    """Read the segments on the grid of their image; they may cover part of it.

    Returns
    -------
    dict
        Name to mask, bool (Z, Y, X), of those that are not empty; several that bear one name are one.

    Raises
    ------
    Unreadable
        If the file cannot be read or does not lie on the image's grid.
    """
    import slicerio

    check_data_files(path)
    check_packed(path)
    try:
        found = slicerio.read_segmentation(str(path))
        voxels, segments = found["voxels"], found["segments"]
        described = [(str(one["name"]), int(one.get("layer", 0)), one["labelValue"]) for one in segments]
    except Exception as error:  # pynrrd and slicerio raise many kinds
        raise Unreadable(f"cannot be read as a segmentation: {' '.join(str(error).split())}") from error
    layers: Any = voxels if voxels.ndim == 4 else voxels[None]
    target: tuple[slice, ...]
    flips: tuple[slice, ...]
    if image.direction is None and layers.shape[1:] == image.array.shape[::-1]:
        target, order, flips = (slice(None),) * 3, [2, 1, 0], (slice(None),) * 3
    else:
        target, order, flips = placement(image, np.asarray(found["ijkToLPS"], float), layers.shape[1:])
    masks: dict[str, NDArray[np.bool_]] = {}
    for name, layer, label in described:
        mask = masks.get(name, np.zeros(image.array.shape, bool))
        mask[target] |= np.transpose(layers[layer] == label, order)[flips]
        if mask.any():
            masks[name] = mask
    return masks
