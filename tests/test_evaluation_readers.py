"""Readers: every format gives the array, spacing and orientation that were written, or a reason."""

from __future__ import annotations

import gzip
from pathlib import Path

import h5py
import numpy as np
import pytest
import SimpleITK as sitk
import tifffile
from evaluation_files import (
    blocks,
    cut_short,
    edit_dicom,
    picture_of,
    write_dicom_seg,
    write_dicom_series,
    write_enhanced,
    write_itk,
    write_picture,
)
from PIL import Image
from pydicom import DataElement

from evaluation.dicom import read_segments
from evaluation.masks import fill_outline
from evaluation.readers import count_frames, read_volume
from evaluation.volume import Unreadable, Volume, radiological, same_grid

ARRAY = np.arange(4 * 5 * 6, dtype=np.int16).reshape(4, 5, 6)


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".mha", ".mhd", ".nrrd", ".nhdr", ".hdr"])
def test_volumes_keep_values_and_geometry(tmp_path: Path, suffix: str) -> None:
    volume = read_volume(
        write_itk(tmp_path / f"v{suffix}", ARRAY, (0.5, 0.75, 3.0), origin=(10.0, -20.0, 30.0))
    )
    np.testing.assert_array_equal(volume.array, ARRAY)
    assert volume.spacing == pytest.approx((3.0, 0.75, 0.5))
    np.testing.assert_allclose(volume.direction, np.eye(3), atol=1e-6)
    np.testing.assert_allclose(volume.origin, (10.0, -20.0, 30.0), atol=1e-4)
    assert not volume.flat


def test_a_picture_is_grey_and_flat(tmp_path: Path) -> None:
    colours = np.zeros((4, 6, 3), np.uint8)
    colours[1, 2] = (255, 0, 0)
    colours[2, 3] = (10, 10, 10)
    path = write_picture(tmp_path / "c.png", colours)
    image = read_volume(path)
    assert image.flat
    assert image.array.shape == (1, 4, 6)
    assert image.array[0, 1, 2] == 76  # ITU-R BT.601: 0.299 of red
    assert image.array[0, 2, 3] == 10
    assert read_volume(path, mask=True).array[0, 1, 2] == 255


def test_an_opaque_alpha_channel_is_no_mask(tmp_path: Path) -> None:
    colours = np.zeros((4, 6, 4), np.uint8)
    colours[..., 3] = 255
    assert not read_volume(write_picture(tmp_path / "a.png", colours), mask=True).array.any()


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".gif"])
def test_a_palette_is_numbers_in_a_mask_and_colours_in_an_image(tmp_path: Path, suffix: str) -> None:
    from PIL import Image

    numbers = np.array([[0, 1], [2, 1]], np.uint8)
    picture = Image.fromarray(numbers)
    picture.putpalette([0, 0, 0, 200, 0, 0, 0, 100, 0])
    picture.save(tmp_path / f"p{suffix}")
    np.testing.assert_array_equal(read_volume(tmp_path / f"p{suffix}", mask=True).array[0], numbers)
    assert read_volume(tmp_path / f"p{suffix}").array[0, 0, 1] == 60  # 0.299 of red


@pytest.mark.parametrize(
    ("shape", "own", "given", "frames"),
    [((3, 4, 5, 6), "TZYX", None, 3), ((4, 5, 6), "ZYX", None, 1), ((3, 4, 5, 6), None, "tzyx", 3),
     ((3, 5, 6), "TYX", None, 3), ((5, 6, 3), "YXS", None, 1)],
)  # fmt: skip
def test_the_frames_of_a_tiff_are_those_of_its_axes(
    tmp_path: Path, shape: tuple[int, ...], own: str | None, given: str | None, frames: int
) -> None:
    values = np.random.default_rng(0).integers(0, 255, shape).astype(np.uint8)
    photometric = "rgb" if own == "YXS" else "minisblack"
    metadata = {"axes": own} if own else {}
    tifffile.imwrite(tmp_path / "f.tif", values, photometric=photometric, metadata=metadata)
    assert count_frames(tmp_path / "f.tif", axes=given) == frames
    if frames > 1:
        last = read_volume(tmp_path / "f.tif", axes=given, frame=frames - 1)
        np.testing.assert_array_equal(last.array.reshape(values[-1].shape), values[-1])


def test_frames_cannot_be_counted_on_axes_that_a_file_does_not_have(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "f.tif", ARRAY, photometric="minisblack")
    np.savez(tmp_path / "f.npz", image=ARRAY)
    for name in ("f.tif", "f.npz"):
        with pytest.raises(Unreadable, match="does not have the axes 'tzyx'"):
            count_frames(tmp_path / name, axes="tzyx")


def test_tiff_pages_are_slices(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "s.tif", ARRAY, photometric="minisblack")
    volume = read_volume(tmp_path / "s.tif")
    np.testing.assert_array_equal(volume.array, ARRAY)


def test_npz_and_hdf5_by_name_and_axes(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", image=ARRAY.transpose(2, 1, 0), other=np.zeros(3))
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["group/image"] = np.stack([ARRAY, ARRAY + 1])
    npz = read_volume(tmp_path / "a.npz", key="image", axes="xyz")
    np.testing.assert_array_equal(npz.array, ARRAY)
    hdf5 = read_volume(tmp_path / "a.h5", key="group/image", axes="tzyx", frame=1)
    np.testing.assert_array_equal(hdf5.array, ARRAY + 1)
    with pytest.raises(Unreadable, match=r"'key'.*image, other"):
        read_volume(tmp_path / "a.npz")
    with pytest.raises(Unreadable, match="frame 2 does not exist"):
        read_volume(tmp_path / "a.h5", axes="tzyx", frame=2)


def test_a_frame_of_a_4d_file(tmp_path: Path) -> None:
    path = write_itk(tmp_path / "4d.nii.gz", np.stack([ARRAY, ARRAY + 100]), (1.0, 1.0, 4.0, 1.0))
    np.testing.assert_array_equal(read_volume(path, frame=1).array, ARRAY + 100)
    with pytest.raises(Unreadable, match="4-D with 2 frames"):
        read_volume(path)


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


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".mha", ".nrrd", ".hdr"])
@pytest.mark.parametrize("frame", [None, 1])
def test_nan_voxels_stay_nan(tmp_path: Path, suffix: str, frame: int | None) -> None:
    values = ARRAY.astype("float32")
    values[2, 3, 4], values[0, 0, 0] = np.nan, np.inf
    stored = values if frame is None else np.stack([np.zeros_like(values), values])
    volume = read_volume(write_itk(tmp_path / f"v{suffix}", stored), frame=frame)
    np.testing.assert_array_equal(np.argwhere(~np.isfinite(volume.array)), [[0, 0, 0], [2, 3, 4]])


@pytest.mark.parametrize("lost", [0, 1, 2])
@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_nan_in_one_frame_stays_in_that_frame(tmp_path: Path, suffix: str, lost: int) -> None:
    values = np.stack([ARRAY] * 3).astype("float32")
    values[lost, 2, 3, 4] = np.nan
    path = write_itk(tmp_path / f"v{suffix}", values)
    found = [np.argwhere(np.isnan(read_volume(path, frame=frame).array)).tolist() for frame in range(3)]
    assert found == [[[2, 3, 4]] if frame == lost else [] for frame in range(3)]


def test_nan_in_a_3d_mask_of_a_4d_image_is_seen(tmp_path: Path) -> None:
    values = ARRAY.astype("float32")
    values[2, 3, 4] = np.nan
    volume = read_volume(write_itk(tmp_path / "m.nii.gz", values), frame=1, mask=True)
    np.testing.assert_array_equal(np.argwhere(np.isnan(volume.array)), [[2, 3, 4]])


def test_text_in_hdf5_is_unreadable_with_what_it_is(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["image"] = "a liver"
    for read in (read_volume, count_frames):
        with pytest.raises(Unreadable, match="expected numbers"):
            read(tmp_path / "a.h5")


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".bmp", ".gif"])
def test_a_picture_that_is_none_is_told_in_plain_words(tmp_path: Path, suffix: str) -> None:
    (tmp_path / f"v{suffix}").write_bytes(b"hello world")
    with pytest.raises(Unreadable) as error:
        read_volume(tmp_path / f"v{suffix}")
    assert str(error.value) == f"cannot be read as a picture: damaged, or no {suffix} file"


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
    assert count_frames(cine) == count_frames(cine.parent) == 1


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


@pytest.mark.parametrize(
    ("name", "line", "spacing"),
    [
        ("v.mhd", "", None),
        ("v.mhd", "ElementSpacing = 2 3 4\n", (4, 3, 2)),
        ("v.mhd", "ElementSize = 2 3 4\n", (4, 3, 2)),
        ("v.nhdr", "", None),
        ("v.nhdr", "spacings: nan nan nan\n", None),
        ("v.nhdr", "spacings: 2 3 4\n", (4, 3, 2)),
        ("v.nhdr", "space dimension: 3\nspace directions: (2,0,0) (0,3,0) (0,0,4)\n", (4, 3, 2)),
    ],
)
def test_spacing_that_a_header_does_not_state_is_unknown(
    tmp_path: Path, name: str, line: str, spacing: tuple[float, ...] | None
) -> None:
    ARRAY.tofile(tmp_path / "v.raw")
    if name == "v.mhd":
        text = f"ObjectType = Image\nNDims = 3\nDimSize = 6 5 4\n{line}ElementType = MET_SHORT\n"
        text += "ElementDataFile = v.raw\n"
    else:
        text = f"NRRD0004\ntype: short\ndimension: 3\nsizes: 6 5 4\n{line}endian: little\nencoding: raw\n"
        text += "data file: v.raw\n"
    (tmp_path / name).write_text(text)
    volume = read_volume(tmp_path / name)
    np.testing.assert_array_equal(volume.array, ARRAY)
    assert volume.spacing == spacing
    if spacing is None:  # what else is known still counts
        assert "orientation" in (
            same_grid(volume, Volume(ARRAY, direction=np.diag([-1, -1, 1])), strict=True) or ""
        )


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
    apart = 5 * (len(missing) + 1)
    assert f"{pair[0]} and {pair[1]} lie {apart} mm apart, the other slices 5 mm" in str(error.value)


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


def test_a_file_without_the_mark_of_dicom_is_told_so(tmp_path: Path) -> None:
    (path,) = write_dicom_series(tmp_path / "s", ARRAY[:1])
    path.write_bytes(path.read_bytes()[132:])
    with pytest.raises(Unreadable, match="is no DICOM file: the mark DICM"):
        read_volume(path)


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


FRAMES = pytest.mark.parametrize("order", [[0, 1, 2, 3], [3, 2, 1, 0], [2, 0, 3, 1]], ids=str)


@FRAMES
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


@FRAMES
def test_dicom_seg_lies_on_a_multi_frame_image(tmp_path: Path, order: list[int]) -> None:
    label = blocks((4, 20, 30), [1, 2])
    series = write_dicom_series(tmp_path / "s", picture_of(label, np.random.default_rng(0)))
    path = write_enhanced(tmp_path / "e.dcm", series, order)
    seg = write_dicom_seg(tmp_path / "seg.dcm", [path], {"liver": label[order] == 1})
    image = read_volume(path)
    np.testing.assert_array_equal(read_segments(seg, image)["liver"], label == 1)


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
    series = write_dicom_series(tmp_path / "s", ARRAY[:3, :4, :5])
    path = write_dicom_seg(tmp_path / "seg.dcm", series, {"liver": share}, "FRACTIONAL")
    np.testing.assert_array_equal(read_segments(path, read_volume(tmp_path / "s"))[1], share > 0.5)


def test_slices_of_different_orientation_are_refused(tmp_path: Path) -> None:
    paths = write_dicom_series(tmp_path / "s", ARRAY)
    edit_dicom(paths[2], ImageOrientationPatient=[1, 0, 0, 0, 0.995, 0.0998])
    with pytest.raises(Unreadable, match="different orientations"):
        read_volume(tmp_path / "s")


@pytest.mark.parametrize(
    ("shift", "fits"),
    [
        ((0.4, 0, 0), True),
        ((1.0, 0, 0), False),
        ((0, 1.0, 0), False),
        ((0, 0, 1.0), True),
        ((0, 0, 2.0), False),
    ],
)
@pytest.mark.parametrize("code", ["LPS", "PSR"])
def test_an_origin_may_lie_half_a_voxel_off_along_each_axis(
    code: str, shift: tuple[float, float, float], fits: bool
) -> None:
    """The shift is along the file's own x, y, z, with voxels of 1, 1 and 3 mm."""
    import SimpleITK as sitk

    direction = np.reshape(sitk.DICOMOrientImageFilter.GetDirectionCosinesFromOrientation(code), (3, 3))
    image = Volume(ARRAY, (3.0, 1.0, 1.0), direction, np.array([5.0, 6.0, 7.0]))
    mask = Volume(ARRAY, (3.0, 1.0, 1.0), direction, np.array([5.0, 6.0, 7.0]) + direction @ shift)
    assert (same_grid(image, mask, strict=True) is None) == fits


@pytest.mark.parametrize("code", ["LPS", "RAS", "PSR", "ASL", "IRP"])
def test_radiological_view_is_the_same_for_every_storage_order(tmp_path: Path, code: str) -> None:
    """One patient, stored in different orders, looks the same: superior last, posterior down, left right."""
    import SimpleITK as sitk

    reference = sitk.GetImageFromArray(ARRAY)  # identity direction: LPS
    stored = sitk.DICOMOrient(reference, code)
    sitk.WriteImage(stored, str(tmp_path / "v.nii.gz"))
    volume = read_volume(tmp_path / "v.nii.gz")
    turned, _ = radiological(volume, volume.array)
    np.testing.assert_array_equal(turned, ARRAY)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("v.nii.gz", b""),
        ("v.nii.gz", b"no gzip at all"),
        ("v.nii", b"x" * 1000),
        ("v.png", b"\x89PNG\r\n\x1a\nrubbish"),
        ("v.npz", b"rubbish"),
        ("v.h5", b"rubbish"),
        ("v.nrrd", b"NRRD0004\nrubbish\n\n"),
        ("v.mha", b"rubbish"),
        ("v.dcm", b"\0" * 128 + b"DICM" + b"rubbish"),
        ("v.txt", b"text"),
    ],
)
def test_rubbish_is_unreadable_with_a_reason(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(Unreadable, match=r"\w+"):
        read_volume(tmp_path / name)


@pytest.mark.parametrize("part", [0.3, 0.7, 0.97])
@pytest.mark.parametrize(
    "suffix", [".nii.gz", ".nii", ".mha", ".nrrd", ".png", ".tif", ".npz", ".h5", ".jpg"]
)
def test_a_truncated_file_is_never_read_as_whole(tmp_path: Path, suffix: str, part: float) -> None:
    rng = np.random.default_rng(0)
    path = tmp_path / f"v{suffix}"
    values = rng.integers(0, 255, (6, 40, 50)).astype(np.uint8)
    if suffix in (".png", ".tif", ".jpg"):
        write_picture(path, values[0])
    elif suffix == ".npz":
        np.savez(path, image=values)
    elif suffix == ".h5":
        with h5py.File(path, "w") as file:
            file["image"] = values
    else:
        write_itk(path, values)
    read_volume(path)
    cut_short(path, part)
    with pytest.raises(Unreadable):
        read_volume(path)


@pytest.mark.parametrize("kind", ["<i2", "<f4"])
@pytest.mark.parametrize("suffix", [".img", ".img.gz"])
def test_a_header_without_all_of_its_voxels_is_never_read_as_whole(
    tmp_path: Path, kind: str, suffix: str
) -> None:
    path = write_itk(tmp_path / "v.hdr", ARRAY.astype(kind))
    image = tmp_path / f"v{suffix}"
    if suffix == ".img.gz":
        image.write_bytes(gzip.compress((tmp_path / "v.img").read_bytes()))
        (tmp_path / "v.img").unlink()
    np.testing.assert_array_equal(read_volume(path).array, ARRAY)
    cut_short(image, 0.4)
    with pytest.raises(Unreadable, match="truncated"):
        read_volume(path)
    image.unlink()
    with pytest.raises(Unreadable, match=r"no v\.img with its voxels"):
        read_volume(path)


@pytest.mark.parametrize("part", [0.2, 0.8])
def test_a_truncated_slice_of_a_series_is_named(tmp_path: Path, part: float) -> None:
    paths = write_dicom_series(tmp_path / "s", np.random.default_rng(0).integers(0, 99, (4, 30, 30)))
    cut_short(paths[2], part)
    with pytest.raises(Unreadable, match="i0002"):
        read_volume(tmp_path / "s")


def test_a_mhd_without_its_raw_file_is_unreadable(tmp_path: Path) -> None:
    write_itk(tmp_path / "v.mhd", ARRAY)
    for path in tmp_path.glob("*raw*"):
        path.unlink()
    with pytest.raises(Unreadable):
        read_volume(tmp_path / "v.mhd")


def test_grids_that_differ_are_told_apart(tmp_path: Path) -> None:
    image = read_volume(write_itk(tmp_path / "i.nii.gz", ARRAY, (1.0, 1.0, 3.0)))
    same = read_volume(write_itk(tmp_path / "s.nii.gz", ARRAY, (1.0, 1.0, 3.0)))
    assert same_grid(image, same, strict=True) is None
    thick = read_volume(write_itk(tmp_path / "t.nii.gz", ARRAY, (1.0, 1.0, 5.0)))
    assert "spacing" in (same_grid(image, thick, strict=True) or "")
    assert same_grid(image, thick, strict=False) is None
    turned = read_volume(write_itk(tmp_path / "r.nii.gz", ARRAY, (1.0, 1.0, 3.0), "RPS"))
    assert "orientation" in (same_grid(image, turned, strict=True) or "")
    moved = read_volume(write_itk(tmp_path / "m.nii.gz", ARRAY, (1.0, 1.0, 3.0), origin=(0.0, 4.0, 0.0)))
    assert "4.0 mm" in (same_grid(image, moved, strict=True) or "")
    bare = Volume(ARRAY)  # an array without a word on how it lies
    assert "the mask does not say how it lies" in (same_grid(image, bare, strict=True) or "")
    assert "the image does not say how it lies" in (same_grid(bare, image, strict=True) or "")
    assert same_grid(image, bare, strict=False) is None
    slices = read_volume(write_itk(tmp_path / "1.nii.gz", ARRAY[:1])), Volume(ARRAY[:1], flat=True)
    assert same_grid(*slices, strict=True) is None
    small = read_volume(write_itk(tmp_path / "x.nii.gz", ARRAY[:, :-1], (1.0, 1.0, 3.0)))
    assert "4 x 4 x 6 differs from the image's 4 x 5 x 6" in (same_grid(image, small, strict=False) or "")


def _disc(radius: float, centre: tuple[float, float] = (40.0, 40.0)) -> np.ndarray:
    y, x = np.mgrid[:80, :80]
    return np.hypot(y - centre[0], x - centre[1]) <= radius


@pytest.mark.parametrize("centre", [(40.0, 40.0), (10.0, 40.0), (40.0, 70.0)], ids=["inside", "top", "right"])
def test_outlines_are_filled_even_where_the_frame_cuts_them(centre: tuple[float, float]) -> None:
    disc = _disc(25, centre)
    outline = disc & ~_disc(23, centre)
    filled = fill_outline(outline[None])[0]
    assert np.count_nonzero(filled ^ disc) <= 0.02 * disc.sum()


def test_an_outline_with_a_small_gap_is_closed() -> None:
    outline = _disc(25) & ~_disc(22)
    outline[40, 60:] = False
    filled = fill_outline(outline[None])[0]
    assert np.count_nonzero(filled ^ _disc(25)) <= 0.02 * _disc(25).sum()


def test_a_filled_region_stays_and_an_open_line_is_refused() -> None:
    np.testing.assert_array_equal(fill_outline(_disc(25)[None])[0], _disc(25))
    line = np.zeros((1, 80, 80), bool)
    line[0, 20:60, 40] = True
    with pytest.raises(Unreadable, match="not closed"):
        fill_outline(line)


def test_nifti_with_voxels_of_size_0_has_no_spacing(tmp_path: Path) -> None:
    path = write_itk(tmp_path / "a.nii", np.arange(60, dtype=np.int16).reshape(3, 4, 5), (0.5, 0.6, 2.0))
    assert read_volume(path).spacing == pytest.approx((2.0, 0.6, 0.5))
    content = bytearray(path.read_bytes())
    content[80:92] = np.zeros(3, "<f4").tobytes()  # pixdim[1] to [3]
    path.write_bytes(content)
    assert read_volume(path).spacing is None
    (tmp_path / "b.nii.gz").write_bytes(gzip.compress(bytes(content)))
    assert read_volume(tmp_path / "b.nii.gz").spacing is None


def test_one_bit_is_black_and_white_and_complex_numbers_are_refused(tmp_path: Path) -> None:
    Image.fromarray(np.eye(6) > 0).save(tmp_path / "bit.png")
    np.testing.assert_array_equal(read_volume(tmp_path / "bit.png").array[0], np.eye(6) * 255)
    assert read_volume(tmp_path / "bit.png", mask=True).array.dtype == bool
    np.savez(tmp_path / "c.npz", image=np.ones((4, 5), np.complex64))
    with pytest.raises(Unreadable, match="complex"):
        read_volume(tmp_path / "c.npz")
    path = write_itk(tmp_path / "c.nrrd", np.ones((3, 4, 5), np.float32))
    sitk.WriteImage(sitk.GetImageFromArray(np.ones((3, 4, 5), np.complex64)), tmp_path / "c.nii")
    with pytest.raises(Unreadable, match="complex"):
        read_volume(tmp_path / "c.nii")
    assert read_volume(path).array.dtype == np.float32
