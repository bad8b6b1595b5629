"""Files that claim, or unpack to, more than they are; and checksums that their readers leave unread."""

from __future__ import annotations

import gzip
import io
import tracemalloc
import zipfile
import zlib
from pathlib import Path

import h5py
import numpy as np
import pydicom
import pytest
import tifffile
from PIL import Image

from synthfm.evaluation.formats.readers import count_frames, read_volume
from synthfm.evaluation.formats.volume import Unreadable
from tests.support.files import blocks, picture_of, write_dicom_series, write_itk

RNG = np.random.default_rng(0)
LABEL = blocks((8, 30, 40), [1, 2])
IMAGE = picture_of(LABEL, RNG)


def _npz_of_a_wrong_header(path: Path) -> None:
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        header, {"shape": (40_000, 400_000), "fortran_order": False, "descr": "<f8"}
    )
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.npy", header.getvalue() + bytes(1000))


def _npz_that_unpacks(path: Path) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("a.npy", "w") as handle:
        shape = {"shape": (15, 2000, 2000), "fortran_order": False, "descr": "|u1"}
        np.lib.format.write_array_header_1_0(handle, shape)
        for _ in range(15):
            handle.write(bytes(4_000_000))


def _npy(path: Path) -> None:
    with open(path, "wb") as handle:
        np.lib.format.write_array_header_1_0(
            handle, {"shape": (10**6, 10**6), "fortran_order": False, "descr": "<f8"}
        )


def _hdf5_without_chunks(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file.create_dataset("a", (2000, 2000, 2000), "float64")


def _hdf5_of_one_value(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file.create_dataset("a", (2000, 2000, 2000), "float64", chunks=(1, 2000, 2000), compression="gzip")


def _picture(path: Path) -> None:
    Image.new("L", (8, 8)).save(path)
    content = bytearray(path.read_bytes())
    content[16:24] = (30_000).to_bytes(4, "big") * 2
    content[29:33] = zlib.crc32(content[12:29]).to_bytes(4, "big")
    path.write_bytes(content)


def _strip(path: Path) -> None:
    """A strip of 64 x 64 pixels that unpacks to 100 MB."""
    packer = zlib.compressobj()
    packed = b"".join(packer.compress(bytes(1 << 20)) for _ in range(100)) + packer.flush()
    tifffile.imwrite(path, np.zeros((64, 64), np.uint8), compression="zlib")
    with tifffile.TiffFile(path) as file:
        (place,), (tag,) = [file.pages[0].dataoffsets], [file.pages[0].tags["StripByteCounts"]]
        offset = tag.valueoffset
        offsets = file.pages[0].tags["StripOffsets"].valueoffset
        assert place
        order, width = file.byteorder, {3: 2, 4: 4}[tag.dtype]
        assert file.pages[0].tags["StripOffsets"].dtype == 4
    content = bytearray(path.read_bytes())
    end = len(content)
    kind = "little" if order == "<" else "big"
    content[offset - 8 + 2 : offset - 8 + 4] = (4).to_bytes(2, kind)  # a count of four bytes
    content[offset : offset + 4] = len(packed).to_bytes(4, kind)
    content[offsets : offsets + 4] = end.to_bytes(4, kind)
    assert width
    path.write_bytes(bytes(content) + packed)


def _tiff(path: Path) -> None:
    tifffile.imwrite(path, np.zeros((64, 64), np.uint8))
    with tifffile.TiffFile(path) as file:
        places = [file.pages[0].tags[name] for name in ("ImageWidth", "ImageLength")]
        width = {3: 2, 4: 4}[places[0].dtype]
        kind = "little" if file.byteorder == "<" else "big"
    content = bytearray(path.read_bytes())
    for tag in places:
        content[tag.valueoffset : tag.valueoffset + width] = (60_000).to_bytes(width, kind)
    path.write_bytes(content)


def _nrrd(path: Path) -> None:
    sizes = "type: double\ndimension: 3\nsizes: 3000 3000 3000\nencoding: raw\nendian: little\n\n"
    path.write_bytes(b"NRRD0004\n" + sizes.encode() + bytes(1000))


def _mha(path: Path) -> None:
    header = "ObjectType = Image\nNDims = 3\nDimSize = 3000 3000 3000\nElementType = MET_DOUBLE\n"
    path.write_bytes(
        (header + "CompressedData = True\nElementDataFile = LOCAL\n").encode() + zlib.compress(bytes(99))
    )


def _tail(path: Path) -> None:
    """NIfTI, and after its voxels zeros without end."""
    write_itk(path, IMAGE)
    content = gzip.decompress(path.read_bytes())
    with gzip.open(path, "wb") as handle:
        handle.write(content)
        for _ in range(60):
            handle.write(bytes(1 << 20))


def _deflated(path: Path) -> None:
    (file,) = write_dicom_series(path.parent / "series", IMAGE[:1])
    header = pydicom.dcmread(file)
    header.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.1.99"
    header.save_as(path)
    content = path.read_bytes()
    start = 144 + int.from_bytes(content[140:144], "little")
    packer = zlib.compressobj(wbits=-15)
    packed = [packer.compress(zlib.decompress(content[start:], -15))]
    packed += [packer.compress(bytes(1 << 20)) for _ in range(60)] + [packer.flush()]
    path.write_bytes(content[:start] + b"".join(packed))


def _frames(path: Path) -> None:
    (file,) = write_dicom_series(path.parent / "series", IMAGE[:1])
    header = pydicom.dcmread(file)
    header.NumberOfFrames = 1_000_000
    header.save_as(path)


BOMBS = {
    "a.npz": _npz_of_a_wrong_header,
    "b.npz": _npz_that_unpacks,
    "a.npy": _npy,
    "a.h5": _hdf5_without_chunks,
    "b.h5": _hdf5_of_one_value,
    "a.png": _picture,
    "a.tif": _tiff,
    "b.tif": _strip,
    "a.nrrd": _nrrd,
    "a.mha": _mha,
    "a.nii.gz": _tail,
    "a.dcm": _deflated,
    "b.dcm": _frames,
}


@pytest.mark.parametrize("name", BOMBS)
def test_a_file_that_claims_more_than_it_is_is_refused_before_memory_is_asked_for(
    name, tmp_path, monkeypatch
):
    monkeypatch.setenv("SYNTHFM_MAX_GB", "0.05")  # so that a file of zeros that is too large is made at once
    path = tmp_path / name
    BOMBS[name](path)
    assert path.stat().st_size < 5e6
    tracemalloc.start()
    try:
        with pytest.raises(Unreadable, match=r"SYNTHFM_MAX_GB|cut short|unpacks to more than its"):
            read_volume(path)
        assert tracemalloc.get_traced_memory()[1] < 6e7
    finally:
        tracemalloc.stop()


def test_frames_are_not_counted_in_a_file_that_claims_more_than_it_is(tmp_path):
    _npy(tmp_path / "a.npy")
    with pytest.raises(Unreadable, match="cut short"):
        count_frames(tmp_path / "a.npy")


def test_the_setting_lets_a_large_file_in(tmp_path, monkeypatch):
    np.savez_compressed(tmp_path / "a.npz", a=np.zeros((40, 50, 60), np.uint8))
    monkeypatch.setenv("SYNTHFM_MAX_GB", "0.0001")
    with pytest.raises(
        Unreadable, match=r"unpacks to 120128 bytes from \S+ bytes, .* SYNTHFM_MAX_GB=\S+ raises that"
    ):
        read_volume(tmp_path / "a.npz")
    monkeypatch.setenv("SYNTHFM_MAX_GB", "0.001")
    assert read_volume(tmp_path / "a.npz").array.shape == (40, 50, 60)


@pytest.mark.parametrize("name", ["a.mha", "a.mhd", "a.nrrd", "a.nhdr", "a.nii.gz"])
def test_a_flipped_bit_in_compressed_voxels_is_found(name, tmp_path):
    """Half of the flips at the stream's end, where its checksum is: ITK does not read that far."""
    path = write_itk(tmp_path / name, IMAGE)
    whole = read_volume(path).array
    refused = 0
    file = max(tmp_path.iterdir(), key=lambda one: one.stat().st_size)
    content = file.read_bytes()
    start = max(0, content.find(b"LOCAL\n"), content.find(b"\n\n")) + 20 if file == path else 20
    places = np.concatenate(
        [
            RNG.integers(8 * start, 8 * len(content), 12),
            RNG.integers(8 * len(content) - 60, 8 * len(content), 12),
        ]
    )
    if name == "a.nii.gz" or "nrrd" in name or "nhdr" in name:  # the last four bytes of gzip are a length
        places = places[places < 8 * (len(content) - 4)]
    for place in places:
        damaged = bytearray(content)
        damaged[place // 8] ^= 1 << place % 8
        file.write_bytes(damaged)
        try:
            found = read_volume(path).array
        except Unreadable:
            refused += 1
        else:  # deflate fills its last byte up with bits that say nothing
            np.testing.assert_array_equal(found, whole)
    assert refused > len(places) / 2


def test_a_damaged_file_is_one_reason_whatever_its_library_raises(tmp_path, monkeypatch):
    write_itk(tmp_path / "a.nrrd", IMAGE)
    monkeypatch.setattr("synthfm.evaluation.formats.readers._read", lambda *_: 1 / 0)
    with pytest.raises(Unreadable, match=r"^cannot be read: division by zero$"):
        read_volume(tmp_path / "a.nrrd")
