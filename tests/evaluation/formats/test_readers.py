"""Readers: every format gives the array, spacing and orientation that were written, or a reason."""

from __future__ import annotations

import gzip
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest
import SimpleITK as sitk
import tifffile
from PIL import Image

from synthfm.evaluation.cases.masks import fill_outline
from synthfm.evaluation.formats.readers import count_frames, read_volume
from synthfm.evaluation.formats.volume import Unreadable, Volume, radiological, same_grid
from tests.support.files import (
    cut_short,
    write_itk,
    write_picture,
)

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
def test_a_palette_is_numbers_for_labels_and_colours_in_an_image(tmp_path: Path, suffix: str) -> None:
    from PIL import Image

    numbers = np.array([[0, 1], [2, 1]], np.uint8)
    picture = Image.fromarray(numbers)
    picture.putpalette([0, 0, 0, 200, 0, 0, 0, 100, 0])
    picture.save(tmp_path / f"p{suffix}")
    labels = read_volume(tmp_path / f"p{suffix}", mask=True, colours="stored")
    np.testing.assert_array_equal(labels.array[0], numbers)
    assert read_volume(tmp_path / f"p{suffix}").array[0, 0, 1] == 60  # 0.299 of red
    assert read_volume(tmp_path / f"p{suffix}", mask=True).array[0].tolist() == [[0, 200], [100, 200]]


def test_a_tiff_is_grey_as_it_is_shown(tmp_path: Path) -> None:
    numbers = np.array([[0, 1], [2, 250]], np.uint8)
    tifffile.imwrite(tmp_path / "white.tif", numbers, photometric="miniswhite")
    np.testing.assert_array_equal(read_volume(tmp_path / "white.tif").array[0], 255 - numbers)
    labels = read_volume(tmp_path / "white.tif", mask=True, colours="stored")
    np.testing.assert_array_equal(labels.array[0], numbers)
    np.testing.assert_array_equal(read_volume(tmp_path / "white.tif", mask=True).array[0], 255 - numbers)
    colours = np.zeros((3, 256), np.uint16)
    colours[0, 1] = 200 << 8
    tifffile.imwrite(tmp_path / "palette.tif", numbers, photometric="palette", colormap=colours)
    assert read_volume(tmp_path / "palette.tif").array[0].tolist() == [[0, 60], [0, 0]]
    labels = read_volume(tmp_path / "palette.tif", mask=True, colours="stored")
    np.testing.assert_array_equal(labels.array[0], numbers)


def test_cmyk_is_no_red_green_blue_and_alpha(tmp_path: Path) -> None:
    from PIL import Image

    for name in ("c.jpg", "c.tif"):
        Image.new("CMYK", (8, 8), (0, 0, 0, 55)).save(tmp_path / name)
        assert np.abs(read_volume(tmp_path / name).array.astype(int) - 200).max() <= 2


@pytest.mark.parametrize("pages", [1, 3])
@pytest.mark.parametrize("mode", ["L", "I;16", "RGB"])
def test_a_tiff_may_be_packed_as_most_programs_do(tmp_path: Path, mode: str, pages: int) -> None:
    drawn = np.random.default_rng(0).integers(0, 256, (pages, 9, 16)).astype(np.uint8)
    values = drawn.astype(np.uint16) * 200 if mode == "I;16" else drawn
    shown = [Image.fromarray(np.repeat(p[..., None], 3, -1) if mode == "RGB" else p) for p in values]
    shown[0].save(tmp_path / "t.tif", compression="tiff_lzw", save_all=True, append_images=shown[1:])
    np.testing.assert_array_equal(read_volume(tmp_path / "t.tif").array, values)


def test_a_mask_in_black_and_white_is_what_is_white(tmp_path: Path) -> None:
    mask = np.zeros((9, 16), bool)
    mask[2:5, 3:9] = True
    for photometric, stored in (("minisblack", mask), ("miniswhite", ~mask)):
        tifffile.imwrite(tmp_path / "m.tif", stored, photometric=photometric, software="a scanner")
        np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "m.tif")), mask)
        np.testing.assert_array_equal(read_volume(tmp_path / "m.tif", mask=True).array[0] > 0, mask)

    tifffile.imwrite(tmp_path / "m.tif", mask)  # as black on white, by a program that shows True as black
    np.testing.assert_array_equal(read_volume(tmp_path / "m.tif", mask=True).array[0] > 0, mask)


@pytest.mark.parametrize("offset", [np.nan, -4.0, 0.0, 100.0, np.inf, 1e6])
def test_a_nifti_header_whose_voxels_begin_nowhere_is_damaged(tmp_path: Path, offset: float) -> None:
    path = write_itk(tmp_path / "v.nii", ARRAY.astype(np.float32))
    content = bytearray(path.read_bytes())
    content[108:112] = np.float32(offset).tobytes()
    for length in (348, len(content)):
        path.write_bytes(content[:length])
        with pytest.raises(Unreadable, match=r"damaged|truncated"):
            read_volume(path)


def test_an_array_of_text_is_named(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "t.npz", "w") as archive:
        archive.writestr("notes.txt", "hello")
    with pytest.raises(Unreadable):
        read_volume(tmp_path / "t.npz")


def test_what_is_flat_has_no_distance_between_slices(tmp_path: Path) -> None:
    flat = read_volume(write_itk(tmp_path / "i.nii.gz", ARRAY[0], (0.5, 0.5)))
    one = read_volume(write_itk(tmp_path / "m.nii.gz", ARRAY[:1], (0.5, 0.5, 5.0)))
    other = read_volume(write_itk(tmp_path / "o.nii.gz", ARRAY[:1], (0.5, 0.6, 5.0)))
    assert "spacing" not in (same_grid(flat, one, strict=True) or "")
    assert "spacing" in (same_grid(flat, other, strict=True) or "")


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


def test_python_objects_are_not_read(tmp_path: Path) -> None:
    np.save(tmp_path / "o.npy", np.array([{}], object))
    np.savez(tmp_path / "o.npz", image=np.array([{}], object))
    for name in ("o.npy", "o.npz"):
        with pytest.raises(Unreadable, match="of Python objects, which are not read"):
            read_volume(tmp_path / name)


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


@pytest.mark.parametrize(
    ("name", "line", "spacing"),
    [
        ("v.mhd", "", None),
        ("v.mhd", "ElementSpacing = 2 3 4\n", (4, 3, 2)),
        ("v.mhd", "ElementSize = 2 3 4\n", (4, 3, 2)),
        ("v.nhdr", "", None),
        ("v.nhdr", "spacings: nan nan nan\n", None),
        ("v.nhdr", "spacings: 2 3 4\n", (4, 3, 2)),
        ("v.nhdr", 'spacings: 2 3 4\nunits: "microns" "microns" "microns"\n', (0.004, 0.003, 0.002)),
        ("v.nhdr", 'spacings: 2 3 4\nunits: "" "" ""\n', (4, 3, 2)),
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


@pytest.mark.parametrize(
    ("name", "line", "factor"),
    [
        ("v.nrrd", 'space units: "um" "um" "um"', 0.001),
        ("v.nrrd", 'space units: "mm" "mm" "mm"', 1),
        ("v.nrrd", 'space units: "cm" "cm" "cm"', 10),
        ("v.nrrd", 'space units: "pixel" "pixel" "pixel"', None),
        ("v.mha", "DistanceUnits = um", 0.001),
        ("v.mha", "DistanceUnits = cm", 10),
        ("v.mha", "DistanceUnits = ?", 1),
    ],
)
def test_lengths_may_be_in_other_units_than_millimetres(
    tmp_path: Path, name: str, line: str, factor: float | None
) -> None:
    path = write_itk(tmp_path / name, ARRAY, (4.0, 5.0, 6.0), origin=(10.0, -20.0, 30.0))
    before = b"encoding:" if name == "v.nrrd" else b"ElementSpacing"
    path.write_bytes(path.read_bytes().replace(before, line.encode() + b"\n" + before, 1))
    volume = read_volume(path)
    np.testing.assert_array_equal(volume.array, ARRAY)
    if factor is None:
        assert volume.spacing is None
    else:
        assert volume.spacing == pytest.approx((6 * factor, 5 * factor, 4 * factor))
        assert volume.origin == pytest.approx(np.array((10, -20, 30)) * factor)


def test_lengths_in_several_units_are_refused(tmp_path: Path) -> None:
    path = write_itk(tmp_path / "v.nrrd", ARRAY, (4.0, 5.0, 6.0))
    line = b'space units: "mm" "mm" "um"\nencoding:'
    path.write_bytes(path.read_bytes().replace(b"encoding:", line, 1))
    with pytest.raises(Unreadable, match="lengths in mm and um; expected one unit"):
        read_volume(path)


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
    with pytest.raises(Unreadable) as error:
        read_volume(path)
    assert "No such file" not in str(error.value)


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
    assert read_volume(path).spacing == pytest.approx((2.0, 0.6, 0.5))  # the sform says it too
    content[252:256] = bytes(4)  # both codes
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
