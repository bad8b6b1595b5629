"""What the page can show: cases of datasets, with their references, and the user's own files."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from synthfm.data.console import InputError
from synthfm.data.shards import Modality
from synthfm.evaluation.cases.cases import Case, Failure, Object, iter_cases
from synthfm.evaluation.cases.descriptor import load_descriptor
from synthfm.evaluation.cases.schema import Descriptor, Intensity
from synthfm.evaluation.cases.slicing import grey_levels, to_grey, view_of
from synthfm.evaluation.formats.readers import (
    ARRAY_SUFFIXES,
    PICTURE_SUFFIXES,
    VOLUME_SUFFIXES,
    count_frames,
    is_dicom,
    read_volume,
    suffix_of,
)
from synthfm.evaluation.formats.volume import Unreadable, Volume, check_pixels

SAMPLES = Path(__file__).parent / "samples"
"""Synthetic images that come with the program: the page opens with one where nothing else is given."""
HOUNSFIELD = -500.0
"""An image with values below this is taken for CT: air is at -1000, and no other modality goes there."""
HEADERS = (".mhd", ".nhdr", ".hdr")
"""Files whose voxels lie in another one, which has to be sent with them."""


@dataclass(frozen=True)
class Place:
    """What of an image is looked at; None takes what the file suggests.

    Attributes
    ----------
    frame, plane, slice
        Frame of a 4-D file; ``auto``, ``axial``, ``coronal`` or ``sagittal``; position in that plane (None:
        the middle).
    levels
        The values that are black and white.
    """

    frame: int = 0
    plane: str = "auto"
    slice: int | None = None
    levels: tuple[float, float] | None = None


@dataclass(frozen=True)
class Picture:
    """A 2-D image as it is shown, and what there is beside it.

    Attributes
    ----------
    image
        uint8 (H, W).
    place
        Where in the image it lies, nothing left open.
    frames, slices
        How many there are.
    span
        Smallest and largest value of the image.
    spacing
        mm per pixel (row, column), None where unknown.
    references
        What a person outlined in it.
    """

    image: NDArray[np.uint8]
    place: Place
    frames: int = 1
    slices: int = 1
    span: tuple[float, float] = (0.0, 255.0)
    spacing: tuple[float, ...] | None = None
    references: tuple[Object, ...] = ()


@dataclass(frozen=True)
class File:
    """A user's file, or the folder of a DICOM series.

    Attributes
    ----------
    path
        Where it lies.
    title
        What people call it.
    frames
        How many it has, 1 if it is not 4-D.
    """

    path: Path
    title: str
    frames: int


@contextmanager
def named(title: str) -> Iterator[None]:
    """What cannot be read becomes an :class:`InputError` with the file's title."""
    try:
        yield
    except Unreadable as error:
        raise InputError(f"{title}: {error}") from error


def images_in(folder: Path, names: Sequence[str]) -> list[tuple[Path, str]]:
    """The images among files that were sent together, each with a title.

    DICOM files are one series, and others beside them are left alone; else every file is an image, but where
    there are headers those of no known kind are taken for their voxels.
    """
    paths = [folder / name for name in names]
    if any(name.lower().endswith(HEADERS) for name in names):
        known = (*VOLUME_SUFFIXES, *PICTURE_SUFFIXES, *ARRAY_SUFFIXES)
        paths = [path for path in paths if suffix_of(path) in known]
    elif len(paths) > 1:
        slices = [path.name for path in paths if path.suffix.lower() == ".dcm" or is_dicom(path)]
        if slices:
            return [(folder, f"{slices[0]} and {len(slices) - 1} more" if len(slices) > 1 else slices[0])]
    return [(path, path.name) for path in paths]


def read_frame(path: Path, title: str, frame: int) -> Volume:
    """A file's volume, of a 4-D one the frame of that number; what cannot be read is an InputError."""
    with named(title):
        volume = read_volume(path, frame=frame)
        check_pixels(volume)
        return volume


def slice_of(volume: Volume, frames: int, place: Place) -> Picture:
    """The slice of a volume at a place.

    Raises
    ------
    InputError
        If there is no such slice.
    """
    view = view_of(volume, "radiological", place.plane)
    slices = view.slices(volume.array)
    position = len(slices) // 2 if place.slice is None else place.slice
    if not 0 <= position < len(slices):
        raise InputError(f"slice {position} does not exist; there are {len(slices)} (counted from 0)")
    values = volume.array[np.isfinite(volume.array)] if volume.array.dtype.kind == "f" else volume.array
    span = (float(values.min()), float(values.max())) if values.size else (0.0, 0.0)
    modality: Modality = "CT" if span[0] < HOUNSFIELD else "generic" if volume.flat else "MR"
    levels = place.levels or grey_levels(volume, modality, Intensity())
    if not levels[0] < levels[1]:  # an empty image
        levels = (levels[0], levels[0] + 1.0)
    shown = np.nan_to_num(slices[position], nan=levels[0], posinf=levels[1], neginf=levels[0])
    where = Place(place.frame, place.plane, position, levels)
    return Picture(to_grey(shown, levels), where, frames, len(slices), span, view.spacing)


@dataclass(frozen=True)
class Dataset:
    """A dataset and its first cases, read when they are asked for."""

    descriptor: Descriptor
    root: Path
    limit: int | None
    """At most so many cases, spread evenly."""

    @cached_property
    def _found(self) -> list[Case | Failure]:
        return list(iter_cases(self.descriptor, self.root, limit=self.limit))

    @property
    def cases(self) -> list[Case]:
        return [item for item in self._found if isinstance(item, Case)]

    @property
    def failures(self) -> list[Failure]:
        return [item for item in self._found if isinstance(item, Failure)]


def samples() -> Dataset:
    """The images that come with the program."""
    return Dataset(load_descriptor(str(SAMPLES / "samples.yaml")), SAMPLES, None)


class Library:
    """All that can be shown, by names: ``case/DATASET/NUMBER`` and ``file/NUMBER``.

    Parameters
    ----------
    datasets
        In the order in which they are offered.
    """

    def __init__(self, datasets: Sequence[Dataset]) -> None:
        self.datasets = {item.descriptor.name: item for item in datasets}
        self.files: dict[str, File] = {}
        self._volume: tuple[str, int, Volume] | None = None  # the one shown last: others are read again

    def open(self, path: Path, title: str | None = None) -> str:
        """Open a user's file; returns its name. Without a title it is called as it lies there.

        Raises
        ------
        InputError
            If it cannot be read.
        """
        title = title or path.absolute().name
        name, volume = f"file/{len(self.files)}", read_frame(path, title, 0)
        with named(title):
            frames = 1 if path.is_dir() or is_dicom(path) else count_frames(path)
        self._volume = (name, 0, volume)
        self.files[name] = File(path, title, frames)
        return name

    def first(self) -> str | None:
        """The name of the image to begin with: a user's file, else the first case that can be read."""
        with_cases = (f"case/{name}/0" for name, item in self.datasets.items() if item.cases)
        return next(iter(self.files), None) or next(with_cases, None)

    def show(self, name: str, place: Place) -> Picture:
        """What an image shows at a place; a case is one slice, and has its grey levels.

        Raises
        ------
        InputError
            If nothing of that name is open, or there is no such place in it.
        """
        if name in self.files:
            file = self.files[name]
            if self._volume is None or self._volume[:2] != (name, place.frame):
                if place.frame >= file.frames:
                    raise InputError(
                        f"frame {place.frame} does not exist; there are {file.frames} (counted from 0)"
                    )
                self._volume = (name, place.frame, read_frame(file.path, file.title, place.frame))
            with named(file.title):
                return slice_of(self._volume[2], file.frames, place)
        kind, _, rest = name.partition("/")
        dataset, _, number = rest.rpartition("/")
        if kind == "case" and dataset in self.datasets and number.isdecimal():
            cases = self.datasets[dataset].cases
            if int(number) < len(cases):
                case = cases[int(number)]
                where = Place(slice=0, levels=(0.0, 255.0))
                return Picture(case.image, where, spacing=case.spacing, references=case.objects)
        raise InputError(f"{name}: no such image is open")
