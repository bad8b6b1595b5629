"""NIfTI as the world writes it: where it lies is its sform's, whatever else its header says."""

from __future__ import annotations

import gzip
from pathlib import Path

import nibabel
import numpy as np
import pytest

from synthfm.evaluation.formats.readers import count_frames, read_volume
from synthfm.evaluation.formats.volume import Unreadable

VALUES = np.arange(4 * 5 * 6, dtype=np.int16).reshape(4, 5, 6)
AFFINE = np.array([[-0.8, 0, 0, 10], [0, -0.8, 0, 20], [0, 0, 3.0, -30], [0, 0, 0, 1]])
"""LPS, 0.8 x 0.8 x 3 mm."""


def write(
    path: Path,
    affine: np.ndarray = AFFINE,
    codes: tuple[int, int] = (1, 0),
    values: np.ndarray = VALUES,
    kind: type = nibabel.Nifti1Image,
    **header: object,
) -> Path:
    """A file with an sform and a qform of these codes, and elements of its header set as they stand."""
    image = kind(values.T, AFFINE)
    for name, row in zip("xyz", affine, strict=False):
        image.header[f"srow_{name}"] = row
    image.header["sform_code"] = codes[0]
    image.set_qform(np.diag([-1.0, -1, 1, 1]) @ np.diag([0.8, 0.8, 3, 1]), codes[1])
    for name, value in header.items():
        image.header[name] = value
    path.parent.mkdir(exist_ok=True)
    content = image.to_bytes() if kind is nibabel.Nifti2Image else _bytes(image)
    path.write_bytes(gzip.compress(content) if path.name.lower().endswith("gz") else content)
    return path


def _bytes(image: nibabel.Nifti1Image) -> bytes:
    """The file with the header as it stands: nibabel mends it otherwise."""
    header = image.header.copy()
    header["vox_offset"], header["magic"] = 352, b"n+1"
    return header.binaryblock + bytes(4) + np.asarray(image.dataobj).tobytes(order="F")


def lies(path: Path) -> tuple[np.ndarray, tuple[float, ...] | None, np.ndarray | None]:
    volume = read_volume(path)
    return volume.array, volume.spacing, volume.direction


@pytest.mark.parametrize(
    "pixdim", [(-1, 1, 1), (1, -1, 1), (1, 1, -1), (1.25, 1.25, 1 / 3), (np.nan, 1, 1), (0, 0, 0)], ids=str
)
def test_the_sform_counts_and_not_pixdim(tmp_path: Path, pixdim: tuple[float, ...]) -> None:
    sizes = np.array([1, *(np.array([0.8, 0.8, 3]) * pixdim), 1, 1, 1, 1], np.float32)
    array, spacing, direction = lies(write(tmp_path / "a.nii.gz", pixdim=sizes))
    np.testing.assert_array_equal(array, VALUES)
    assert spacing == pytest.approx((3, 0.8, 0.8))
    np.testing.assert_allclose(direction, np.eye(3), atol=1e-6)


@pytest.mark.parametrize("size", [-0.8, np.nan, np.inf])
@pytest.mark.parametrize("codes", [(0, 0), (0, 1)])
def test_without_an_sform_a_length_that_is_none_is_refused(
    tmp_path: Path, size: float, codes: tuple[int, int]
) -> None:
    path = write(tmp_path / "a.nii", codes=codes, pixdim=np.array([1, size, 0.8, 3, 1, 1, 1, 1], np.float32))
    with pytest.raises(Unreadable, match=r"voxels of .* x 0\.8 x 3 mm \(pixdim\); expected lengths above 0"):
        read_volume(path)


def test_the_qform_counts_where_there_is_no_sform_that_can_be_used(tmp_path: Path) -> None:
    for affine, codes in ((AFFINE, (0, 1)), (np.zeros((4, 4)), (1, 1)), (np.full((4, 4), np.nan), (1, 1))):
        _, spacing, direction = lies(write(tmp_path / "q.nii", affine, codes))
        assert spacing == pytest.approx((3, 0.8, 0.8))
        np.testing.assert_allclose(direction, np.eye(3), atol=1e-6)
    with pytest.raises(Unreadable, match="does not say how it lies"):
        read_volume(write(tmp_path / "n.nii", np.zeros((4, 4)), (1, 0)))


@pytest.mark.parametrize(("shear", "fits"), [(1e-4, True), (1e-3, True), (0.015, True), (0.06, False)])
def test_axes_a_hair_off_the_right_angle_are_the_nearest_at_one(
    tmp_path: Path, shear: float, fits: bool
) -> None:
    affine = AFFINE.copy()
    affine[0, 1] = shear * 0.8
    path = write(tmp_path / "s.nii.gz", affine)
    if not fits:
        with pytest.raises(Unreadable, match=r"not at right angles \(a sheared grid\); resample"):
            read_volume(path)
        return
    array, spacing, direction = lies(path)
    np.testing.assert_array_equal(array, VALUES)
    assert spacing == pytest.approx((3, 0.8, 0.8), rel=1e-3)
    assert direction is not None
    np.testing.assert_allclose(direction.T @ direction, np.eye(3), atol=1e-9)
    np.testing.assert_allclose(direction, np.eye(3), atol=shear)


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz", "A.NII", "a.Nii.Gz", "a.NII.gz"])
@pytest.mark.parametrize("kind", [nibabel.Nifti1Image, nibabel.Nifti2Image])
def test_both_versions_are_read_by_names_in_any_case(tmp_path: Path, name: str, kind: type) -> None:
    array, spacing, _ = lies(write(tmp_path / name, kind=kind))
    np.testing.assert_array_equal(array, VALUES)
    assert spacing == pytest.approx((3, 0.8, 0.8))


def test_what_is_packed_need_not_say_so_in_its_name(tmp_path: Path) -> None:
    path = write(tmp_path / "a.nii.gz").rename(tmp_path / "a.nii")
    np.testing.assert_array_equal(read_volume(path).array, VALUES)
    plain = write(tmp_path / "b.nii").rename(tmp_path / "b.nii.gz")
    np.testing.assert_array_equal(read_volume(plain).array, VALUES)


def test_a_flipped_bit_in_what_is_packed_is_seen(tmp_path: Path) -> None:
    path = write(
        tmp_path / "a.nii.gz", values=np.random.default_rng(0).integers(0, 900, (9, 20, 20)).astype("i2")
    )
    content = path.read_bytes()
    for at in np.random.default_rng(1).integers(30, len(content), 60):
        path.write_bytes(content[:at] + bytes([content[at] ^ 4]) + content[at + 1 :])
        with pytest.raises(Unreadable):
            read_volume(path)


@pytest.mark.parametrize(
    ("slope", "offset", "expected"),
    [(0, 500, VALUES), (np.nan, 7, VALUES), (2, -3, 2 * VALUES - 3), (0.5, 0, VALUES / 2), (1, 0, VALUES)],
)
def test_a_slope_of_0_says_that_values_are_as_stored(
    tmp_path: Path, slope: float, offset: float, expected: np.ndarray
) -> None:
    array = read_volume(write(tmp_path / "a.nii", scl_slope=slope, scl_inter=offset)).array
    np.testing.assert_allclose(array, expected)
    assert array.dtype == (np.int16 if expected is VALUES else np.float32)


@pytest.mark.parametrize(("code", "factor"), [(0, 1), (1, 1000), (2, 1), (3, 0.001)])
def test_lengths_are_in_the_units_that_the_header_names(tmp_path: Path, code: int, factor: float) -> None:
    volume = read_volume(write(tmp_path / "a.nii", xyzt_units=code))
    assert volume.spacing == pytest.approx((3 * factor, 0.8 * factor, 0.8 * factor))
    assert volume.origin == pytest.approx(np.array([-10, -20, -30]) * factor)


def test_colours_and_frames_are_counted_and_chosen(tmp_path: Path) -> None:
    path = write(tmp_path / "t.nii.gz", values=np.stack([VALUES, VALUES + 500]))
    assert count_frames(path) == 2
    np.testing.assert_array_equal(read_volume(path, frame=1).array, VALUES + 500)
    colours = np.zeros((3, 4, 5), [("R", "u1"), ("G", "u1"), ("B", "u1")])
    colours["G"] = 9
    image = nibabel.Nifti1Image(colours, AFFINE)
    image.to_filename(tmp_path / "c.nii")
    assert read_volume(tmp_path / "c.nii", frame=1).array.max() == 9
    with pytest.raises(Unreadable, match="say which with"):
        read_volume(tmp_path / "c.nii")


def test_half_a_pair_is_told_for_what_it_is(tmp_path: Path) -> None:
    nibabel.Nifti1Pair(VALUES.T, AFFINE).to_filename(tmp_path / "p.hdr")
    np.testing.assert_array_equal(read_volume(tmp_path / "p.hdr").array, VALUES)
    (tmp_path / "p.hdr").rename(tmp_path / "p.nii")
    with pytest.raises(Unreadable, match="header of a pair"):
        read_volume(tmp_path / "p.nii")
