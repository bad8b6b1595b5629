"""Masks on a scan's own grid: what other programs' readers find in the files that were written."""

from __future__ import annotations

import itertools
from pathlib import Path
from tempfile import TemporaryDirectory

import highdicom
import nibabel
import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from synthfm.data.console import InputError
from synthfm.evaluation.scans.scan import Scan, read_scan
from synthfm.evaluation.scans.writers import COLOURS, default_suffix, write_masks
from tests.support.files import write_dicom_series, write_enhanced, write_itk, write_picture

few = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@st.composite
def affines(draw: st.DrawFn) -> np.ndarray:
    """4 x 4, RAS: any spacing, any order and flip of the axes, and a small or a large turn on top."""
    spacing = [draw(st.floats(0.3, 8.0)) for _ in range(3)]
    axes = np.eye(3)[list(draw(st.permutations(range(3))))]
    flips = [draw(st.sampled_from([-1.0, 1.0])) for _ in range(3)]
    angles = [draw(st.sampled_from([0.0, 0.0, 7.0, 40.0])) for _ in range(3)]
    affine = np.eye(4)
    affine[:3, :3] = Rotation.from_euler("xyz", angles, degrees=True).as_matrix() @ (axes * flips) * spacing
    affine[:3, 3] = [draw(st.floats(-200, 200)) for _ in range(3)]
    return affine


@st.composite
def shapes(draw: st.DrawFn) -> tuple[int, int, int]:
    return tuple(draw(st.integers(2, 7)) for _ in range(3))


def _drawn(scan: Scan, seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    first = rng.random(scan.values.shape) < 0.4
    return {"liver": first, "left kidney": (rng.random(first.shape) < 0.4) & ~first}


def _at(scan: Scan, mask: np.ndarray) -> set[tuple[float, ...]]:
    """Where in the patient (LPS, rounded) the pixels of a mask by slice lie, as the scan itself says."""
    places = np.argwhere(mask)[:, ::-1]
    return {tuple(point) for point in np.round(scan.grid.to_patient(scan.to_voxels(places)), 2).tolist()}


def _nibabel_points(image: nibabel.Nifti1Image, number: int) -> set[tuple[float, ...]]:
    voxels = np.argwhere(np.asarray(image.dataobj) == number)
    ras = nibabel.affines.apply_affine(image.affine, voxels)
    return {tuple(point) for point in np.round(ras * [-1, -1, 1], 2).tolist()}


def _itk_points(path: Path, number: int) -> set[tuple[float, ...]]:
    image = sitk.ReadImage(str(path))
    found = np.argwhere(sitk.GetArrayFromImage(image) == number)[:, ::-1].tolist()
    return {tuple(np.round(image.TransformIndexToPhysicalPoint(index), 2).tolist()) for index in found}


def _close(first: set[tuple[float, ...]], second: set[tuple[float, ...]]) -> bool:
    """Whether two sets of points agree to a tenth of a millimetre: single precision in headers."""
    a, b = (np.array(sorted(points, key=lambda p: tuple(np.round(p)))) for points in (first, second))
    if a.shape != b.shape:
        return False
    from scipy.spatial import cKDTree

    return bool(len(a) == 0 or cKDTree(a).query(b)[0].max() < 0.1)


@few
@given(
    affines(), shapes(), st.sampled_from([(1, 1), (0, 2), (1, 4), (3, 0)]), st.sampled_from(["mm", "micron"])
)
def test_a_nifti_mask_has_its_scans_affine_codes_and_units(affine, shape, codes, unit) -> None:
    with TemporaryDirectory() as folder:
        source = nibabel.Nifti1Image(
            np.random.default_rng(1).integers(0, 900, shape).astype(np.int16), affine
        )
        source.set_qform(affine, codes[0])
        source.set_sform(affine, codes[1])
        source.header.set_xyzt_units(unit)
        source.to_filename(Path(folder) / "scan.nii.gz")
        scan = read_scan(Path(folder) / "scan.nii.gz")
        masks = _drawn(scan)
        (path,) = write_masks(masks, scan, Path(folder) / "out" / "mask.nii.gz")
        image = nibabel.load(path)
        np.testing.assert_array_equal(image.affine, nibabel.load(scan.path).affine)
        for name in ("qform_code", "sform_code", "xyzt_units", "quatern_b", "srow_x", "pixdim", "dim"):
            np.testing.assert_array_equal(image.header[name], nibabel.load(scan.path).header[name], name)
        assert image.shape == shape
        assert image.get_data_dtype() == np.uint8
        if unit == "mm":  # ITK takes micrometres for what they are, nibabel leaves them
            for number, mask in enumerate(masks.values(), 1):
                assert _close(_nibabel_points(image, number), _at(scan, mask))
                assert _close(_itk_points(path, number), _at(scan, mask))


@few
@given(
    affines(),
    shapes(),
    st.sampled_from([".mha", ".seg.nrrd", ".nii.gz", ".nii"]),
    st.sampled_from([".mha", ".nrrd"]),
)
def test_every_volume_format_puts_a_voxel_where_the_scan_has_it(affine, shape, suffix, kind) -> None:
    with TemporaryDirectory() as folder:
        image = sitk.GetImageFromArray(np.random.default_rng(1).integers(0, 900, shape).astype(np.int16))
        spacing = np.linalg.norm(affine[:3, :3], axis=0)
        image.SetSpacing(spacing.tolist())
        image.SetDirection((affine[:3, :3] / spacing).ravel().tolist())
        image.SetOrigin(affine[:3, 3].tolist())
        sitk.WriteImage(image, str(Path(folder) / f"scan{kind}"))
        scan = read_scan(Path(folder) / f"scan{kind}")
        masks = _drawn(scan)
        (path,) = write_masks(masks, scan, Path(folder) / f"mask{suffix}")
        written = sitk.ReadImage(str(path))
        assert written.GetSize() == image.GetSize()
        np.testing.assert_allclose(written.GetDirection(), image.GetDirection(), atol=1e-4)
        np.testing.assert_allclose(written.GetSpacing(), image.GetSpacing(), rtol=1e-5)
        for number, mask in enumerate(masks.values(), 1):
            assert _close(_itk_points(path, number), _at(scan, mask))


@pytest.mark.parametrize("plane", ["axial", "coronal", "sagittal"])
@pytest.mark.parametrize("upright", [False, True])
def test_a_place_in_a_slice_is_one_voxel_of_the_file(tmp_path: Path, plane: str, upright: bool) -> None:
    values = np.arange(4 * 5 * 6, dtype=np.int16).reshape(4, 5, 6)
    path = write_itk(tmp_path / "scan.mha", values, (1.0, 2.0, 3.0), direction="PSR")
    scan = read_scan(path, plane=plane, upright=upright)
    for s, y, x in itertools.product(*map(range, scan.values.shape)):
        i, j, k = scan.to_voxels([[x, y, s]])[0].astype(int)
        assert scan.values[s, y, x] == values[k, j, i]
        np.testing.assert_allclose(scan.to_pixels([[i, j, k]]), [[x, y, s]])
    np.testing.assert_array_equal(scan.on_grid(scan.values), values)
    if not upright:
        assert scan.spacing == pytest.approx(
            {"axial": (2, 3, 1), "coronal": (1, 3, 2), "sagittal": (3, 2, 1)}[plane]
        )


def test_a_slicer_segmentation_has_names_colours_and_layers_where_objects_overlap(tmp_path: Path) -> None:
    import nrrd
    import slicerio

    scan = read_scan(
        write_itk(tmp_path / "scan.nrrd", np.zeros((4, 5, 6), np.int16) + np.arange(6, dtype=np.int16))
    )
    drawn = _drawn(scan)
    both = drawn | {"tumour": drawn["liver"] | drawn["left kidney"]}
    for masks in (drawn, both):
        (path,) = write_masks(masks, scan, tmp_path / "out.seg.nrrd")
        found = slicerio.read_segmentation(str(path))
        assert [segment["name"] for segment in found["segments"]] == list(masks)
        voxels, header = nrrd.read(str(path))
        assert header["Segmentation_MasterRepresentation"] == "Binary labelmap"
        for k, (segment, mask) in enumerate(zip(found["segments"], masks.values(), strict=True)):
            np.testing.assert_allclose(segment["color"], np.array(COLOURS[k]) / 255, atol=1e-5)
            layer = voxels[segment["layer"]] if voxels.ndim == 4 else voxels
            np.testing.assert_array_equal(layer == segment["labelValue"], scan.on_grid(mask).T)
            i0, i1, j0, j1, k0, k1 = map(int, header[f"Segment{k}_Extent"].split())
            inside = np.zeros_like(layer, bool)
            inside[i0 : i1 + 1, j0 : j1 + 1, k0 : k1 + 1] = True
            assert not (scan.on_grid(mask).T & ~inside).any()
        if masks is both:
            assert header["kinds"] == ["list", "domain", "domain", "domain"]


@pytest.mark.parametrize("enhanced", [False, True], ids=["series", "multi-frame"])
def test_a_dicom_seg_refers_to_the_series_own_instances(tmp_path: Path, enhanced: bool) -> None:
    values = np.random.default_rng(0).integers(0, 900, (5, 8, 9))
    names = ["c.dcm", "a.dcm", "e.dcm", "b.dcm", "d.dcm"]
    files = write_dicom_series(tmp_path / "s", values, names, descending=True, spacing=(4.0, 0.7, 0.9))
    source = write_enhanced(tmp_path / "e.dcm", files, [2, 0, 4, 1, 3]) if enhanced else tmp_path / "s"
    scan = read_scan(source)
    assert scan.form == "dicom"
    masks = _drawn(scan)
    masks["liver"][1] = False  # an empty frame is left out
    (path,) = write_masks(masks, scan, tmp_path / "seg.dcm")
    found = highdicom.seg.segread(path)
    headers = [pydicom.dcmread(file) for file in (files if not enhanced else [source])]
    assert found.SeriesInstanceUID != headers[0].SeriesInstanceUID
    assert found.StudyInstanceUID == headers[0].StudyInstanceUID
    assert found.FrameOfReferenceUID == headers[0].FrameOfReferenceUID
    assert found.PatientID == headers[0].PatientID
    referred = {
        item.ReferencedSOPInstanceUID for item in found.ReferencedSeriesSequence[0].ReferencedInstanceSequence
    }
    assert referred == {header.SOPInstanceUID for header in headers}
    assert found.ReferencedSeriesSequence[0].SeriesInstanceUID == headers[0].SeriesInstanceUID
    assert [found.get_segment_description(k + 1).segment_label for k in range(2)] == list(masks)
    volume = found.get_volume(combine_segments=False)
    for k, mask in enumerate(masks.values()):
        points = volume.map_indices_to_reference(np.argwhere(volume.array[..., k]))
        assert {tuple(point) for point in np.round(points, 2).tolist()} == _at(scan, mask)
    by_uid = {header.SOPInstanceUID: header for header in headers}
    for frame, pixels in zip(found.PerFrameFunctionalGroupsSequence, found.pixel_array, strict=True):
        number = frame.SegmentIdentificationSequence[0].ReferencedSegmentNumber
        position = np.array(frame.PlanePositionSequence[0].ImagePositionPatient, float)
        k = round((scan.grid.to_voxels([position])[0])[2])
        np.testing.assert_array_equal(pixels, list(masks.values())[number - 1][k])
        reference = frame.DerivationImageSequence[0].SourceImageSequence[0]
        origin = by_uid[reference.ReferencedSOPInstanceUID]
        if enhanced:
            groups = origin.PerFrameFunctionalGroupsSequence[reference.ReferencedFrameNumber - 1]
            np.testing.assert_allclose(groups.PlanePositionSequence[0].ImagePositionPatient, position)
        else:
            np.testing.assert_allclose(origin.ImagePositionPatient, position)


def test_a_tilted_gantry_is_written_as_dicom_seg_alone(tmp_path: Path) -> None:
    from tests.support.files import edit_dicom

    files = write_dicom_series(tmp_path / "s", np.random.default_rng(0).integers(0, 900, (5, 8, 9)))
    for k, file in enumerate(files):
        edit_dicom(file, ImagePositionPatient=[0, 1.5 * k, 5.0 * k])
    scan = read_scan(tmp_path / "s")
    masks = _drawn(scan)
    with pytest.raises(InputError, match=r"m\.nii\.gz: the slices do not lie above each other .* give \.dcm"):
        write_masks(masks, scan, tmp_path / "m.nii.gz")
    assert not list(tmp_path.glob("m.*"))
    write_masks(masks, scan, tmp_path / "m.dcm")
    frames = highdicom.seg.segread(tmp_path / "m.dcm").PerFrameFunctionalGroupsSequence
    rows = {float(frame.PlanePositionSequence[0].ImagePositionPatient[1]) for frame in frames}
    assert rows == {0.0, 1.5, 3.0, 4.5, 6.0}


def test_pictures_have_their_scans_size_one_object_white_several_as_numbers(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    scan = read_scan(write_picture(tmp_path / "us.png", rng.integers(0, 255, (20, 30, 3)).astype(np.uint8)))
    assert scan.shown[0].shape == (20, 30, 3)
    masks = _drawn(scan)
    from PIL import Image

    write_masks({"liver": masks["liver"]}, scan, tmp_path / "one.png")
    np.testing.assert_array_equal(
        np.array(Image.open(tmp_path / "one.png")), masks["liver"][0] * np.uint8(255)
    )
    write_masks(masks, scan, tmp_path / "two.png")
    found = np.array(Image.open(tmp_path / "two.png"))
    np.testing.assert_array_equal(found == 2, masks["left kidney"][0])
    names = write_masks(masks, scan, tmp_path / "each.tif", separate=True)
    assert names[0].name == "each_liver.tif"
    assert default_suffix(scan) == ".png"


def test_a_mask_of_a_2d_file_has_two_axes_and_its_place(tmp_path: Path) -> None:
    image = sitk.GetImageFromArray(np.random.default_rng(0).integers(0, 900, (8, 9)).astype(np.int16))
    image.SetOrigin((5.0, -7.0))
    image.SetSpacing((0.5, 0.25))
    image.SetDirection((0.0, 1.0, 1.0, 0.0))
    for suffix in (".mha", ".nrrd", ".nii.gz"):
        sitk.WriteImage(image, str(tmp_path / f"flat{suffix}"))
        scan = read_scan(tmp_path / f"flat{suffix}")
        masks = _drawn(scan)
        out = ".nii.gz" if suffix == ".nii.gz" else ".mha"
        (path,) = write_masks(masks, scan, tmp_path / f"mask{out}")
        found, source = sitk.ReadImage(str(path)), sitk.ReadImage(str(scan.path))
        assert found.GetDimension() == source.GetDimension() == 2
        np.testing.assert_array_equal(sitk.GetArrayFromImage(found) == 1, masks["liver"][0])
        for name in ("Origin", "Spacing", "Direction"):
            np.testing.assert_allclose(
                getattr(found, f"Get{name}")(), getattr(source, f"Get{name}")(), atol=1e-5
            )


def test_what_two_objects_claim_is_the_first_ones_in_a_label_map(tmp_path: Path) -> None:
    scan = read_scan(write_itk(tmp_path / "scan.nii.gz", np.arange(120, dtype=np.int16).reshape(4, 5, 6)))
    liver = _drawn(scan)["liver"]
    write_masks({"liver": liver, "body": np.ones_like(liver)}, scan, tmp_path / "mask.nii.gz")
    np.testing.assert_array_equal(
        sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / "mask.nii.gz"))), 2 - liver
    )


def test_a_dark_volume_in_8_bits_is_shown_bright_a_picture_as_it_is(tmp_path: Path) -> None:
    values = np.arange(120, dtype=np.uint8).reshape(4, 5, 6) // 3
    assert read_scan(write_itk(tmp_path / "scan.nii.gz", values)).shown[3].max() == 255
    assert read_scan(write_picture(tmp_path / "a.png", values[3])).shown[0].max() == 39
    assert read_scan(tmp_path / "scan.nii.gz", window=(0, 78)).shown[3].max() == 128


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("m.mhd", r"m\.mhd: no kind of mask file ends so; expected one of \.nii\.gz, "),
        ("m.png", r"m\.png: a PNG holds one slice, and the scan has 4; give \.nii\.gz"),
        ("m.dcm", r"m\.dcm: a DICOM-SEG refers to DICOM images, and the scan is scan\.mha"),
    ],
)
def test_what_a_kind_of_file_cannot_hold_is_said_and_nothing_is_left(
    tmp_path: Path, name: str, message: str
) -> None:
    scan = read_scan(write_itk(tmp_path / "scan.mha", np.arange(120, dtype=np.int16).reshape(4, 5, 6)))
    with pytest.raises(InputError, match=message):
        write_masks(_drawn(scan), scan, tmp_path / name)
    assert [path.name for path in tmp_path.iterdir()] == ["scan.mha"]


def test_a_file_that_was_there_stays_whole_where_writing_fails(tmp_path: Path, monkeypatch) -> None:
    scan = read_scan(write_itk(tmp_path / "scan.mha", np.arange(120, dtype=np.int16).reshape(4, 5, 6)))
    masks = _drawn(scan)
    for suffix in (".nii.gz", ".seg.nrrd", ".mha"):
        path = tmp_path / f"mask{suffix}"
        write_masks(masks, scan, path)
        before = path.read_bytes()
        with monkeypatch.context() as patch:
            patch.setattr("os.replace", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
            with pytest.raises(KeyboardInterrupt):
                write_masks(masks, scan, path)
        assert path.read_bytes() == before
    assert len(list(tmp_path.iterdir())) == 4


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda p: write_itk(p / "a.nii.gz", np.zeros((3, 4, 5, 6), np.int16)),
            r"4-D with 3 frames; .*--frame",
        ),
        (lambda p: write_itk(p / "a.mha", np.full((4, 5, 6), np.nan, np.float32)), "nothing but NaN"),
        (
            lambda p: write_itk(p / "a.mha", np.where(np.arange(120).reshape(4, 5, 6) == 70, np.nan, 1.5)),
            r"1 voxels are NaN or infinite, the first at voxel \(4, 1, 2\)",
        ),
        (lambda p: p / "none.nii.gz", "no such file or folder"),
        (
            lambda p: (p / "a.docx").write_text("x") and p / "a.docx",
            r"unknown kind of file \(\.docx\); expected",
        ),
        (lambda p: (p / "a.nii.gz").write_bytes(b"") or p / "a.nii.gz", "the file is empty"),
    ],
)
def test_scans_that_cannot_be_segmented_are_refused_in_one_line(tmp_path: Path, make, message: str) -> None:
    path = make(tmp_path)
    with pytest.raises(InputError, match=message) as caught:
        read_scan(path)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


def test_a_sheared_grid_and_a_scan_too_large_are_refused(tmp_path: Path, monkeypatch) -> None:
    affine = np.diag([1.0, 1, 1, 1])
    affine[0, 1] = 0.4
    image = nibabel.Nifti1Image(np.zeros((4, 5, 6), np.int16), affine)
    image.set_qform(None, 0)
    image.to_filename(tmp_path / "sheared.nii")
    with pytest.raises(InputError, match="not at right angles"):
        read_scan(tmp_path / "sheared.nii")
    monkeypatch.setattr("synthfm.evaluation.scans.scan.MOST_VOXELS", 100)
    path = write_itk(tmp_path / "scan.mha", np.arange(120, dtype=np.int16).reshape(4, 5, 6))
    with pytest.raises(InputError, match=r"6 x 5 x 4 voxels, 1\.2 times as many as fit"):
        read_scan(path)


def test_a_missing_slice_is_named(tmp_path: Path) -> None:
    files = write_dicom_series(tmp_path / "s", np.random.default_rng(0).integers(0, 900, (6, 8, 9)))
    files[3].unlink()
    with pytest.raises(InputError, match=r"lie 10 mm apart, the other slices 5 mm.*is a slice missing"):
        read_scan(tmp_path / "s")
