"""What the page can show: cases of datasets, with their references, and the user's own files."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from synthfm.data.console import InputError
from synthfm.evaluation.cases.cases import Case, Failure, Object, iter_cases
from synthfm.evaluation.cases.descriptor import load_descriptor
from synthfm.evaluation.cases.schema import Descriptor
from synthfm.evaluation.cases.slicing import to_grey
from synthfm.evaluation.formats.readers import (
    ARRAY_SUFFIXES,
    PICTURE_SUFFIXES,
    VOLUME_SUFFIXES,
    count_frames,
    is_dicom,
    suffix_of,
)
from synthfm.evaluation.formats.volume import Unreadable
from synthfm.evaluation.scans.scan import Scan, read_scan

SAMPLES = Path(__file__).parent / "samples"
"""Synthetic images that come with the program: the page opens with one where nothing else is given."""
HEADERS = (".mhd", ".nhdr", ".hdr")
"""Files whose voxels lie in another one, which has to be sent with them."""
KEPT = 3
"""Scans that are kept as they were read; others are read again."""


@dataclass(frozen=True)
class Place:
    """What of an image is looked at: the frame of a 4-D file, and the values that are black and white, None
    for what the file suggests.
    """

    frame: int = 0
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
    frames
        How many there are.
    spacing
        mm per pixel (row, column), None where unknown.
    references
        What a person outlined in it.
    is_ct
        Whether its values are Hounsfield units.
    """

    image: NDArray[np.uint8]
    place: Place
    frames: int = 1
    spacing: tuple[float, ...] | None = None
    references: tuple[Object, ...] = ()
    is_ct: bool = False


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
    slices
        How many a frame has.
    """

    path: Path
    title: str
    frames: int
    slices: int


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


def read_upright(path: Path, title: str, frame: int = 0) -> Scan:
    """A file as a scan, its slices as a radiologist looks at them; an InputError begins with the title.

    Frames of DICOM are slices, also of a cine.
    """
    dicom = path.is_dir() or (path.is_file() and is_dicom(path))
    try:
        return read_scan(path, frame=None if dicom else frame, upright=True)
    except InputError as error:
        raise InputError(f"{title}: {str(error).removeprefix(f'{path}: ')}") from error


def picture_of(scan: Scan, frames: int, place: Place) -> Picture:
    """The slice of a scan that has one."""
    levels = place.levels or scan.levels
    if not levels[0] < levels[1]:  # an empty image
        levels = (levels[0], levels[0] + 1.0)
    image = to_grey(np.ascontiguousarray(scan.values[0]), levels)
    where = replace(place, levels=levels)
    return Picture(image, where, frames, scan.view.spacing, is_ct=scan.modality == "CT")


@dataclass(frozen=True)
class Dataset:
    """A dataset and its first cases, read when they are asked for."""

    descriptor: Descriptor
    root: Path
    limit: int | None
    """At most so many cases, spread evenly."""

    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False, compare=False)
    _read: list[list[Case | Failure]] = field(default_factory=list, repr=False, compare=False)

    @property
    def _found(self) -> list[Case | Failure]:
        with self._lock:  # whoever asks for another dataset does not wait
            if not self._read:
                self._read.append(list(iter_cases(self.descriptor, self.root, limit=self.limit)))
            return self._read[0]

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
        self._kept: OrderedDict[tuple[str, int], Future[Scan]] = OrderedDict()
        self._lock = threading.Lock()

    def open(self, path: Path, title: str | None = None) -> str:
        """Open a user's file; returns its name. Without a title it is called as it lies there.

        Raises
        ------
        InputError
            If it cannot be read.
        """
        title = title or path.absolute().name
        scan = read_upright(path, title)
        try:
            frames = 1 if scan.form == "dicom" else count_frames(path)
        except Unreadable as error:
            raise InputError(f"{title}: {error}") from error
        read: Future[Scan] = Future()
        read.set_result(scan)
        with self._lock:
            name = f"file/{len(self.files)}"
            self.files[name] = File(path, title, frames, len(scan.values))
            self._keep((name, 0), read)
        return name

    def _keep(self, key: tuple[str, int], read: Future[Scan]) -> None:
        self._kept[key] = read
        while len(self._kept) > KEPT:
            self._kept.popitem(last=False)

    def scan(self, name: str, frame: int = 0) -> Scan:
        """A user's file as a scan, read again if need be; whoever asks for others meanwhile does not wait.

        Raises
        ------
        InputError
            If nothing of that name is open, there is no such frame, or it cannot be read any more.
        """
        if name not in self.files:
            raise InputError(f"{name}: no such image is open")
        file, key = self.files[name], (name, frame)
        if not 0 <= frame < file.frames:
            raise InputError(f"frame {frame} does not exist; there are {file.frames} (counted from 0)")
        with self._lock:
            kept = self._kept.get(key)
            if kept is not None:
                self._kept.move_to_end(key)
            else:
                read: Future[Scan] = Future()
                self._keep(key, read)
        if kept is None:
            try:
                read.set_result(read_upright(file.path, file.title, frame))
            except BaseException as error:
                with self._lock:
                    self._kept.pop(key, None)
                read.set_exception(error)
            kept = read
        return kept.result()

    def first(self) -> str | None:
        """The name of the image to begin with: a user's file, else the first case that can be read."""
        with_cases = (f"case/{name}/0" for name, item in self.datasets.items() if item.cases)
        return next(iter(self.files), None) or next(with_cases, None)

    def show(self, name: str, place: Place) -> Picture:
        """What an image of one slice shows at a place; a case is one, and has its grey levels.

        Raises
        ------
        InputError
            If nothing of that name is open, it is a volume, or there is no such place in it.
        """
        if name in self.files:
            file = self.files[name]
            if file.slices > 1:
                raise InputError(f"{file.title}: a volume of {file.slices} slices, and no single image")
            return picture_of(self.scan(name, place.frame), file.frames, place)
        kind, _, rest = name.partition("/")
        dataset, _, number = rest.rpartition("/")
        if kind == "case" and dataset in self.datasets and number.isdecimal():
            cases = self.datasets[dataset].cases
            if int(number) < len(cases):
                case = cases[int(number)]
                return Picture(case.image, Place(levels=(0.0, 255.0)), 1, case.spacing, case.objects)
        raise InputError(f"{name}: no such image is open")
