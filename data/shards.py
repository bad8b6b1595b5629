"""The shard: schema, writer, reader.

A shard is one HDF5 file of built-in filters only. Nothing in it depends on the time or the machine: the
same samples give the same bytes. A folder of shards is :mod:`synthfm.data.folder`'s.

Coordinates are pixels, x right, y down, (0, 0) the centre of the top left pixel; boxes are XYXY and
half-open, so that a box's width is ``x1 - x0``.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal, NamedTuple

import h5py
import numpy as np
from numpy.typing import ArrayLike, NDArray

from synthfm.data.chunks import deflated, sound_dataset
from synthfm.data.console import InputError
from synthfm.data.files import PARTIAL
from synthfm.data.guard import opening

FORMAT = "synthfm-shard"
_VOLUMES_SINCE = 3
_STROKES_SINCE = 5
_SINCE = {"track": _VOLUMES_SINCE, "members": 4}
"""The format from which on a column of objects is there."""
# 1: radiographs were "generic"; 2: single images alone; 3: each object is a label of its own; 4: no strokes
VERSION = 5

Modality = Literal["CT", "MR", "US", "XR", "OCT", "generic"]
"""The names of modalities, of samples as of real datasets; `generic` is any other. A shard may hold more."""

_AXIS = "S1"
_NAME = "S24"  # modality and family names: fixed-length ASCII, readable by any HDF5 tool


def fixed_text(text: str) -> np.bytes_:
    """A text as an attribute of fixed length, which lies in the header and under its checksum.

    HDF5 keeps strings of variable length in a heap without one, and a changed byte there can hold the library
    in an endless loop.
    """
    return np.bytes_(text.encode())


def read_text(value: str | bytes) -> str:
    """An attribute's text, however HDF5 keeps it; bytes that are not UTF-8 become replacement characters."""
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)


class StoredStroke(NamedTuple):
    """A stroke as a person scribbles it, drawn by :mod:`synthfm.data.strokes`.

    Attributes
    ----------
    inside
        Whether it marks the object, or the background.
    pixels
        int16 (n, 2), the pixels (x, y) that it covers, in any order.
    """

    inside: bool
    pixels: NDArray[np.int16]


def column_of(rows: Iterable[tuple[StoredStroke, ...]]) -> NDArray[np.object_]:
    """Objects' strokes as a column, object (K,): numpy itself would look into the tuples."""
    held = list(rows)
    column = np.empty(len(held), object)
    for k, row in enumerate(held):
        column[k] = row
    return column


@dataclass(frozen=True)
class Objects:
    """The objects of one sample, K rows; object k's mask is its label and those of its descendants.

    A *set* is an object made up of others' labels: both kidneys, all vessels, a heart muscle without the
    ventricle in it. Its own label is not in the label map.

    Attributes
    ----------
    label
        uint8 (K,), the object's number in the label map, 1 to 255.
    parent
        uint8 (K,), the label of the object that it lies in, 0 for none.
    family
        str (K,), the shape family.
    area
        int32 (K,), pixels of the mask.
    box
        int32 (K, 4), tight XYXY, half-open.
    contrast
        float32 (K,), contrast-to-noise ratio against the surrounding ring.
    blur
        float32 (K,), edge width in pixels; what an object without an edge has is the largest that is measured
        at the image's size (12 at 256 pixels).
    points
        int16 (K, P, 2), clicks (x, y): the centre, further positives, then hard negatives in the neighbours.
    point_labels
        int8 (K, P), 1 positive, 0 negative, -1 padding.
    box_loose
        float32 (K, 4), a box as a person would draw it.
    track
        int32 (K,), the same number for the same object in neighbouring slices of a volume; -1 in a single
        image, which is what it is where it is not given.
    members
        uint8 (K, 32), of a set the labels that make it up, 256 bits as :func:`pack_labels` has them; zeros,
        as where it is not given, for what is no set.
    strokes
        object (K,), of each a tuple of :class:`StoredStroke`, those inside first; empty ones where it is not
        given.
    """

    label: NDArray[np.uint8]
    parent: NDArray[np.uint8]
    family: NDArray[np.str_]
    area: NDArray[np.int32]
    box: NDArray[np.int32]
    contrast: NDArray[np.float32]
    blur: NDArray[np.float32]
    points: NDArray[np.int16]
    point_labels: NDArray[np.int8]
    box_loose: NDArray[np.float32]
    track: NDArray[np.int32] = field(default=None)  # type: ignore[arg-type]
    members: NDArray[np.uint8] = field(default=None)  # type: ignore[arg-type]
    strokes: NDArray[np.object_] = field(default=None)  # type: ignore[arg-type]

    def __post_init__(self) -> None:
        if self.track is None:
            object.__setattr__(self, "track", np.full(len(self.label), -1, np.int32))
        if self.members is None:
            object.__setattr__(self, "members", np.zeros((len(self.label), 32), np.uint8))
        if self.strokes is None:
            object.__setattr__(self, "strokes", column_of([()] * len(self.label)))

    @property
    def is_set(self) -> NDArray[np.bool_]:
        """Which objects are sets, bool (K,)."""
        return (self.members > 0).max(1, initial=False)

    def __len__(self) -> int:
        return len(self.label)


@dataclass(frozen=True)
class Slice:
    """Which slice of a volume an image is.

    Attributes
    ----------
    number
        Its place in the volume, from 0.
    spacing
        Distance of slices, rows and columns (z, y, x), in pixels of the slice; z is 1 for a cine.
    axis
        ``"z"`` for a volume in space, ``"t"`` for a cine.
    """

    number: int
    spacing: tuple[float, float, float]
    axis: str


@dataclass(frozen=True)
class Sample:
    """One synthetic image with its label map and objects.

    Attributes
    ----------
    image
        uint8 (H, W).
    label
        uint8 (H, W), the innermost object at each pixel, 0 for background.
    index
        Number of the sample in its dataset.
    seed
        The 64-bit seed from which it was made.
    modality
        CT, MR, US, XR, generic, or what a generator adds: letters and digits.
    objects
        The table of objects.
    slice
        Which slice of a volume it is; None for a single image.
    """

    image: NDArray[np.uint8]
    label: NDArray[np.uint8]
    index: int
    seed: int
    modality: str
    objects: Objects
    slice: Slice | None = None


OBJECT_COLUMNS: dict[str, tuple[str, tuple[int, ...]]] = {
    "label": ("uint8", ()),
    "parent": ("uint8", ()),
    "family": (_NAME, ()),
    "area": ("int32", ()),
    "box": ("int32", (4,)),
    "contrast": ("float32", ()),
    "blur": ("float32", ()),
    "points": ("int16", (-1, 2)),
    "point_labels": ("int8", (-1,)),
    "box_loose": ("float32", (4,)),
    "track": ("int32", ()),
    "members": ("uint8", (32,)),
}
"""Name, type and row shape of the columns with a row an object, under ``object/``; -1 is P, the clicks.

Strokes, of which objects have different numbers, are not among them: :func:`joined` knows all columns.
"""

AXES = ("z", "t")
"""What runs through the slices of a volume: space, or the time of a cine."""


def pack_labels(labels: ArrayLike) -> NDArray[np.uint8]:
    """Label numbers as 256 bits, uint8 (32,), the highest bit of byte 0 for label 0.

    >>> np.flatnonzero(np.unpackbits(pack_labels([3, 200]))).tolist()
    [3, 200]
    """
    bits = np.zeros(256, np.uint8)
    bits[np.asarray(labels, int)] = 1
    return np.packbits(bits)


def joined(*tables: Objects) -> Objects:
    """One table of the rows of several, in order; of all the same P."""
    names = (*OBJECT_COLUMNS, "strokes")
    return Objects(**{name: np.concatenate([getattr(table, name) for table in tables]) for name in names})


def object_masks(label: NDArray[np.uint8], objects: Objects) -> NDArray[np.bool_]:
    """Masks of all objects of a sample, bool (K, H, W): own label and all descendants', or a set's members.

    >>> label = np.array([[0, 1, 2]], np.uint8)
    >>> membership([1, 2], [0, 1])[:, label].astype(int).tolist()
    [[[0, 1, 1]], [[0, 0, 1]]]
    """
    return members_of(objects)[:, label]


def members_of(objects: Objects) -> NDArray[np.bool_]:
    """As :func:`membership`, of a table of objects."""
    return membership(objects.label, objects.parent, objects.members)


def membership(labels: ArrayLike, parents: ArrayLike, members: NDArray | None = None) -> NDArray[np.bool_]:
    """Which label numbers belong to which object: bool (K, 256), so that ``membership[k][label]`` is a mask.

    Parameters
    ----------
    labels, parents, members
        The columns of the table (:class:`Objects`); without `members` there are no sets.

    Raises
    ------
    ValueError
        If a parent is not in the table or the parents form a ring.
    """
    parent_of = {int(own): int(parent) for own, parent in zip(labels, parents, strict=True)}  # type: ignore[arg-type]
    rows = {own: k for k, own in enumerate(parent_of)}
    table = np.zeros((len(parent_of), 256), dtype=bool)
    for own in parent_of:
        ancestor, steps = own, 0
        while ancestor:
            if ancestor not in rows:
                raise ValueError(f"object {own} names parent {ancestor}, which is not in the table")
            if steps > len(rows):
                raise ValueError(f"object {own} is its own ancestor")
            table[rows[ancestor], own] = True
            ancestor, steps = parent_of[ancestor], steps + 1
    if members is not None:
        sets = members.any(1)
        table[sets] = np.unpackbits(members[sets], axis=1).astype(bool)
    return table


class ShardWriter:
    """Collects one shard in memory, compressed; :meth:`close` writes a temporary file and renames it.

    Use as a context manager: an exception leaves no file behind. Slices of a volume are appended in order,
    one volume after the other; slice 0 begins one.

    Parameters
    ----------
    path
        Final name of the shard.
    count
        How many samples it will hold.
    shape
        Height and width of the images.
    points
        P, clicks per object.
    config
        The generator's whole config as JSON text.
    package_version, root_seed, first_index
        Stored as attributes.
    """

    def __init__(
        self,
        path: Path,
        *,
        count: int,
        shape: tuple[int, int],
        points: int,
        config: str,
        package_version: str,
        root_seed: int,
        first_index: int,
    ) -> None:
        self.path = path
        self.count = count
        self._points = points
        # A name of its own, so that two writers of one shard (a task that a cluster runs twice) never mix.
        self._partial = path.with_name(f"{path.name}.{uuid.uuid4().hex[:8]}{PARTIAL}")
        self._rows: list[Objects] = []
        self._samples: list[tuple[int, int, str, int, int]] = []
        self._volumes: list[Slice] = []
        # Bounds, so that every HDF5 since 2016 reads the file.
        # The file grows in memory and reaches the disk as bytes: HDF5 itself crashes when a disk is full.
        self._file = h5py.File(
            self._partial,
            "w",
            libver=("v110", "v110"),
            track_order=False,
            driver="core",
            backing_store=False,
            block_size=1 << 20,
            rdcc_nbytes=0,  # no cache: a chunk is written at once, so that its place in the file is fixed
        )
        try:
            self._file.attrs.update(
                format=fixed_text(FORMAT),
                version=VERSION,
                config=fixed_text(config),
                package_version=fixed_text(package_version),
                root_seed=np.uint64(root_seed),
                first_index=np.int64(first_index),
                count=np.int64(count),
            )
            self._pictures = {
                name: self._file.create_dataset(
                    name,
                    (count, *shape),
                    dtype="uint8",
                    chunks=(1, *shape),
                    fletcher32=True,
                    compression="gzip",
                    compression_opts=1,
                ).id
                for name in ("image", "label")
            }
        except BaseException:
            self._discard()
            raise

    def __enter__(self) -> ShardWriter:
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        if kind is None:
            self.close()
        else:
            self._discard()

    def append(self, sample: Sample) -> None:
        """Write the next sample."""
        for name, dataset in self._pictures.items():
            dataset.write_direct_chunk((len(self._samples), 0, 0), deflated(getattr(sample, name)))
        place = sample.slice
        if place is not None and place.number == 0:
            self._volumes.append(place)
        volume, number = (-1, -1) if place is None else (len(self._volumes) - 1, place.number)
        self._samples.append((sample.index, sample.seed, sample.modality, volume, number))
        self._rows.append(sample.objects)

    def close(self) -> None:
        """Write the tables, flush to the disk and give the shard its final name."""
        try:
            if len(self._samples) != self.count:
                raise ValueError(f"{self.path}: {len(self._samples)} samples written, {self.count} announced")
            columns = zip(*self._samples, strict=True) if self._samples else [()] * 5
            index, seed, modality, volume, number = columns
            self._table("sample/index", np.array(index, "int64"))
            self._table("sample/seed", np.array(seed, "uint64"))
            self._table("sample/modality", np.array(modality, _NAME))
            self._table("sample/volume", np.array(volume, "int64"))
            self._table("sample/slice", np.array(number, "int64"))
            spacings = [place.spacing for place in self._volumes]
            self._table("volume/spacing", np.array(spacings, "float32").reshape(-1, 3))
            self._table("volume/axis", np.array([place.axis for place in self._volumes], _AXIS))
            self._table("object/start", _starts(len(rows) for rows in self._rows))
            for name, (dtype, row) in OBJECT_COLUMNS.items():
                shape = tuple(self._points if size == -1 else size for size in row)
                parts = [np.asarray(getattr(rows, name)).astype(dtype) for rows in self._rows if len(rows)]
                self._table(f"object/{name}", np.concatenate([np.zeros((0, *shape), dtype), *parts]))
            of_objects = [own for rows in self._rows for own in rows.strokes]
            strokes = [stroke for own in of_objects for stroke in own]
            self._table("object/stroke_start", _starts(map(len, of_objects)))
            self._table("stroke/start", _starts(len(stroke.pixels) for stroke in strokes))
            self._table("stroke/inside", np.array([stroke.inside for stroke in strokes], "uint8"))
            pixels = [np.asarray(stroke.pixels, "int16") for stroke in strokes]
            self._table("stroke/pixels", np.concatenate([np.zeros((0, 2), "int16"), *pixels]))
            self._file.flush()
            content = self._file.id.get_file_image()
            self._file.close()
            with open(self._partial, "wb") as handle:
                handle.write(content)
                handle.flush()
                os.fsync(handle.fileno())
            os.replace(self._partial, self.path)
        except OSError as error:
            self._discard()
            if error.errno is None:
                raise
            raise OSError(error.errno, error.strerror, str(self.path)) from error
        except BaseException:
            self._discard()
            raise

    def _table(self, name: str, values: NDArray) -> None:
        self._file.create_dataset(
            name,
            data=values,
            maxshape=(None, *values.shape[1:]),  # so that a table without rows can be chunked too
            chunks=(max(1, min(len(values), 4096)), *values.shape[1:]),
            fletcher32=True,
            compression="gzip",
            compression_opts=1,
        )

    def _discard(self) -> None:
        self._file.close()
        self._partial.unlink(missing_ok=True)


def _starts(counts: Iterable[int]) -> NDArray[np.int64]:
    """Where each of so many rows begins, and where the last ends, int64 (n + 1,)."""
    return np.cumsum([0, *counts], dtype=np.int64)


class Shard:
    """Reads one shard; a sequence of :class:`Sample`.

    The tables are read at once (a few kilobytes), images and the pixels of strokes with each sample.

    Attributes
    ----------
    objects
        The table of all objects, without their strokes: :meth:`objects_of` has them.
    volume, slice
        int64 (N,), the row of `spacing` and `axis` that holds for a sample's volume, and its place in that;
        -1 for single images, which is all that shards before format 3 hold.
    spacing, axis
        float32 (V, 3) and str (V,), of each volume as :class:`Slice` has them.

    Raises
    ------
    InputError
        If the file is missing, foreign, truncated, of a newer version or corrupted; it says which.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._sound: dict[str, h5py.Dataset] = {}
        if not self.path.is_file():
            raise InputError(f"{self.path}: no such shard")
        try:
            self._file = h5py.File(self.path, "r")
        except OSError as error:
            if error.errno:  # the system's: it may not be read, or too many files are open; no damage
                raise OSError(error.errno, os.strerror(error.errno), str(self.path)) from error
            reason = (
                "truncated" if "truncated" in str(error) else "not an HDF5 file, or its header is damaged"
            )
            raise InputError(f"{self.path}: {reason}; expected a {FORMAT} file") from error
        try:
            with opening(self.path, "corrupted: its structure cannot be read"):
                self._read_header()
                self._read_tables()
        except BaseException:
            self._file.close()
            raise

    def _read_header(self) -> None:
        attributes = dict(self._file.attrs)
        if read_text(attributes.get("format", "")) != FORMAT:
            raise InputError(
                f"{self.path}: an HDF5 file, but not a {FORMAT} (no attribute format={FORMAT!r})"
            )
        for name in ("version", "config", "package_version", "root_seed", "first_index", "count"):
            if name not in attributes:
                raise InputError(f"{self.path}: attribute {name!r} is missing")
            if name == "version" and int(attributes[name]) > VERSION:
                raise InputError(
                    f"{self.path}: format version {int(attributes[name])} is newer than {VERSION}, "
                    "the newest that this program reads; update synthfm"
                )
        self.config: str = read_text(attributes["config"])
        self.package_version: str = read_text(attributes["package_version"])
        self.root_seed = int(attributes["root_seed"])
        self.first_index = int(attributes["first_index"])
        self.count = int(attributes["count"])
        self.version = int(attributes["version"])

    def _read_tables(self) -> None:
        image, label = self._dataset("image"), self._dataset("label")
        for name, dataset in (("image", image), ("label", label)):
            shape = dataset.shape
            if len(shape) != 3 or shape[0] != self.count or dataset.dtype != np.uint8:
                raise InputError(f"{self.path}: {name!r} is {shape}, expected uint8 ({self.count}, H, W)")
        self.shape: tuple[int, int] = image.shape[1:]
        if label.shape[1:] != self.shape:
            raise InputError(f"{self.path}: 'label' and 'image' differ in size")
        self.index = self._column("sample/index", "int64", self.count)
        self.seed = self._column("sample/seed", "uint64", self.count)
        self.modality = self._column("sample/modality", _NAME, self.count).astype(str)
        self.start = self._starts("object/start", self.count)
        rows = int(self.start[-1])
        columns = {
            name: self._column(f"object/{name}", dtype, rows, row)
            for name, (dtype, row) in OBJECT_COLUMNS.items()
            if self.version >= _SINCE.get(name, 0)
        }
        columns["family"] = columns["family"].astype(str)
        self.objects = Objects(**columns)
        self.points = self.objects.points.shape[1]
        self._read_volumes()
        self._read_strokes()

    def _read_volumes(self) -> None:
        self.volume, self.slice = np.full((2, self.count), -1, np.int64)
        self.spacing, self.axis = np.zeros((0, 3), np.float32), np.zeros(0, _AXIS).astype(str)
        if self.version < _VOLUMES_SINCE:
            return
        count = len(self._dataset("volume/axis"))
        self.volume = self._column("sample/volume", "int64", self.count)
        self.slice = self._column("sample/slice", "int64", self.count)
        self.spacing = self._column("volume/spacing", "float32", count, (3,))
        self.axis = self._column("volume/axis", _AXIS, count).astype(str)
        if ((self.volume < -1) | (self.volume >= count)).any():
            raise InputError(f"{self.path}: 'sample/volume' names a volume that is not among the {count}")

    def _read_strokes(self) -> None:
        """Where the strokes lie; their pixels, which may be as many as an image's, are read with a sample."""
        self._stroke_start = np.zeros(len(self.objects) + 1, np.int64)
        if self.version < _STROKES_SINCE:
            return
        self._stroke_start = self._starts("object/stroke_start", len(self.objects))
        count = int(self._stroke_start[-1])
        self._stroke_inside = self._column("stroke/inside", "uint8", count)
        if (self._stroke_inside > 1).any():
            raise InputError(f"{self.path}: 'stroke/inside' holds other than 0 and 1")
        self._pixel_start = self._starts("stroke/start", count)
        self._check_shape("stroke/pixels", "int16", int(self._pixel_start[-1]), (2,))

    def _starts(self, name: str, rows: int) -> NDArray[np.int64]:
        """A column that says where each of so many rows begins."""
        starts = self._column(name, "int64", rows + 1)
        if starts[0] != 0 or (np.diff(starts) < 0).any():
            raise InputError(f"{self.path}: {name!r} does not rise from 0")
        return starts

    def _dataset(self, name: str) -> h5py.Dataset:
        if name not in self._sound:
            whole = name not in ("image", "label")
            self._sound[name] = sound_dataset(self._file, name, self.path, whole=whole)
        return self._sound[name]

    def _column(self, name: str, dtype: str, rows: int, row: tuple[int, ...] = ()) -> NDArray:
        self._check_shape(name, dtype, rows, row)
        return self._read(name, ())

    def _check_shape(self, name: str, dtype: str, rows: int, row: tuple[int, ...]) -> None:
        dataset = self._dataset(name)
        points = self._dataset("object/points").shape[1:2]
        wanted = (rows, *(points[0] if size == -1 and points else size for size in row))
        if dataset.shape != wanted or dataset.dtype != np.dtype(dtype):
            raise InputError(
                f"{self.path}: {name!r} is {dataset.dtype} {dataset.shape}, expected {dtype} {wanted}"
            )

    def _read(self, name: str, key: Any) -> NDArray:
        dataset = self._dataset(name)
        with opening(self.path, f"corrupted: '/{name}' fails its checksum or cannot be read"):
            return dataset[key]

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, position: int) -> Sample:
        if not 0 <= position < self.count:
            raise IndexError(position)
        return Sample(
            image=self._read("image", position),
            label=self._read("label", position),
            index=int(self.index[position]),
            seed=int(self.seed[position]),
            modality=str(self.modality[position]),
            objects=self.objects_of(position),
            slice=self._slice(position),
        )

    def _slice(self, position: int) -> Slice | None:
        volume = int(self.volume[position])
        if volume < 0:
            return None
        z, y, x = map(float, self.spacing[volume])
        return Slice(int(self.slice[position]), (z, y, x), str(self.axis[volume]))

    def objects_of(self, position: int) -> Objects:
        """The objects of one sample, without reading its image."""
        first, last = int(self.start[position]), int(self.start[position + 1])
        columns = {name: getattr(self.objects, name)[first:last] for name in OBJECT_COLUMNS}
        return Objects(**columns, strokes=self._strokes_of(first, last))

    def _strokes_of(self, first: int, last: int) -> NDArray[np.object_]:
        """The strokes of some rows of the table of all objects."""
        of_rows = self._stroke_start[first : last + 1]
        begin, end = int(of_rows[0]), int(of_rows[-1])
        if begin == end:
            return self.objects.strokes[first:last]
        places = self._pixel_start[begin : end + 1]
        pixels = self._read("stroke/pixels", slice(int(places[0]), int(places[-1])))
        cuts = pairwise((places - places[0]).tolist())
        inside = self._stroke_inside[begin:end].tolist()
        strokes = [StoredStroke(bool(on), pixels[a:b]) for on, (a, b) in zip(inside, cuts, strict=True)]
        return column_of(tuple(strokes[a:b]) for a, b in pairwise((of_rows - begin).tolist()))

    def __iter__(self) -> Iterator[Sample]:
        return (self[position] for position in range(self.count))

    def close(self) -> None:
        self._file.close()

    def __enter__(self) -> Shard:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
