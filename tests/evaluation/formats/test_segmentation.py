"""DICOM-SEG objects lie on the image that they were drawn on, or are refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest

from synthfm.evaluation.formats.readers import read_volume
from synthfm.evaluation.formats.segmentation import read_segments
from synthfm.evaluation.formats.volume import Unreadable
from tests.support.files import (
    blocks,
    edit_dicom,
    picture_of,
    write_dicom_seg,
    write_dicom_series,
    write_enhanced,
)


@pytest.mark.parametrize("descending", [False, True])
def test_dicom_seg_lies_on_its_image(tmp_path: Path, descending: bool) -> None:
    label = blocks((5, 20, 30), [1, 2])
    series = write_dicom_series(
        tmp_path / "s", picture_of(label, np.random.default_rng(0)), descending=descending
    )
    # The object covers the inner slices alone.
    path = write_dicom_seg(
        tmp_path / "seg.dcm", series[1:4], {"liver": label[1:4] == 1, "spleen": label[1:4] == 2}
    )
    image = read_volume(tmp_path / "s")
    masks = read_segments(path, image)
    expected = label[::-1] if descending else label
    np.testing.assert_array_equal(masks[1], expected == 1)
    np.testing.assert_array_equal(masks["spleen"], expected == 2)


@pytest.mark.parametrize("order", [[0, 1, 2, 3], [3, 2, 1, 0], [2, 0, 3, 1]], ids=str)
def test_dicom_seg_lies_on_a_multi_frame_image(tmp_path: Path, order: list[int]) -> None:
    label = blocks((4, 20, 30), [1, 2])
    series = write_dicom_series(tmp_path / "s", picture_of(label, np.random.default_rng(0)))
    path = write_enhanced(tmp_path / "e.dcm", series, order)
    seg = write_dicom_seg(tmp_path / "seg.dcm", [path], {"liver": label[order] == 1})
    image = read_volume(path)
    np.testing.assert_array_equal(read_segments(seg, image)["liver"], label == 1)


def test_dicom_seg_of_another_image_is_refused(tmp_path: Path) -> None:
    label = blocks((5, 20, 30), [1])
    series = write_dicom_series(tmp_path / "s", label)
    path = write_dicom_seg(tmp_path / "seg.dcm", series, {"liver": label == 1})
    write_dicom_series(tmp_path / "other", label, spacing=(5.0, 0.8, 0.8))
    with pytest.raises(Unreadable, match="spacing or orientation differs"):
        read_segments(path, read_volume(tmp_path / "other"))


@pytest.mark.parametrize(
    ("shift", "step", "fits"),
    [
        ((0.0, 0.0, 0.0), 1.0, True),
        ((0.2, 0.0, 0.0), 1.0, True),  # mm, of 1 mm
        ((0.4, 0.0, 0.0), 1.0, False),
        ((0.0, 0.5, 0.0), 1.0, False),
        ((0.0, 0.0, 1.0), 1.0, True),  # mm, of 5 mm
        ((0.0, 0.0, 2.5), 1.0, False),
        ((0.0, 0.0, 0.0), 1.015, False),  # over 30 columns a step 1.5 % too long is half a column off
    ],
)
def test_dicom_seg_between_the_voxels_is_refused(
    tmp_path: Path, shift: tuple[float, float, float], step: float, fits: bool
) -> None:
    label = blocks((5, 20, 30), [1])
    image = read_volume(write_dicom_series(tmp_path / "s", label)[0].parent)
    moved = write_dicom_series(tmp_path / "moved", label, spacing=(5.0, 1.0, step))
    for k, path in enumerate(moved):
        edit_dicom(path, ImagePositionPatient=[shift[0], shift[1], 5 * k + shift[2]])
    path = write_dicom_seg(tmp_path / "seg.dcm", moved, {"liver": label == 1})
    if fits:
        np.testing.assert_array_equal(read_segments(path, image)[1], label == 1)
    else:
        with pytest.raises(Unreadable, match="between those of the image"):
            read_segments(path, image)


def test_a_voxel_of_a_fractional_dicom_seg_is_inside_above_one_half(tmp_path: Path) -> None:
    share = np.zeros((3, 4, 5))
    share[1, 1, :4] = (0.05, 0.45, 0.55, 1.0)
    series = write_dicom_series(tmp_path / "s", np.zeros((3, 4, 5), np.int16))
    path = write_dicom_seg(tmp_path / "seg.dcm", series, {"liver": share}, "FRACTIONAL")
    np.testing.assert_array_equal(read_segments(path, read_volume(tmp_path / "s"))[1], share > 0.5)


def test_segments_of_one_label_are_one_structure(tmp_path: Path) -> None:
    label = blocks((4, 20, 24), [1, 2])
    series = write_dicom_series(tmp_path / "s", picture_of(label, np.random.default_rng(0)))
    path = write_dicom_seg(tmp_path / "m.dcm", series, {"a": label == 1, "b": label == 2})
    file = pydicom.dcmread(path)
    for item in file.SegmentSequence:
        item.SegmentLabel = "lesion"
    file.save_as(path)
    found = read_segments(path, read_volume(tmp_path / "s"))
    np.testing.assert_array_equal(found["lesion"], label > 0)
    np.testing.assert_array_equal(found[1], label == 1)


def tilted(paths: list[Path]) -> None:
    """Slices that do not lie above each other, as behind a gantry that was tilted by a quarter."""
    for k, path in enumerate(paths):
        edit_dicom(
            path,
            ImagePositionPatient=[0, -1.25 * k, 5 * k],
            ImageOrientationPatient=[1, 0, 0, 0, 0.9701425, 0.2425356],
        )


def without_thickness(file: pydicom.Dataset) -> None:
    del file.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0].SliceThickness


def with_wrong_spacing(file: pydicom.Dataset) -> None:
    file.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0].SpacingBetweenSlices = 3.3


@pytest.mark.parametrize("change", [lambda file: None, without_thickness, with_wrong_spacing])
@pytest.mark.parametrize("tilt", [False, True])
def test_frames_lie_where_their_positions_say(tmp_path: Path, change: Any, tilt: bool) -> None:
    label = blocks((6, 20, 30), [1, 2])
    series = write_dicom_series(tmp_path / "s", picture_of(label, np.random.default_rng(0)))
    if tilt:
        tilted(series)
    path = write_dicom_seg(tmp_path / "seg.dcm", series, {"liver": label == 1, "spleen": label == 2})
    file = pydicom.dcmread(path)
    change(file)
    file.PerFrameFunctionalGroupsSequence = list(file.PerFrameFunctionalGroupsSequence)
    file.save_as(path)
    image = read_volume(tmp_path / "s")
    masks = read_segments(path, image)
    np.testing.assert_array_equal(masks["liver"], label == 1)
    np.testing.assert_array_equal(masks["spleen"], label == 2)
    for group in file.PerFrameFunctionalGroupsSequence:  # half a slice off
        x, y, z = group.PlanePositionSequence[0].ImagePositionPatient
        group.PlanePositionSequence[0].ImagePositionPatient = [x, y, z + 2.5]
    file.save_as(path)
    with pytest.raises(Unreadable, match="between those of the image"):
        read_segments(path, image)
