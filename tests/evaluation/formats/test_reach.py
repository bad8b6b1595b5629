"""A file shows nothing but itself and what lies beside it, or below the data root."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest
import SimpleITK as sitk

from synthfm.data.console import InputError
from synthfm.evaluation.formats.readers import count_frames, read_volume
from synthfm.evaluation.formats.slicer import read_slicer
from synthfm.evaluation.formats.volume import Unreadable, Volume
from synthfm.evaluation.scans.scan import read_scan
from tests.support.files import write_itk

ARRAY = np.arange(4 * 5 * 6, dtype=np.int16).reshape(4, 5, 6)


def mhd(name: str) -> str:
    text = "ObjectType = Image\nNDims = 3\nDimSize = 6 5 4\nElementSpacing = 1 1 1\nElementType = MET_SHORT\n"
    return f"{text}ElementDataFile = {name}\n"


def nhdr(name: str) -> str:
    text = "NRRD0004\ntype: short\ndimension: 3\nsizes: 6 5 4\nendian: little\nencoding: raw\n"
    return f"{text}data file: {name}\n"


KINDS = {"v.mhd": mhd, "v.mha": mhd, "v.nhdr": nhdr, "v.nrrd": nhdr}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with slices beside a header to be written, and one outside of it."""
    (tmp_path / "in" / "deeper").mkdir(parents=True)
    ARRAY.tofile(tmp_path / "secret.raw")
    ARRAY.tofile(tmp_path / "in" / "v.raw")
    ARRAY.tofile(tmp_path / "in" / "deeper" / "v.raw")
    for k, part in enumerate(ARRAY):
        part.tofile(tmp_path / "in" / f"s{k}.raw")
        part.tofile(tmp_path / f"s{k}.raw")
    (tmp_path / "in" / "link.raw").symlink_to(tmp_path / "secret.raw")
    return tmp_path / "in"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["v.raw", "deeper/v.raw", "s%d.raw 0 3 1", "LIST"])
def test_a_header_names_files_beside_it(folder: Path, kind: str, name: str) -> None:
    lines = "".join(f"\ns{k}.raw" for k in range(4))
    listed = "LIST 2" if kind[2] == "n" else "LIST"
    (folder / kind).write_text(KINDS[kind](f"{listed}{lines}" if name == "LIST" else name))
    np.testing.assert_array_equal(read_volume(folder / kind).array, ARRAY)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "name", ["{above}/secret.raw", "../secret.raw", "deeper/../../secret.raw", "link.raw", "../s%d.raw 0 3 1",
             "LIST\n../secret.raw"]
)  # fmt: skip
def test_a_header_that_names_another_file_is_refused(folder: Path, kind: str, name: str) -> None:
    (folder / kind).write_text(KINDS[kind](name.format(above=folder.parent)))
    for read in (read_volume, count_frames):
        with pytest.raises(Unreadable, match=r"outside of its folder; expected it beside v\."):
            read(folder / kind)
    with pytest.raises(InputError, match="outside of its folder"):
        read_scan(folder / kind)
    if kind == "v.nrrd":
        with pytest.raises(Unreadable, match="outside of its folder"):
            read_slicer(folder / kind, Volume(ARRAY))
    if "%" not in name and "LIST" not in name:  # below the data root it may lie
        np.testing.assert_array_equal(read_volume(folder / kind, root=folder.parent).array, ARRAY)


@pytest.mark.parametrize("strange", ["\r", "\v", "\f", "\0"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_line_that_only_some_readers_see_is_refused(folder: Path, kind: str, strange: str) -> None:
    """ITK skips such characters, and takes a carriage return alone for the end of a line."""
    *first, last = KINDS[kind](f"{folder.parent}/secret.raw").splitlines()
    decoy = KINDS[kind]("v.raw").splitlines()[-1]
    note = [] if kind[2] == "h" or kind == "v.mha" else [f"content: x{strange}{last}"]
    lines = [*first, *(note or [strange + last]), decoy]
    (folder / kind).write_bytes("\n".join([*lines, "", ""]).encode())
    for read in (read_volume, count_frames):
        with pytest.raises(Unreadable, match="characters that are no text"):
            read(folder / kind)


def test_the_voxels_of_a_pair_are_no_link_out(folder: Path) -> None:
    write_itk(folder / "p.hdr", ARRAY)
    (folder / "p.img").rename(folder.parent / "p.img")
    (folder / "p.img").symlink_to(folder.parent / "p.img")
    with pytest.raises(Unreadable, match="outside of its folder"):
        read_volume(folder / "p.hdr")
    np.testing.assert_array_equal(read_volume(folder / "p.hdr", root=folder.parent).array, ARRAY)


@pytest.mark.parametrize("name", ["V.MHA", "v.MhD", "v.NRRD", "v.Nhdr"])
def test_a_suffix_may_be_in_any_case(tmp_path: Path, name: str) -> None:
    write_itk(tmp_path / name.lower(), ARRAY, (0.5, 0.6, 2.0)).rename(tmp_path / name)
    volume = read_volume(tmp_path / name)
    np.testing.assert_array_equal(volume.array, ARRAY)
    assert volume.spacing == pytest.approx((2.0, 0.6, 0.5))


@pytest.mark.parametrize("length", ["-1", "0", "inf", "nan"])
@pytest.mark.parametrize("kind", ["v.mhd", "v.nhdr"])
def test_a_spacing_that_is_no_length_is_refused(folder: Path, kind: str, length: str) -> None:
    text = KINDS[kind]("v.raw")
    if kind == "v.mhd":
        text = text.replace("ElementSpacing = 1", f"ElementSpacing = {length}")
    else:
        text = text.replace("endian", f"spacings: {length} 1 1\nendian")
    (folder / kind).write_text(text)
    if kind == "v.nhdr" and length == "nan":  # which says that it is unknown
        assert read_volume(folder / kind).spacing is None
        return
    with pytest.raises(Unreadable, match=f"spacing of {length} x 1 x 1; expected lengths above 0"):
        read_volume(folder / kind)


def test_what_itk_warns_of_is_told_with_the_file(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    from synthfm.evaluation.formats.itk import reading

    path = write_itk(tmp_path / "v.mha", ARRAY)
    with reading(path):
        sitk.ReadImage(str(write_analyze(tmp_path / "a.hdr")))  # which warns
    assert f"{path}: " in caplog.text
    assert "deprecated" in caplog.text
    assert "0x" not in caplog.text


def write_analyze(path: Path) -> Path:
    import nibabel

    nibabel.AnalyzeImage(ARRAY.T, np.eye(4)).to_filename(path)
    return path


def test_links_in_hdf5_lead_to_arrays_in_reach(folder: Path) -> None:
    with h5py.File(folder / "store.hdf", "w") as file:
        file["deep/image"] = ARRAY
    with h5py.File(folder.parent / "secret.h5", "w") as file:
        file["image"] = ARRAY
    with h5py.File(folder / "a.h5", "w") as file:
        file["group/v"] = ARRAY
        file["hard"] = file["group/v"]
        file["soft"] = h5py.SoftLink("/group/v")
        file["group/relative"] = h5py.SoftLink("v")
        file["external"] = h5py.ExternalLink("store.hdf", "/deep/image")
        file["there"] = h5py.ExternalLink("store.hdf", "/deep")
        file["out"] = h5py.ExternalLink("../secret.h5", "/image")
        file["absolute"] = h5py.ExternalLink(str(folder.parent / "secret.h5"), "/image")
        file["round"] = h5py.SoftLink("/round")
        file["nowhere"] = h5py.SoftLink("/x")
    for key in ("hard", "soft", "group/relative", "external", "there/image", "/group/v"):
        np.testing.assert_array_equal(read_volume(folder / "a.h5", key=key).array, ARRAY)
    for key in ("out", "absolute"):
        with pytest.raises(Unreadable, match="outside of its folder"):
            read_volume(folder / "a.h5", key=key)
        np.testing.assert_array_equal(read_volume(folder / "a.h5", key=key, root=folder.parent).array, ARRAY)
    for key, words in (("round", "without end"), ("nowhere", "no array 'nowhere'"), ("group", "is a group")):
        with pytest.raises(Unreadable, match=words):
            read_volume(folder / "a.h5", key=key)


def test_an_only_array_may_be_a_link(folder: Path) -> None:
    with h5py.File(folder / "store.hdf", "w") as file:
        file["image"] = ARRAY
    with h5py.File(folder / "a.h5", "w") as file:
        file["one"] = h5py.ExternalLink("store.hdf", "/image")
    np.testing.assert_array_equal(read_volume(folder / "a.h5").array, ARRAY)


def test_numbers_in_other_files_are_those_of_arrays_in_reach(folder: Path) -> None:
    for place in (folder, folder.parent):
        with h5py.File(place / "part.h5", "w") as file:
            file["x"] = ARRAY
    with h5py.File(folder / "raw.h5", "w") as file:
        file.create_dataset("x", ARRAY.shape, "i2", external=[(str(folder.parent / "secret.raw"), 0, 240)])
    with h5py.File(folder / "v.h5", "w") as file:
        for key, name in (("in", "part.h5"), ("out", "../part.h5"), ("gone", "no.h5"), ("raw", "raw.h5")):
            layout = h5py.VirtualLayout(ARRAY.shape, "i2")
            layout[:] = h5py.VirtualSource(name, "x", ARRAY.shape)
            file.create_virtual_dataset(key, layout)
    np.testing.assert_array_equal(read_volume(folder / "v.h5", key="in").array, ARRAY)
    for key, words in (("out", "outside of its folder"), ("gone", "not there"), ("raw", "external storage")):
        with pytest.raises(Unreadable, match=words):
            read_volume(folder / "v.h5", key=key)
    with pytest.raises(Unreadable, match=r"secret\.raw.*external storage"):
        read_volume(folder / "raw.h5")


@pytest.mark.parametrize(
    ("name", "packed"), [("v.mha", ""), ("v.nrrd", ""), ("v.mhd", "zraw"), ("v.nhdr", "raw.gz")]
)
def test_a_flipped_bit_in_packed_voxels_is_seen(tmp_path: Path, name: str, packed: str) -> None:
    write_itk(tmp_path / name, np.random.default_rng(0).integers(0, 900, (9, 20, 30)).astype(np.int16))
    read_volume(tmp_path / name)
    path = tmp_path / (f"v.{packed}" if packed else name)
    content = path.read_bytes()
    for at in np.random.default_rng(1).integers(1000, len(content), 30):
        path.write_bytes(content[:at] + bytes([content[at] ^ 4]) + content[at + 1 :])
        with pytest.raises(Unreadable, match=r"checksum|cut short|cannot be read"):
            read_volume(tmp_path / name)
    path.write_bytes(content[:-300])
    with pytest.raises(Unreadable):
        read_volume(tmp_path / name)
