"""Label maps and images as files: which there are, which belong together, and their slices as arrays."""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import skimage
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from synthfm.data.console import InputError, Progress
from synthfm.data.files import natural, sha256
from synthfm.generator.config import GeneratorConfig
from synthfm.generator.labelled import (
    LabelledConfig,
    LabelMap,
    LabelsConfig,
    check_given,
    fitted,
    fitted_image,
    shows_objects,
)

SUFFIXES = (".png", ".tif", ".tiff", ".npy", ".npz", ".nii", ".nii.gz")


@dataclass(frozen=True)
class Given:
    """One slice of a label map's file, and the file of its image, if there is one."""

    labels: Path
    slice: int
    image: Path | None = None

    def __str__(self) -> str:
        return f"{self.labels}, slice {self.slice}" if self.slice else str(self.labels)


def suffix_of(path: Path) -> str:
    """A file's suffix in lower case, ``.nii.gz`` as one."""
    name = path.name.lower()
    return ".nii.gz" if name.endswith(".nii.gz") else Path(name).suffix


def find_pairs(given: Sequence[Path], images: Path | None) -> list[tuple[Path, Path | None]]:
    """The files of label maps, those of a folder in natural order, and the image of each.

    An image has the name of its label map in the folder `images`, or that name and ``_0000`` (nnU-Net's first
    channel), with any of the known suffixes. Of one label map `images` may be the file itself.

    Raises
    ------
    InputError
        If there are none, or an image is missing or not the only one of its name.
    """
    found: list[tuple[Path, Path]] = []  # the file, and its place in what was given
    for path in given:
        if path.is_dir():
            inside = [file for file in path.rglob("*") if file.is_file() and suffix_of(file) in SUFFIXES]
            if not inside:
                raise InputError(f"{path}: holds no label map; expected files of {', '.join(SUFFIXES)}")
            inside.sort(key=lambda file: natural(file.relative_to(path).as_posix()))
            found += [(file, file.relative_to(path)) for file in inside]
        elif not path.is_file():
            raise InputError(f"{path}: no such file or folder")
        else:
            found.append((path, Path(path.name)))
    if images is None:
        return [(file, None) for file, _ in found]
    if not images.exists():
        raise InputError(f"{images}: no such folder of images")
    if images.is_file():
        if len(found) > 1:
            raise InputError(
                f"{images}: one image for {len(found)} label maps; give the folder of their images"
            )
        return [(found[0][0], images)]
    return [(file, _image_of(file, place, images)) for file, place in found]


def _image_of(file: Path, place: Path, images: Path) -> Path:
    stem = place.name[: -len(suffix_of(place))]
    there = [
        images / place.with_name(name + suffix)
        for name in (stem, f"{stem}_0000")
        for suffix in SUFFIXES
        if (images / place.with_name(name + suffix)).is_file()
    ]
    there = [path for path in there if path.resolve() != file.resolve()]
    if len(there) != 1:
        wanted = f"{images / place.with_name(stem)} or {stem}_0000 with one of {', '.join(SUFFIXES)}"
        several = (
            f"{', '.join(path.name for path in there)} may both be its image" if there else "has no image"
        )
        raise InputError(f"{file}: {several}; expected one file {wanted}")
    return there[0]


def survey(
    given: Sequence[Path], images: Path | None, config: GeneratorConfig, labels: LabelsConfig
) -> tuple[LabelledConfig, list[Given], int]:
    """The config of the dataset, the slices of which samples can be made, and the number of all slices.

    `labels` is without its SHA-256. Every file is read.

    Raises
    ------
    InputError
        If a file cannot be read or is no label map, an image is not of its size, or no slice has an object
        of `shapes.min_area` pixels.
    """
    if config.makes_volumes:
        raise InputError("from-labels makes single images, of each slice one; leave volume.depth at 1")
    check_given(labels)
    digest, slices, total = hashlib.sha256(), list[Given](), 0
    for path, image in Progress(iterable=find_pairs(given, images), unit="file"):
        array = read_labels(path)
        digest.update(sha256(path).encode())
        if image is not None:
            digest.update(sha256(image).encode())
            shape = read_image(image, labels.window).shape
            if shape != array.shape:
                raise InputError(f"{image}: is {_size(shape)}, its label map {path} {_size(array.shape)}")
        total += len(array)
        for number in range(len(array)):
            one = Given(path, number, image)
            if shows_objects(read_map(one, config.size, labels), config.shapes.min_area):
                slices.append(one)
    if not slices:
        raise InputError(
            f"{given[0]}{' and others' * (len(given) > 1)}: no slice holds an object of at least "
            f"{config.shapes.min_area} pixels at size {config.size} (0 is background); give a larger --size, "
            "or --set shapes.min_area="
        )
    labelled = LabelledConfig.model_validate(
        config.model_dump()
        | {"labels": labels.model_copy(update={"sha256": digest.hexdigest()}).model_dump()}
    )
    return labelled, slices, total


def _size(shape: tuple[int, ...]) -> str:
    slices, height, width = shape
    return f"{width} x {height}" + f" x {slices}" * (slices > 1)


def read_map(given: Given, size: int, labels: LabelsConfig) -> LabelMap:
    """One slice's label map in a frame; :class:`InputError` if there is none."""
    try:
        return fitted(read_labels(given.labels)[given.slice], size, labels)
    except InputError as error:
        raise error if str(given.labels) in str(error) else InputError(f"{given}: {error}") from error
    except IndexError as error:
        raise InputError(f"{given}: not there any more; the file was changed") from error


def read_slice(given: Given, size: int, window: tuple[float, float] | None) -> NDArray[np.uint8]:
    """One slice's image in a frame."""
    assert given.image is not None
    return fitted_image(read_image(given.image, window)[given.slice], size)


@lru_cache(maxsize=2)  # the slices of a file are asked for one after the other
def read_labels(path: Path) -> NDArray[np.integer]:
    """A label map, integers (slices, H, W).

    Raises
    ------
    InputError
        If it cannot be read, or holds colours or fractions.
    """
    array = _read(path, numbers=True)
    if array.ndim == 4:
        raise InputError(
            f"{path}: a colour picture; a label map holds numbers, one a pixel (grey, or a palette's indices)"
        )
    if array.dtype.kind not in "iub" and not (np.isfinite(array).all() and (array == np.rint(array)).all()):
        raise InputError(
            f"{path}: holds fractions, or values that are no numbers; a label map holds integers"
        )
    return array.astype({"b": np.uint8, "f": np.int32}.get(array.dtype.kind, array.dtype), copy=False)


@lru_cache(maxsize=2)
def read_image(path: Path, window: tuple[float, float] | None) -> NDArray[np.uint8]:
    """An image as grey levels, uint8 (slices, H, W).

    The ends of the `window` become black and white. Without one 8-bit values stay, and of others the
    percentiles 0.5 and 99.5 of what is not 0 become black and white. Colours become their luminance.
    """
    array = _read(path, numbers=False)
    if array.ndim == 4:
        eight = array.dtype == np.uint8
        array = array[..., :3] @ np.array([0.299, 0.587, 0.114])
        array = np.rint(array).astype(np.uint8) if eight else array
    if array.dtype == bool:
        array = array.astype(np.uint8) * np.uint8(255)
    if not np.isfinite(array).all():
        raise InputError(f"{path}: holds values that are no numbers (NaN or infinity)")
    if window is None and array.dtype == np.uint8:
        return array
    low, high = window or tuple(np.percentile(array[array != 0] if array.any() else array, (0.5, 99.5)))
    unit = np.clip((array.astype(np.float32) - np.float32(low)) / np.float32(max(high - low, 1e-6)), 0, 1)
    return np.rint(unit * 255).astype(np.uint8)


def _read(path: Path, numbers: bool) -> NDArray:
    """A file's array, slices first, (slices, H, W), and of a colour picture (1, H, W, channels).

    Of a picture with a palette its `numbers` are taken, or its colours.
    """
    suffix = suffix_of(path)
    try:
        if suffix == ".png":
            with Image.open(path) as picture:
                coloured = picture.mode == "P" and not numbers
                plain = (
                    {"LA": "L", "P": "RGB"}.get(picture.mode) if coloured or picture.mode == "LA" else None
                )
                array = np.asarray(picture.convert(plain) if plain else picture)
        elif suffix in (".tif", ".tiff"):
            array = skimage.io.imread(path)
        elif suffix in (".npy", ".npz"):
            array = _read_array(path)
        elif suffix in (".nii", ".nii.gz"):
            return _read_nifti(path)
        else:
            raise InputError(f"{path}: unknown kind of file; expected one of {', '.join(SUFFIXES)}")
    except InputError:
        raise
    except (OSError, ValueError, EOFError, SyntaxError, UnidentifiedImageError, zlib.error) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise InputError(
            f"{path}: cannot be read as {suffix}: damaged, or of another kind ({error})"
        ) from error
    if array.dtype.kind not in "biuf" or not array.size:
        raise InputError(
            f"{path}: holds {array.dtype} {array.shape}, expected numbers (H, W) or (slices, H, W)"
        )
    if array.ndim == 3 and array.shape[-1] in (3, 4) and suffix in (".png", ".tif", ".tiff"):
        return array[None]
    if array.ndim not in (2, 3):
        raise InputError(f"{path}: has {array.ndim} axes, expected (H, W) or (slices, H, W)")
    return array.reshape(-1, *array.shape[-2:])


def _read_array(path: Path) -> NDArray:
    content = np.load(path, allow_pickle=False)
    if isinstance(content, np.ndarray):
        return content
    with content:
        if len(content.files) != 1:
            raise InputError(f"{path}: holds the arrays {', '.join(content.files)}; expected one")
        return content[content.files[0]]


def _read_nifti(path: Path) -> NDArray:
    """A NIfTI volume as a radiologist sees it, in slices across the axis of the largest spacing."""
    try:
        import nibabel
    except ModuleNotFoundError as error:
        raise InputError(f"{path}: reading NIfTI needs nibabel: pip install nibabel") from error
    try:
        volume = nibabel.as_closest_canonical(nibabel.load(path))  # x to the right, y forward, z up
        array = np.asanyarray(volume.dataobj)
    except (nibabel.filebasedimages.ImageFileError, nibabel.spatialimages.HeaderDataError) as error:
        raise InputError(f"{path}: not a NIfTI file, or cut short ({error})") from error
    while array.ndim > 3 and array.shape[-1] == 1:
        array = array[..., 0]
    array = array[..., None] if array.ndim == 2 else array
    if array.ndim != 3 or not array.size:
        raise InputError(f"{path}: has the shape {array.shape}, expected one volume (x, y, z)")
    spacing = np.asarray(volume.header.get_zooms()[:3], float)
    axis = 2 if len(spacing) < 3 or spacing.max() < 1.05 * spacing[2] else int(spacing.argmax())
    if axis == 0:  # sagittal: the head and the front first
        return array[:, ::-1, ::-1].transpose(0, 2, 1)
    if axis == 1:  # coronal: the head first, and the patient's right on the left
        return array[::-1, :, ::-1].transpose(1, 2, 0)
    return array[::-1, ::-1].transpose(2, 1, 0)
