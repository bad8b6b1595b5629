"""3D Slicer's segmentations, as it writes them: cut to what they cover, in layers, turned otherwise."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import slicerio

from synthfm.evaluation.formats.readers import read_volume
from synthfm.evaluation.formats.slicer import is_slicer, read_slicer
from synthfm.evaluation.formats.volume import Unreadable, Volume
from tests.support.files import write_itk

RNG = np.random.default_rng(0)
SHAPE = (5, 7, 9)


@pytest.fixture
def image(tmp_path: Path) -> Volume:
    path = write_itk(
        tmp_path / "scan.nrrd", np.zeros(SHAPE, np.int16), (0.8, 1.1, 3.0), "RAS", (5.0, 6.0, -7.0)
    )
    assert not is_slicer(path)
    return read_volume(path)


def to_patient(image: Volume) -> np.ndarray:
    """4 x 4, from voxels i, j, k to LPS."""
    assert image.direction is not None
    assert image.spacing is not None
    affine = np.eye(4)
    affine[:3, :3] = image.direction * np.array(image.spacing[::-1])
    affine[:3, 3] = image.origin
    return affine


def written(path: Path, voxels: np.ndarray, affine: np.ndarray, segments: list[tuple[str, int, int]]) -> Path:
    described = [
        {
            "id": f"Segment_{k}",
            "name": name,
            "color": [1.0, 0.0, 0.0],
            "labelValue": label,
            "layer": layer,
            "extent": [0, 1, 0, 1, 0, 1],
        }
        for k, (name, layer, label) in enumerate(segments)
    ]
    content = {
        "voxels": voxels,
        "ijkToLPS": affine,
        "containedRepresentationNames": ["Binary labelmap"],
        "segments": described,
    }
    slicerio.write_segmentation(str(path), content)
    return path


def test_segments_that_overlap_are_told_apart_by_their_layers(image, tmp_path):
    masks = RNG.random((2, *SHAPE)) < 0.5
    voxels = masks.transpose(0, 3, 2, 1).astype(np.uint8)
    path = written(tmp_path / "a.seg.nrrd", voxels, to_patient(image), [("liver", 0, 1), ("lesion", 1, 1)])
    assert is_slicer(path)
    found = read_slicer(path, image)
    assert list(found) == ["liver", "lesion"]
    for name, mask in zip(found, masks, strict=True):
        np.testing.assert_array_equal(found[name], mask)


def test_a_part_of_the_grid_that_lies_the_other_way_round_is_put_where_it_is(image, tmp_path):
    labels = np.zeros(SHAPE, np.uint8)
    labels[1:4, 2:6, 3:8] = RNG.integers(0, 3, (3, 4, 5))
    cut = labels[1:4, 2:6, 3:8].T[::-1]  # i runs down from 7 to 3
    turn = np.eye(4)
    turn[0, 0] = -1
    turn[:3, 3] = 7, 2, 1
    path = written(
        tmp_path / "a.nrrd", cut, to_patient(image) @ turn, [("one", 0, 1), ("two", 0, 2), ("none", 0, 9)]
    )
    found = read_slicer(path, image)
    assert list(found) == ["one", "two"]
    np.testing.assert_array_equal(found["one"], labels == 1)
    np.testing.assert_array_equal(found["two"], labels == 2)


@pytest.mark.parametrize(
    ("change", "message"),
    [(np.diag([1.0, 1.0, 2.0, 1.0]), "spacing or orientation"), (np.diag([1.0, 1.0, 1.0, 1.0]), "beyond")],
)
def test_another_grid_is_refused(image, tmp_path, change, message):
    affine = to_patient(image) @ change
    path = written(tmp_path / "a.seg.nrrd", np.ones((9, 7, 6), np.uint8), affine, [("one", 0, 1)])
    with pytest.raises(Unreadable, match=message):
        read_slicer(path, image)


def test_what_is_damaged_is_told_in_one_line(image, tmp_path):
    path = written(tmp_path / "a.seg.nrrd", np.ones((9, 7, 5), np.uint8), to_patient(image), [("one", 0, 1)])
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(Unreadable, match="cut short: the packed voxels") as error:
        read_slicer(path, image)
    assert "\n" not in str(error.value)
