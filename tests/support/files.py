"""Small real files in every format that the evaluation reads, for its tests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from numpy.typing import NDArray
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid
from skimage import io

REALDATA = Path(__file__).parents[3] / "shared" / "realdata"
needs_realdata = pytest.mark.skipif(
    not REALDATA.is_dir(), reason="../shared/realdata is absent: the excerpts of public datasets are not here"
)


def blocks(shape: tuple[int, ...], labels: list[int]) -> NDArray[np.uint8]:
    """A label map (Z, Y, X) or (Y, X): blocks of 9 x 9 pixels, 11 apart, in the later slices but the last.

    Nothing about it is symmetric, so that a flip, a transposition or a reversed order shows.
    """
    label = np.zeros(shape if len(shape) == 3 else (3, *shape), np.uint8)
    for k, number in enumerate(labels):
        y, x = 2 + 11 * (k // 5), 2 + 11 * (k % 5)
        label[len(label) // 2 : -1, y : y + 9, x : x + 9] = number
    return label if len(shape) == 3 else label[1]


def picture_of(label: NDArray, rng: np.random.Generator, dtype: str = "int16") -> NDArray:
    """An image that is brighter by 10 for each label number, on noise around 40."""
    return (40 + 10 * label.astype(float) + rng.normal(0, 2, label.shape)).astype(dtype)


def write_itk(
    path: Path,
    array: NDArray,
    spacing: tuple[float, ...] = (1.0, 1.0, 1.0),
    direction: str = "LPS",
    origin: tuple[float, ...] | None = None,
) -> Path:
    """Write NIfTI, MetaImage or NRRD; spacing and origin are (x, y, z[, t])."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = sitk.GetImageFromArray(array, isVector=False)
    image.SetSpacing([*spacing, 1.0, 1.0][: image.GetDimension()])
    if image.GetDimension() == 3:
        cosines = sitk.DICOMOrientImageFilter.GetDirectionCosinesFromOrientation(direction)
        image.SetDirection(cosines)
        image.SetOrigin(origin or (0.0, 0.0, 0.0))
    sitk.WriteImage(image, str(path), useCompression=True)
    return path


def write_picture(path: Path, array: NDArray) -> Path:
    """Write PNG, TIFF or JPEG."""
    path.parent.mkdir(parents=True, exist_ok=True)
    io.imsave(path, array, check_contrast=False)
    return path


def write_dicom_series(
    folder: Path,
    array: NDArray,
    names: list[str] | None = None,
    *,
    spacing: tuple[float, float, float] = (5.0, 1.0, 1.0),
    slope: float = 1.0,
    intercept: float = 0.0,
    photometric: str = "MONOCHROME2",
    descending: bool = False,
) -> list[Path]:
    """Write one DICOM file a slice of stored values (Z, Y, X); slice k at depth k, or at -k if descending."""
    folder.mkdir(parents=True, exist_ok=True)
    series, study, frame = (
        generate_uid(entropy_srcs=[str(folder), key]) for key in ("series", "study", "frame")
    )
    paths = []
    for k, stored in enumerate(array):
        meta = FileMetaDataset()
        meta.MediaStorageSOPClassUID = CTImageStorage
        meta.MediaStorageSOPInstanceUID = generate_uid(entropy_srcs=[str(folder), str(k)])
        meta.TransferSyntaxUID = ExplicitVRLittleEndian
        path = folder / (names[k] if names else f"i{k:04d},0000b.dcm")
        file = FileDataset(str(path), {}, file_meta=meta, preamble=b"\0" * 128)
        file.SOPClassUID, file.SOPInstanceUID = CTImageStorage, meta.MediaStorageSOPInstanceUID
        file.PatientID, file.PatientName, file.Modality = "1", "Test^Case", "CT"
        file.PatientBirthDate = file.PatientSex = file.AccessionNumber = file.StudyID = ""
        file.StudyDate = file.StudyTime = file.ReferringPhysicianName = ""
        file.SeriesNumber, file.InstanceNumber = 1, k + 1
        file.SeriesInstanceUID, file.StudyInstanceUID, file.FrameOfReferenceUID = series, study, frame
        z = -k * spacing[0] if descending else k * spacing[0]
        file.ImagePositionPatient, file.ImageOrientationPatient = [0, 0, z], [1, 0, 0, 0, 1, 0]
        file.PixelSpacing, file.SliceThickness = [spacing[1], spacing[2]], spacing[0]
        file.SamplesPerPixel, file.PhotometricInterpretation = 1, photometric
        file.Rows, file.Columns = stored.shape
        file.BitsAllocated = file.BitsStored = 16
        file.HighBit, file.PixelRepresentation = 15, 1
        file.RescaleSlope, file.RescaleIntercept = slope, intercept
        file.PixelData = stored.astype("<i2").tobytes()
        file.save_as(path, enforce_file_format=True)
        paths.append(path)
    return paths


def _item(elements: dict[str, Any]) -> pydicom.Dataset:
    item = pydicom.Dataset()
    for keyword, value in elements.items():
        setattr(item, keyword, value)
    return item


def edit_dicom(path: Path, **elements: Any) -> Path:
    """Set elements of a DICOM file, dictionaries as items of a sequence; None takes one out."""
    file = pydicom.dcmread(path)
    for keyword, value in elements.items():
        if isinstance(value, list) and isinstance(value[0], dict):
            setattr(file, keyword, [_item(elements) for elements in value])
        elif isinstance(value, pydicom.DataElement):  # where the keyword does not tell the type
            file.add(value)
        elif value is not None:
            setattr(file, keyword, value)
        elif keyword in file:
            delattr(file, keyword)
    file.save_as(path)
    return path


def write_enhanced(path: Path, series: list[Path], order: list[int]) -> Path:
    """Join the files of a CT series to one multi-frame object, with highdicom, in an order of frames."""
    import highdicom as hd

    required = {"KVP": "120", "PatientPosition": "HFS", "PositionReferenceIndicator": ""}
    required |= {"Manufacturer": "test", "ManufacturerModelName": "test", "SoftwareVersions": "1"}
    required |= {"DeviceSerialNumber": "1", "RescaleType": "HU", "WindowCenter": 40, "WindowWidth": 400}
    required |= dict.fromkeys(("StudyDate", "ContentDate", "AcquisitionDate"), "20200101")
    required |= dict.fromkeys(("StudyTime", "ContentTime", "AcquisitionTime"), "000000")
    files = [pydicom.dcmread(file) for file in series]
    for file in files:
        file.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
        for keyword, value in required.items():
            setattr(file, keyword, value)
    path.parent.mkdir(parents=True, exist_ok=True)
    enhanced = hd.legacy.LegacyConvertedEnhancedCTImage(
        files,
        series_instance_uid=generate_uid(),
        series_number=3,
        sop_instance_uid=generate_uid(),
        instance_number=1,
    )
    groups = list(enhanced.PerFrameFunctionalGroupsSequence)
    positions = [group.PlanePositionSequence[0].ImagePositionPatient for group in groups]
    chosen = [positions.index(files[k].ImagePositionPatient) for k in order]
    enhanced.PerFrameFunctionalGroupsSequence = [groups[k] for k in chosen]
    enhanced.PixelData = enhanced.pixel_array[chosen].tobytes()
    enhanced.save_as(path)
    return path


def write_dicom_seg(
    path: Path, series: list[Path], segments: dict[str, NDArray], kind: str = "BINARY"
) -> Path:
    """Write a DICOM-SEG object of masks (Z, Y, X) over the files of a series, with highdicom.

    Masks are bool, or of the kind FRACTIONAL from 0 to 1.
    """
    import highdicom as hd
    from pydicom.sr.codedict import codes

    path.parent.mkdir(parents=True, exist_ok=True)
    descriptions = [
        hd.seg.SegmentDescription(
            segment_number=k,
            segment_label=name,
            segmented_property_category=codes.SCT.Organ,
            segmented_property_type=codes.SCT.Liver,
            algorithm_type=hd.seg.SegmentAlgorithmTypeValues.MANUAL,
        )
        for k, name in enumerate(segments, start=1)
    ]
    hd.seg.Segmentation(
        source_images=[pydicom.dcmread(file) for file in series],
        pixel_array=np.stack(list(segments.values()), axis=-1).astype(
            np.uint8 if kind == "BINARY" else float
        ),
        segmentation_type=hd.seg.SegmentationTypeValues[kind],
        segment_descriptions=descriptions,
        series_instance_uid=generate_uid(),
        series_number=2,
        sop_instance_uid=generate_uid(),
        instance_number=1,
        manufacturer="test",
        manufacturer_model_name="test",
        software_versions="1",
        device_serial_number="1",
    ).save_as(path)
    return path


def cut_short(path: Path, part: float = 0.5) -> Path:
    """Truncate a file to a part of its length."""
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * part)])
    return path


LABEL = blocks((8, 30, 40), [1, 2])
"""Two structures in the slices 4, 5 and 6."""


def write_pair(folder: Path, name: str, label: NDArray, image: NDArray | None = None, **grid: Any) -> NDArray:
    """A volume and its label map side by side, as `cases.descriptor` expects them; the volume."""
    image = picture_of(label, np.random.default_rng(0)) if image is None else image
    write_itk(folder / f"{name}.nii.gz", image, **grid)
    write_itk(folder / f"{name}_label.nii.gz", label, **grid)
    return image
