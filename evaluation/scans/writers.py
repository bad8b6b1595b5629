"""Masks back to files, on the grid of the scan that they were drawn on, voxel for voxel.

A label map numbers the objects from 1 in the order in which they are given; where two claim a voxel, it is
the first one's. ``.seg.nrrd`` and DICOM-SEG have room for both. Whatever is written lies under a temporary
name until it is whole.
"""

from __future__ import annotations

import gzip
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from synthfm.data.console import InputError
from synthfm.data.files import replacing, slug
from synthfm.evaluation.formats.dicom_elements import read_elements
from synthfm.evaluation.formats.nifti import read_header, shape_of
from synthfm.evaluation.formats.volume import simpleitk
from synthfm.evaluation.scans.scan import Scan, dicom_files

Mask = NDArray[np.bool_]

COLOURS = (
    (230, 25, 75), (60, 180, 75), (255, 225, 25), (0, 130, 200), (245, 130, 48), (145, 30, 180),
    (70, 240, 240), (240, 50, 230), (210, 245, 60), (250, 190, 212), (0, 128, 128), (170, 110, 40),
)  # fmt: skip
"""Colours of the objects in their order, RGB, told apart by most people with weak colour vision too."""


def write_masks(masks: Mapping[str, Mask], scan: Scan, path: Path, *, separate: bool = False) -> list[Path]:
    """Write the masks of a scan's objects.

    Parameters
    ----------
    masks
        Name to mask, bool (slices, H, W), as `scan` is cut.
    scan
        What they were drawn on; its grid is theirs.
    path
        The file; its suffix, one of :data:`FORMATS`, says which kind.
    separate
        A file an object, each named by `path` with the object's name added, instead of one for all.

    Returns
    -------
    list
        The files that were written.

    Raises
    ------
    InputError
        If there is nothing to write, the suffix is of no such kind, or that kind cannot hold these masks.
    """
    suffix = mask_suffix(path)
    if not masks:
        raise InputError(f"{path}: no object to write")
    for name, mask in masks.items():
        if mask.shape != scan.values.shape:
            raise InputError(f"{path}: the mask of {name} is {mask.shape}, the scan {scan.values.shape}")
    placed = {name: scan.on_grid(np.asarray(mask, bool)) for name, mask in masks.items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    _, write = FORMATS[suffix]
    files = mask_files(list(masks), path, separate=separate)
    for file, some in zip(
        files, [{name: placed[name]} for name in masks] if separate else [placed], strict=True
    ):
        _whole(file, some, scan, write)
    return files


def mask_files(names: Sequence[str], path: Path, *, separate: bool = False) -> list[Path]:
    """The files that :func:`write_masks` writes for objects of these names."""
    suffix = mask_suffix(path)
    stem = path.name[: -len(suffix)]
    return [path.with_name(f"{stem}_{slug(name)}{suffix}") for name in names] if separate else [path]


def default_suffix(scan: Scan) -> str:
    """The kind of file for a scan's masks where nobody has said: that of the scan itself."""
    return {"nifti": ".nii.gz", "nrrd": ".seg.nrrd", "metaimage": ".mha", "dicom": ".dcm"}.get(
        scan.form, ".png" if len(scan.volume.array) == 1 else ".tif"
    )


def label_map(masks: Mapping[str, Mask]) -> NDArray[np.uint8] | NDArray[np.uint16]:
    """Numbers from 1 in the order of the masks, (Z, Y, X); the first one's where several claim a voxel."""
    labels = np.zeros(next(iter(masks.values())).shape, np.uint8 if len(masks) < 256 else np.uint16)
    for number, mask in reversed(list(enumerate(masks.values(), 1))):
        labels[mask] = number
    return labels


def _whole(path: Path, masks: Mapping[str, Mask], scan: Scan, write: _Writer) -> None:
    try:
        with replacing(path) as partial:
            write(partial, masks, scan)
    except _Unfit as error:
        raise InputError(f"{path}: {error}") from error


class _Unfit(Exception):
    """Why a kind of file cannot hold these masks."""


_Writer = Callable[[Path, Mapping[str, Mask], Scan], None]


def _write_nifti(path: Path, masks: Mapping[str, Mask], scan: Scan) -> None:
    import nibabel

    _check_straight(scan)
    voxels: NDArray = label_map(masks).T  # i, j, k
    if scan.form == "nifti":
        header = read_header(scan.path)
        kind = nibabel.Nifti2Image if isinstance(header, nibabel.Nifti2Header) else nibabel.Nifti1Image
        image = kind(voxels.reshape(shape_of(header)[:3]), None, kind.header_class.from_header(header))
        if isinstance(header, nibabel.Nifti1Header):  # the codes and both matrices, to the last bit
            image.header.extensions.clear()  # they may name the patient
        else:  # Analyze has neither
            image.set_sform(header.get_best_affine(), 1)
    else:
        turn = np.diag([-1.0, -1.0, 1.0, 1.0])  # LPS to RAS
        image = nibabel.Nifti1Image(voxels, turn @ scan.grid.affine if scan.grid.measured else None)
        if scan.grid.measured:
            image.header.set_xyzt_units("mm")
            for put in (image.set_qform, image.set_sform):
                put(image.affine, 1 if scan.grid.placed else 0)
    image.set_data_dtype(voxels.dtype)
    image.header["cal_min"] = image.header["cal_max"] = 0
    content = image.to_bytes()
    path.write_bytes(gzip.compress(content, 6, mtime=0))


def _write_plain_nifti(path: Path, masks: Mapping[str, Mask], scan: Scan) -> None:
    _write_nifti(path, masks, scan)
    path.write_bytes(gzip.decompress(path.read_bytes()))


def _write_segmentation(path: Path, masks: Mapping[str, Mask], scan: Scan) -> None:
    """3D Slicer's ``.seg.nrrd``: one layer where no objects overlap, else a layer an object."""
    import slicerio

    _check_straight(scan)
    overlap = len(masks) > 1 and (np.sum(list(masks.values()), axis=0, dtype=np.uint16) > 1).any()
    layers = [mask.T.astype(np.uint8) for mask in masks.values()] if overlap else []
    segments = [
        {
            "id": f"Segment_{k + 1}",
            "name": name,
            "color": [round(value / 255, 6) for value in COLOURS[k % len(COLOURS)]],
            "nameAutoGenerated": False,
            "colorAutoGenerated": False,
            "labelValue": 1 if overlap else k + 1,
            "layer": k if overlap else 0,
            "extent": _extent(mask),
            "status": "completed",
        }
        for k, (name, mask) in enumerate(masks.items())
    ]
    slicerio.write_segmentation(
        str(path),
        {
            "voxels": np.stack(layers) if overlap else label_map(masks).T,
            "ijkToLPS": scan.grid.affine,
            "containedRepresentationNames": ["Binary labelmap", "Closed surface"],
            "segments": segments,
        },
        compression_level=6,
    )


def _extent(mask: Mask) -> list[int]:
    """First and last voxel along i, j, k, as 3D Slicer writes them; of an empty mask 0 and -1."""
    found = []
    for axis in (2, 1, 0):
        used = np.flatnonzero(mask.any(axis=tuple({0, 1, 2} - {axis})))
        found += [int(used[0]), int(used[-1])] if len(used) else [0, -1]
    return found


def _write_metaimage(path: Path, masks: Mapping[str, Mask], scan: Scan) -> None:
    _check_straight(scan)
    sitk, grid = simpleitk(), scan.grid
    labels = label_map(masks)
    axes = 2 if grid.flat else 3
    image = sitk.GetImageFromArray(labels[0] if axes == 2 else labels)
    image.SetSpacing(grid.spacing[:axes])
    image.SetOrigin(grid.origin[:axes])
    image.SetDirection(np.array(grid.direction)[:axes, :axes].ravel().tolist())
    writer = sitk.ImageFileWriter()
    writer.SetImageIO("MetaImageIO")
    whole = path.with_name(f"{path.name}.mha")  # ITK tells by the suffix whether voxels go to the same file
    writer.SetFileName(str(whole))
    writer.SetUseCompression(True)
    try:
        writer.Execute(image)
        whole.replace(path)
    finally:
        whole.unlink(missing_ok=True)


def _write_dicom(path: Path, masks: Mapping[str, Mask], scan: Scan) -> None:
    """DICOM-SEG that refers to the instances of the scan's own series."""
    import highdicom as hd
    from pydicom.sr.codedict import codes
    from pydicom.uid import generate_uid

    if scan.form != "dicom":
        raise _Unfit(
            f"a DICOM-SEG refers to DICOM images, and the scan is {scan.path.name}; give another suffix"
        )
    empty = [name for name, mask in masks.items() if not mask.any()]
    if len(empty) == len(masks):
        raise _Unfit(
            f"{', '.join(empty)}: the mask is empty, which a DICOM-SEG cannot say; give another suffix"
        )
    files = dicom_files(scan.path, scan.volume)
    images = [read_elements(file) for file in files]
    pixels: Any = np.stack(list(masks.values()), axis=-1).astype(np.uint8)
    if len(files) == 1 and len(pixels) > 1 and scan.grid.placed:  # a frame a slice, in any order
        affine = scan.grid.affine[:, [2, 1, 0, 3]]
        pixels = hd.Volume(
            pixels,
            affine,
            coordinate_system="PATIENT",
            frame_of_reference_uid=images[0].FrameOfReferenceUID,
            channels={"SegmentNumber": list(range(1, len(masks) + 1))},
        )
    algorithm = hd.AlgorithmIdentificationSequence(
        name="SynthFM", version=version("synthfm"), family=codes.DCM.ArtificialIntelligence
    )
    described = [
        hd.seg.SegmentDescription(
            segment_number=k + 1,
            segment_label=name[:64],
            segmented_property_category=codes.SCT.AnatomicalStructure,
            segmented_property_type=codes.SCT.AnatomicalStructure,
            algorithm_type=hd.seg.SegmentAlgorithmTypeValues.SEMIAUTOMATIC,
            algorithm_identification=algorithm,
            display_color=hd.color.CIELabColor.from_rgb(*COLOURS[k % len(COLOURS)]),
        )
        for k, name in enumerate(masks)
    ]
    try:
        segmentation = hd.seg.Segmentation(
            source_images=images,
            pixel_array=pixels,
            segmentation_type=hd.seg.SegmentationTypeValues.BINARY,
            segment_descriptions=described,
            series_instance_uid=generate_uid(),
            series_number=100,
            sop_instance_uid=generate_uid(),
            instance_number=1,
            manufacturer="SynthFM",
            manufacturer_model_name="SynthFM",
            software_versions=version("synthfm"),
            device_serial_number="1",
            content_label="SEGMENTATION",
        )
    except (AttributeError, KeyError, ValueError) as error:  # of headers that lack what the standard asks for
        raise _Unfit(
            f"a DICOM-SEG cannot refer to these images: {' '.join(str(error).split())}; give another suffix"
        ) from error
    segmentation.save_as(path)


def write_slice(masks: Mapping[str, Mask], path: Path) -> None:
    """Write the masks of one slice, bool (H, W) each, as a PNG of the slice's size."""
    from PIL import Image

    labels = _visible(label_map(masks), masks)
    with replacing(path) as partial:
        Image.fromarray(np.ascontiguousarray(labels)).save(partial, format="PNG")


def _write_png(path: Path, masks: Mapping[str, Mask], scan: Scan) -> None:
    slices = {name: scan.by_slice(mask) for name, mask in masks.items()}
    count = len(next(iter(slices.values())))
    if count > 1:
        raise _Unfit(f"a PNG holds one slice, and the scan has {count}; give .nii.gz or .seg.nrrd")
    write_slice({name: found[0] for name, found in slices.items()}, path)


def _write_tiff(path: Path, masks: Mapping[str, Mask], scan: Scan) -> None:
    import tifffile

    tifffile.imwrite(path, _visible(label_map(masks), masks), compression="zlib", photometric="minisblack")


def _visible(labels: NDArray, masks: Mapping[str, Mask]) -> NDArray:
    """A picture of one object is black and white; of several it holds their numbers."""
    return labels * np.uint8(255) if len(masks) == 1 else labels


def _check_straight(scan: Scan) -> None:
    if scan.sheared:
        raise _Unfit(
            "the slices do not lie above each other (a tilted gantry): only DICOM-SEG can say so; give .dcm"
        )


FORMATS: dict[str, tuple[str, _Writer]] = {
    ".nii.gz": ("NIfTI", _write_nifti),
    ".nii": ("NIfTI, not compressed", _write_plain_nifti),
    ".seg.nrrd": ("NRRD as 3D Slicer writes it, with names and colours", _write_segmentation),
    ".nrrd": ("the same", _write_segmentation),
    ".mha": ("MetaImage", _write_metaimage),
    ".dcm": ("DICOM-SEG", _write_dicom),
    ".png": ("PNG, one slice", _write_png),
    ".tif": ("TIFF, a page a slice", _write_tiff),
    ".tiff": ("the same", _write_tiff),
}
"""Suffix to what it is and its writer."""


def mask_suffix(path: Path) -> str:
    """Which of :data:`FORMATS` a file's name ends in.

    Raises
    ------
    InputError
        If in none.
    """
    for suffix in FORMATS:
        if path.name.lower().endswith(suffix):
            return suffix
    raise InputError(f"{path}: no kind of mask file ends so; expected one of {', '.join(FORMATS)}")
