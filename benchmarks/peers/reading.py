"""Scans from files: our reader, which turns and checks them, beside nibabel and pydicom by hand."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

from peers.turns import OURS, Contender
from synthfm.evaluation.formats.readers import read_volume

SLICES, SIZE, TIMES = 40, 256, 8


def scan() -> NDArray[np.int16]:
    """A smooth volume with noise, as well compressed as scans are."""
    z, y, x = np.indices((SLICES, SIZE, SIZE), np.float32)
    clean = 400 * np.sin(x / 30) * np.cos(y / 20 + z / 15)
    return (clean + np.random.default_rng(0).normal(0, 20, clean.shape)).astype(np.int16)


def often(read: Callable[[Path], object], path: Path) -> Callable[[], int]:
    """Some times in a turn, as one takes a few hundredths of a second."""

    def work() -> int:
        for _ in range(TIMES):
            read(path)
        return TIMES

    return work


def nifti(folder: Path) -> list[Contender]:
    """Volumes from .nii.gz."""
    path = folder / "scan.nii.gz"
    nibabel.save(nibabel.Nifti1Image(scan().T, np.diag([0.8, 0.8, 3, 1])), path)
    return [
        Contender(OURS, "synthfm", often(lambda path: read_volume(path).array, path)),
        Contender(
            "nibabel by hand",
            "nibabel",
            often(
                lambda path: nibabel.as_closest_canonical(nibabel.load(path)).get_fdata(dtype=np.float32),
                path,
            ),
        ),
    ]


def dicom(folder: Path) -> list[Contender]:
    """Series of one slice a file."""
    series = folder / "series"
    series.mkdir()
    for number, plane in enumerate(scan()):
        write_slice(series / f"{number}.dcm", plane, number)

    def by_hand(path: Path) -> NDArray[np.float32]:
        slices = sorted(
            (pydicom.dcmread(one) for one in path.iterdir()), key=lambda s: s.ImagePositionPatient[2]
        )
        return np.stack([s.pixel_array * np.float32(s.RescaleSlope) + s.RescaleIntercept for s in slices])

    return [
        Contender(OURS, "synthfm", often(lambda path: read_volume(path).array, series)),
        Contender("pydicom by hand", "pydicom", often(by_hand, series)),
    ]


UIDS = [generate_uid() for _ in range(3)]


def write_slice(path: Path, plane: NDArray[np.int16], number: int) -> None:
    data = pydicom.Dataset()
    data.file_meta = pydicom.dataset.FileMetaDataset()
    data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data.SOPClassUID, data.SOPInstanceUID = CTImageStorage, generate_uid()
    data.StudyInstanceUID, data.SeriesInstanceUID, data.FrameOfReferenceUID = UIDS
    data.Modality, data.PatientID, data.PatientName, data.InstanceNumber = "CT", "1", "a^b", number + 1
    data.ImagePositionPatient, data.ImageOrientationPatient = [0, 0, 3.0 * number], [1, 0, 0, 0, 1, 0]
    data.PixelSpacing, data.SliceThickness = [0.8, 0.8], 3
    data.RescaleSlope, data.RescaleIntercept = 1, 0
    data.Rows, data.Columns = plane.shape
    data.BitsAllocated, data.BitsStored, data.HighBit, data.PixelRepresentation = 16, 16, 15, 1
    data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
    data.PixelData = plane.tobytes()
    data.save_as(path, enforce_file_format=True)
