"""DICOM: series and multi-frame files give what was written, or a reason."""

from __future__ import annotations

import io
from pathlib import Path

import imagecodecs
import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom import DataElement

from synthfm.evaluation.formats.readers import count_frames, read_volume
from synthfm.evaluation.formats.volume import Unreadable, same_grid
from tests.support.files import (
    cut_short,
    edit_dicom,
    write_dicom_series,
    write_enhanced,
    write_picture,
)

ARRAY = np.arange(4 * 5 * 6, dtype=np.int16).reshape(4, 5, 6)


def test_a_dicom_series_is_ordered_by_position_with_slope_and_intercept(tmp_path: Path) -> None:
    names = ["c.dcm", "a.dcm", "d.dcm", "b.dcm"]  # neither the names nor the instance numbers are in order
    write_dicom_series(tmp_path / "s", ARRAY, names, slope=2.0, intercept=-1000.0, descending=True)
    volume = read_volume(tmp_path / "s")
    np.testing.assert_allclose(volume.array, 2.0 * ARRAY[::-1] - 1000.0)
    assert volume.files == ("b.dcm", "d.dcm", "a.dcm", "c.dcm")
    assert volume.spacing == pytest.approx((5.0, 1.0, 1.0))


RESCALED = pytest.mark.parametrize(
    ("slopes", "dtype"),
    [
        ([1, 0.5, 0.0013, 2.25], np.float32),
        ([0.0013, 0.5, 1, 2.25], np.float32),
        ([1, 2, 4, 100], np.int32),
        ([0.5, 0.5, 0.5, 0.5], np.float32),
    ],
    ids=str,
)


@RESCALED
@pytest.mark.parametrize("frames", [False, True])
def test_slopes_that_change_from_slice_to_slice(
    tmp_path: Path, slopes: list[float], dtype: type, frames: bool
) -> None:
    paths = write_dicom_series(tmp_path / "s", np.full((4, 5, 6), 30000))
    for k, (path, slope) in enumerate(zip(paths, slopes, strict=True)):
        edit_dicom(path, RescaleSlope=slope, RescaleIntercept=-k)
    source = write_enhanced(tmp_path / "e.dcm", paths, [2, 0, 3, 1]) if frames else tmp_path / "s"
    array = read_volume(source).array
    expected = [30000 * slope - k for k, slope in enumerate(slopes)]
    np.testing.assert_allclose(array[:, 2, 3], expected, rtol=1e-6)
    assert array.dtype == (np.float32 if frames else dtype)
    assert read_volume(paths[1]).array.dtype == (np.int32 if slopes[1] == 2 else np.float32)


@pytest.mark.parametrize(("signed", "bits"), [(0, 12), (0, 16), (1, 16)])
def test_frames_with_slopes_of_their_own_are_turned_where_dark_is_large(
    tmp_path: Path, signed: int, bits: int
) -> None:
    paths = write_dicom_series(tmp_path / "s", ARRAY)
    for k, path in enumerate(paths):
        edit_dicom(path, RescaleSlope=k + 1, PixelRepresentation=signed, BitsStored=bits, HighBit=bits - 1)
    path = write_enhanced(tmp_path / "e.dcm", paths, [1, 0, 2, 3])
    for file in (path, *paths):
        edit_dicom(file, PhotometricInterpretation="MONOCHROME1")
    np.testing.assert_array_equal(read_volume(path).array, read_volume(tmp_path / "s").array)


def test_a_slope_of_0_is_none(tmp_path: Path) -> None:
    paths = write_dicom_series(tmp_path / "s", ARRAY)
    for path in paths:
        edit_dicom(path, RescaleSlope=0, RescaleIntercept=-3)
    np.testing.assert_array_equal(read_volume(tmp_path / "s").array, ARRAY - 3)


def test_a_slice_of_another_size_is_named(tmp_path: Path) -> None:
    paths = write_dicom_series(tmp_path / "s", ARRAY)
    edit_dicom(paths[2], Rows=3, Columns=10)
    with pytest.raises(Unreadable, match=r"i0002,0000b.dcm is 3 x 10, the first slice is 5 x 6"):
        read_volume(tmp_path / "s")


def test_monochrome1_comes_out_bright_where_it_should(tmp_path: Path) -> None:
    write_dicom_series(tmp_path / "s", ARRAY, photometric="MONOCHROME1")
    for path in (tmp_path / "s", tmp_path / "s" / "i0000,0000b.dcm"):
        array = read_volume(path).array
        assert array[0, 0, 0] > array[-1, -1, -1]


COLOURS = np.zeros((2, 4, 6, 3), np.uint8)
COLOURS[1, 1, 2], COLOURS[0, 2, 3] = (255, 0, 0), (10, 10, 10)


def write_colour(path: Path, stored: np.ndarray, photometric: str = "RGB", **elements: object) -> Path:
    """A secondary capture without a position: stored (Y, X[, C]), or frames of it."""
    samples = stored.shape[-1] if stored.shape[-1] == 3 else 1
    shape = stored.shape[: -1 if samples == 3 else None]
    (source,) = write_dicom_series(path.parent / "source", np.zeros((1, *shape[-2:])))
    frames = {"NumberOfFrames": len(stored)} if len(shape) == 3 else {}
    depth = {"BitsAllocated": 8, "BitsStored": 8, "HighBit": 7, "PixelRepresentation": 0}
    colour = {"SamplesPerPixel": samples, "PhotometricInterpretation": photometric, "PlanarConfiguration": 0}
    gone = dict.fromkeys(
        ("ImagePositionPatient", "ImageOrientationPatient", "RescaleSlope", "RescaleIntercept")
    )
    edit_dicom(source, **frames, **depth, **colour, **gone, PixelData=stored.tobytes(), **elements)
    return source.rename(path)


def test_dicom_colours_are_grey_as_a_pictures_are(tmp_path: Path) -> None:
    still = read_volume(write_colour(tmp_path / "still.dcm", COLOURS[1]))
    assert still.flat
    for frame, of_picture in ((0, 10), (1, 76)):
        path = write_picture(tmp_path / f"{frame}.png", COLOURS[frame])
        assert read_volume(path).array.max() == of_picture
    cine = write_colour(tmp_path / "cine" / "cine.dcm", COLOURS)
    volume, mask = read_volume(cine), read_volume(cine.parent, mask=True)
    for frame in range(2):
        picture = tmp_path / f"{frame}.png"
        np.testing.assert_array_equal(volume.array[frame], read_volume(picture).array[0])
        np.testing.assert_array_equal(mask.array[frame], read_volume(picture, mask=True).array[0])
    np.testing.assert_array_equal(still.array[0], volume.array[1])
    assert volume.array.dtype == np.uint8
    assert mask.array.max() == 255
    assert count_frames(cine) == count_frames(cine.parent) == 2


def test_ybr_is_grey_by_its_luminance(tmp_path: Path) -> None:
    stored = np.full((4, 6, 3), 128, np.uint8)
    stored[1, 2] = (76, 85, 255)  # red
    volume = read_volume(write_colour(tmp_path / "y.dcm", stored, "YBR_FULL"))
    np.testing.assert_allclose(volume.array[0], stored[..., 0], atol=1)


def test_a_dicom_palette_is_numbers_in_a_mask_and_colours_in_an_image(tmp_path: Path) -> None:
    numbers = np.array([[0, 1, 1, 2], [2, 1, 0, 0], [0, 0, 0, 1]], np.uint8)
    table: dict[str, object] = {}
    for name, values in (("Red", (0, 200)), ("Green", (0, 0, 100)), ("Blue", ())):
        key = f"{name}PaletteColorLookupTable"
        entries = np.zeros(256, "<u2")
        entries[: len(values)] = np.array(values) * 257
        table[f"{key}Descriptor"] = DataElement(f"{key}Descriptor", "US", [256, 0, 16])
        table[f"{key}Data"] = DataElement(f"{key}Data", "OW", entries.tobytes())
    path = write_colour(tmp_path / "p.dcm", numbers, "PALETTE COLOR", **table)
    np.testing.assert_array_equal(read_volume(path, mask=True).array[0], numbers)
    assert (
        read_volume(path).array[0, 0, 1] // (257 if read_volume(path).array.dtype == np.uint16 else 1) == 60
    )


REGION = {"PhysicalDeltaX": 0.02, "PhysicalDeltaY": 0.03}
REGION |= dict.fromkeys(("PhysicalUnitsXDirection", "PhysicalUnitsYDirection"), 3)  # cm
PERCENT = {**REGION, "PhysicalUnitsXDirection": 1, "PhysicalUnitsYDirection": 1}
DOPPLER = {
    **REGION,
    "PhysicalUnitsXDirection": 4,
    "PhysicalUnitsYDirection": 7,
    "PhysicalDeltaX": 0.5,
}  # s, cm/s


@pytest.mark.parametrize(
    ("elements", "spacing"),
    [
        ({}, None),
        ({"ImagerPixelSpacing": [0.3, 0.2]}, (0.3, 0.2)),
        ({"ImagerPixelSpacing": [0.3, 0.2], "PixelSpacing": [0.4, 0.5]}, (0.4, 0.5)),
        ({"PixelSpacing": [0, 0]}, None),
        ({"SequenceOfUltrasoundRegions": [REGION]}, (0.3, 0.2)),
        ({"SequenceOfUltrasoundRegions": [REGION, REGION, DOPPLER]}, (0.3, 0.2)),
        ({"SequenceOfUltrasoundRegions": [REGION, {**REGION, "PhysicalDeltaY": 0.02}]}, None),
        ({"SequenceOfUltrasoundRegions": [DOPPLER]}, None),
        ({"SequenceOfUltrasoundRegions": [PERCENT]}, None),
    ],
)
def test_a_projection_has_the_spacing_that_its_header_says(
    tmp_path: Path, elements: dict, spacing: tuple[float, float] | None
) -> None:
    path = write_dicom_series(tmp_path / "s", ARRAY[:1])[0]
    nowhere = {"PixelSpacing": None, "ImagePositionPatient": None, "ImageOrientationPatient": None}
    edit_dicom(path, **{**nowhere, **elements})
    volume = read_volume(path)
    assert volume.direction is None
    assert volume.origin is None
    assert (volume.spacing and volume.spacing[1:]) == (spacing and pytest.approx(spacing))


def test_a_series_without_pixel_spacing_has_none(tmp_path: Path) -> None:
    for path in write_dicom_series(tmp_path / "s", ARRAY):
        edit_dicom(path, PixelSpacing=None)
    volume = read_volume(tmp_path / "s")
    assert volume.spacing is None
    np.testing.assert_array_equal(volume.direction, np.eye(3))


def test_two_images_at_one_position_are_refused(tmp_path: Path) -> None:
    paths = write_dicom_series(tmp_path / "s", ARRAY)
    (tmp_path / "s" / "copy.dcm").write_bytes(paths[1].read_bytes())
    with pytest.raises(Unreadable, match="same position"):
        read_volume(tmp_path / "s")


@pytest.mark.parametrize("missing", [[1], [3], [10], [4, 5]], ids=str)
@pytest.mark.parametrize("descending", [False, True])
def test_a_series_without_one_of_its_slices_is_refused(
    tmp_path: Path, missing: list[int], descending: bool
) -> None:
    paths = write_dicom_series(tmp_path / "s", np.zeros((12, 5, 6)), descending=descending)
    for k in missing:
        paths[k].unlink()
    pair = [paths[missing[0] - 1].name, paths[missing[-1] + 1].name][:: -1 if descending else 1]
    with pytest.raises(Unreadable) as error:
        read_volume(tmp_path / "s")
    gap = 5 * (len(missing) + 1)
    assert f"{pair[0]} and {pair[1]} lie {gap} mm apart, the other slices 5 mm" in str(error.value)


@pytest.mark.parametrize(
    ("depths", "fits"),
    [
        ([0, 5, 15], False),  # two gaps: the larger is the odd one
        ([0, 10, 20, 25, 30, 40, 50], False),  # one slice too many
        ([0, 5, 10.1, 14.9, 20], True),  # rounded, or a table that is not quite even
        ([0, 5, 10, 17, 24], True),  # spaced so on purpose
    ],
)
def test_slices_may_be_spaced_a_little_unevenly(tmp_path: Path, depths: list[float], fits: bool) -> None:
    paths = write_dicom_series(tmp_path / "s", np.arange(len(depths) * 30).reshape(-1, 5, 6))
    for path, depth in zip(paths, depths, strict=True):
        edit_dicom(path, ImagePositionPatient=[0, 0, depth])
    if fits:
        assert read_volume(tmp_path / "s").array.shape == (len(depths), 5, 6)
    else:
        with pytest.raises(Unreadable, match="expected even spacing"):
            read_volume(tmp_path / "s")


def test_two_series_in_a_folder_are_refused_and_listed(tmp_path: Path) -> None:
    for path in write_dicom_series(tmp_path / "s", ARRAY):
        edit_dicom(path, SeriesDescription="T1 axial")
    other = write_dicom_series(tmp_path / "t", ARRAY)
    (tmp_path / "s" / "other.dcm").write_bytes(other[0].read_bytes())
    with pytest.raises(Unreadable) as error:
        read_volume(tmp_path / "s")
    assert str(error.value) == "2 DICOM series in one folder; expected one: T1 axial (4 files), CT (1 file)"


def test_a_dicomdir_beside_the_slices_is_left_alone(tmp_path: Path) -> None:
    write_dicom_series(tmp_path / "s", ARRAY)
    directory = pydicom.dcmread(next((tmp_path / "s").iterdir()))
    del directory.PixelData, directory.SeriesInstanceUID
    directory.file_meta.MediaStorageSOPClassUID = directory.SOPClassUID = "1.2.840.10008.1.3.10"
    directory.save_as(tmp_path / "s" / "DICOMDIR")
    assert len(read_volume(tmp_path / "s").array) == len(ARRAY)


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        (
            "1.2.840.10008.5.1.4.1.1.481.3",
            r"holds contours \(RTSTRUCT\), which are not supported; .*DICOM-SEG",
        ),
        ("1.2.840.10008.5.1.4.1.1.88.11", r"holds no pixels \(Basic Text SR Storage\)"),
    ],
)
@pytest.mark.parametrize("folder", [False, True])
def test_dicom_without_pixels_is_told_for_what_it_is(
    tmp_path: Path, kind: str, reason: str, folder: bool
) -> None:
    first, second = write_dicom_series(tmp_path / "s", ARRAY[:2])
    edit_dicom(second, Rows=None, Columns=None, PixelData=None, SOPClassUID=kind)
    with pytest.raises(Unreadable, match=f"{second.name} {reason}" if folder else f"^{reason}"):
        read_volume(tmp_path / "s" if folder else second)
    assert read_volume(first).flat


@pytest.mark.parametrize("bare", [132, None], ids=["no preamble", "no meta information"])
def test_a_slice_without_a_preamble_is_read_as_the_others(tmp_path: Path, bare: int | None) -> None:
    paths = write_dicom_series(tmp_path / "s", ARRAY, ["1", "2", "3", "4"])
    content = paths[-1].read_bytes()
    start = bare or 144 + int.from_bytes(content[140:144], "little")  # after the group length, all of group 2
    paths[-1].write_bytes(content[start:])
    np.testing.assert_array_equal(read_volume(tmp_path / "s").array, ARRAY)
    (tmp_path / "s" / "notes").write_bytes(b"text " * 99)
    assert len(read_volume(tmp_path / "s").files) == 4


def test_a_file_that_is_no_dicom_is_told_so(tmp_path: Path) -> None:
    (tmp_path / "a.dcm").write_bytes(b"text " * 99)
    with pytest.raises(Unreadable, match="is no DICOM file: the mark DICM"):
        read_volume(tmp_path / "a.dcm")


@pytest.mark.parametrize("order", [[0, 1, 2, 3], [3, 2, 1, 0], [2, 0, 3, 1]], ids=str)
def test_frames_are_ordered_by_position_and_keep_their_geometry(tmp_path: Path, order: list[int]) -> None:
    series = write_dicom_series(tmp_path / "s", ARRAY, spacing=(3.0, 0.75, 0.5), slope=2.0, intercept=-9.0)
    for k, path in enumerate(series):  # coronal, from the back to the front
        edit_dicom(path, ImageOrientationPatient=[1, 0, 0, 0, 0, -1], ImagePositionPatient=[10, -3 * k, 30])
    volume = read_volume(write_enhanced(tmp_path / "e.dcm", series, order))
    np.testing.assert_array_equal(volume.array, 2 * ARRAY[::-1] - 9)
    assert volume.spacing == pytest.approx((3.0, 0.75, 0.5))
    np.testing.assert_allclose(volume.direction, [[1, 0, 0], [0, 0, 1], [0, -1, 0]])
    np.testing.assert_allclose(volume.origin, [10, -9, 30])
    assert sorted(volume.files) == [volume.files[3 - k] for k in order]  # the names tell the file's order
    same = read_volume(tmp_path / "s")
    np.testing.assert_array_equal(volume.array, same.array)
    assert same_grid(volume, same, strict=True) is None


@pytest.mark.parametrize("slope", [1, 2])
def test_frames_that_the_header_does_not_describe_are_refused(tmp_path: Path, slope: int) -> None:
    series = write_dicom_series(tmp_path / "s", ARRAY)
    edit_dicom(series[0], RescaleSlope=slope)
    path = write_enhanced(tmp_path / "e.dcm", series, [0, 1, 2, 3])
    edit_dicom(path, NumberOfFrames=3, PixelData=ARRAY[:3].astype("<i2").tobytes())
    with pytest.raises(Unreadable, match="holds 3 frames, its header describes 4"):
        read_volume(path)


def test_frames_without_positions_stay_as_they_are(tmp_path: Path) -> None:
    path = write_dicom_series(tmp_path / "s", ARRAY.reshape(1, 20, 6))[0]
    edit_dicom(path, Rows=5, NumberOfFrames=4, ImagePositionPatient=None, ImageOrientationPatient=None)
    volume = read_volume(path)
    np.testing.assert_array_equal(volume.array, ARRAY)
    assert volume.direction is None
    assert len(read_volume(tmp_path / "s").files) == 4


def test_a_multi_frame_image_without_one_of_its_slices_is_refused(tmp_path: Path) -> None:
    series = write_dicom_series(tmp_path / "s", np.zeros((6, 5, 6)))
    path = write_enhanced(tmp_path / "e.dcm", series[:2] + series[3:], [0, 3, 1, 2, 4])
    with pytest.raises(Unreadable, match=r"e.dcm frame 3 and e.dcm frame 4 lie 10 mm apart"):
        read_volume(path)


def test_slices_of_different_orientation_are_refused(tmp_path: Path) -> None:
    paths = write_dicom_series(tmp_path / "s", ARRAY)
    edit_dicom(paths[2], ImageOrientationPatient=[1, 0, 0, 0, 0.995, 0.0998])
    with pytest.raises(Unreadable, match="different orientations"):
        read_volume(tmp_path / "s")


@pytest.mark.parametrize("part", [0.2, 0.8])
def test_a_truncated_slice_of_a_series_is_named(tmp_path: Path, part: float) -> None:
    paths = write_dicom_series(tmp_path / "s", np.random.default_rng(0).integers(0, 99, (4, 30, 30)))
    cut_short(paths[2], part)
    with pytest.raises(Unreadable, match="i0002"):
        read_volume(tmp_path / "s")


def test_fewer_pixels_than_the_header_says_are_no_image(tmp_path: Path) -> None:
    paths = write_dicom_series(tmp_path / "s", ARRAY)
    edit_dicom(paths[1], PixelData=ARRAY[1].tobytes()[:20])
    for path in (paths[1], tmp_path / "s"):
        with pytest.raises(Unreadable, match=r"its pixels cannot be read: .*bytes"):
            read_volume(path)


@pytest.mark.parametrize("entries", [16, 8])
def test_a_modality_lut_takes_the_place_of_slope_and_intercept(tmp_path: Path, entries: int) -> None:
    stored = np.arange(30, dtype=np.uint8).reshape(5, 6)
    path = write_colour(tmp_path / "l.dcm", stored, "MONOCHROME2")
    item = pydicom.Dataset()
    item.add(DataElement("LUTDescriptor", "US", [30, 0, entries]))
    item.add(DataElement("LUTData", "US", [200 - 3 * value for value in range(30)]))
    item.ModalityLUTType = "US"
    file = pydicom.dcmread(path)
    file.ModalityLUTSequence = [item]
    file.save_as(path)
    found = read_volume(path).array[0]
    np.testing.assert_array_equal(found, 200 - 3 * stored.astype(int))
    assert found.dtype == np.uint8


@pytest.mark.parametrize(
    ("signed", "padding", "limit", "least"),
    [
        (0, 65535, None, 0),
        (1, -32768, None, 0),
        (1, 32768, None, 0),
        (1, -32768, -30000, 0),
        (1, -32768, None, -9),
    ],
)
def test_what_pads_an_image_is_no_value_of_it(
    tmp_path: Path, signed: int, padding: int, limit: int | None, least: int
) -> None:
    values = np.arange(4 * 30).reshape(4, 5, 6) + least
    stored = values.copy()
    stored[:, 0, :3] = padding if padding < 32768 or not signed else padding - 65536
    if limit is not None:
        stored[:, 0, 0] = limit
    kind = {"PixelRepresentation": signed, "RescaleSlope": None, "RescaleIntercept": None}
    for k, path in enumerate(write_dicom_series(tmp_path / "s", np.zeros(values.shape))):
        edit_dicom(path, **kind, PixelData=stored[k].astype("<i2" if signed else "<u2").tobytes())
        file = pydicom.dcmread(path)
        name = "SS" if signed and padding < 0 else "US"
        file.add(DataElement("PixelPaddingValue", name, padding))
        if limit is not None:
            file.add(DataElement("PixelPaddingRangeLimit", name, limit))
        file.save_as(path)
    found = read_volume(tmp_path / "s").array
    values[:, 0, :3] = 0
    real = found.copy()
    real[:, 0, :3] = 0
    np.testing.assert_array_equal(real, values)
    assert found[:, 0, :3].min() >= min(least, 0)
    assert found[:, 0, :3].max() <= 0


def write_jpeg(path: Path, shown: np.ndarray, mode: str) -> Path:
    """A secondary capture packed as JPEG, its header saying RGB whatever the stream holds."""
    packed = io.BytesIO()
    Image.fromarray(shown).save(packed, "JPEG", quality=95, **({"keep_rgb": True} if mode == "RGB" else {}))
    write_colour(path, shown)
    file = pydicom.dcmread(path)
    file.PixelData = pydicom.encaps.encapsulate([packed.getvalue()])
    file["PixelData"].VR = "OB"
    file.file_meta.TransferSyntaxUID = pydicom.uid.JPEGBaseline8Bit
    file.save_as(path)
    return path


@pytest.mark.parametrize("mode", ["RGB", "YCbCr"])
def test_a_jpeg_is_of_the_colours_that_its_stream_says(tmp_path: Path, mode: str) -> None:
    shown = np.zeros((32, 48, 3), np.uint8)
    shown[8:24, 8:32] = (200, 40, 0)
    found = read_volume(write_jpeg(tmp_path / "j.dcm", shown, mode)).array[0].astype(int)
    expected = np.rint(shown @ [0.299, 0.587, 0.114])
    assert np.abs(found - expected).mean() < 2


def test_a_frame_of_a_cine_is_one_image_and_slices_are_no_frames(tmp_path: Path) -> None:
    cine = write_colour(tmp_path / "c" / "c.dcm", COLOURS)
    for path in (cine, cine.parent):
        volume = read_volume(path, frame=1)
        assert volume.flat
        np.testing.assert_array_equal(volume.array[0], read_volume(cine).array[1])
    with pytest.raises(Unreadable, match="frame 2 does not exist; the file has 2"):
        read_volume(cine, frame=2)
    series = write_dicom_series(tmp_path / "s", ARRAY)
    several = write_enhanced(tmp_path / "e.dcm", series, [0, 1, 2, 3])
    for path in (tmp_path / "s", several):
        assert count_frames(path) == 1
        with pytest.raises(Unreadable, match=r"4 slices, which image\.frame does not apply to"):
            read_volume(path, frame=1)


def test_slices_of_two_sizes_of_pixels_are_refused(tmp_path: Path) -> None:
    paths = write_dicom_series(tmp_path / "s", ARRAY)
    edit_dicom(paths[2], PixelSpacing=[1.0, 1.004])
    read_volume(tmp_path / "s")
    for other in ([0.9, 0.9], None):
        edit_dicom(paths[2], PixelSpacing=other)
        with pytest.raises(Unreadable, match=r"different sizes of pixels \(PixelSpacing\)"):
            read_volume(tmp_path / "s")


def test_an_element_of_an_unknown_kind_costs_nothing(tmp_path: Path) -> None:
    paths = write_dicom_series(tmp_path / "s", ARRAY)
    content = paths[0].read_bytes()
    at = content.index(b"\x10\0\x10\0PN")  # PatientName
    paths[0].write_bytes(content[: at + 4] + b"ZZ" + content[at + 6 :])
    np.testing.assert_array_equal(read_volume(tmp_path / "s").array, ARRAY)


@pytest.mark.parametrize(
    ("before", "value"),
    [
        (b"\x10\0\x10\0PN", b"a value of a kind to come"),
        (b"\x28\0\x10\0US", b""),
        (b"\x28\0\x10\0US", b"\x28\0\x10\0US\x02\0\x01\0ROWS"),
        (b"\xe0\x7f\x10\0O", b"\0" * 70_000),
    ],
)
def test_an_element_of_an_unknown_kind_with_a_long_length_costs_nothing(
    tmp_path: Path, before: bytes, value: bytes
) -> None:
    paths = write_dicom_series(tmp_path / "s", ARRAY)
    plain = read_volume(tmp_path / "s")
    for path in paths[:2]:
        content = path.read_bytes()
        at = content.index(before)
        group, element = content[at : at + 2], b"\x0f\0"
        added = [group, element, b"ZZ\0\0", len(value).to_bytes(4, "little"), value]
        path.write_bytes(content[:at] + b"".join(added) + content[at:])
    found = read_volume(tmp_path / "s")
    np.testing.assert_array_equal(found.array, ARRAY)
    assert found.spacing == plain.spacing
    np.testing.assert_array_equal(found.origin, plain.origin)


def test_bits_beside_the_values_are_no_part_of_them(tmp_path: Path) -> None:
    paths = write_dicom_series(tmp_path / "s", ARRAY | 0x7000)  # an overlay in the upper bits
    for path in paths:
        edit_dicom(path, BitsStored=12, HighBit=11)
    np.testing.assert_array_equal(read_volume(tmp_path / "s").array, ARRAY)


@pytest.mark.parametrize("packing", ["JPEGLSLossless", "JPEGLosslessSV1", "JPEG2000Lossless"])
def test_what_packs_the_pixels_is_of_no_matter(tmp_path: Path, packing: str) -> None:
    pack = {
        "JPEGLSLossless": imagecodecs.jpegls_encode,
        "JPEGLosslessSV1": lambda values: imagecodecs.ljpeg_encode(values, bitspersample=16),
        "JPEG2000Lossless": lambda values: imagecodecs.jpeg2k_encode(values, level=0, codecformat="j2k"),
    }[packing]
    values = np.random.default_rng(0).integers(0, 900, (3, 30, 40)).astype(np.uint16)
    paths = write_dicom_series(tmp_path / "s", values, slope=2, intercept=-9)
    for path, part in zip(paths, values, strict=True):
        file = pydicom.dcmread(path)
        file.PixelRepresentation, file.PixelData = 0, pydicom.encaps.encapsulate([pack(part)])
        file["PixelData"].VR = "OB"
        file.file_meta.TransferSyntaxUID = getattr(pydicom.uid, packing)
        file.save_as(path)
    np.testing.assert_array_equal(read_volume(tmp_path / "s").array, 2 * values.astype(int) - 9)
    cut_short(paths[2], 0.6)
    with pytest.raises(Unreadable, match="i0002"):
        read_volume(tmp_path / "s")
