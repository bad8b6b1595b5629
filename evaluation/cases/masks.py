"""Mask files to the structures of a volume, one bit each in an unsigned array."""

from __future__ import annotations

import json
import logging
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from synthfm.data.files import natural
from synthfm.data.prompts import depth, tight_box
from synthfm.evaluation.cases.layout import Entry, MaskFile
from synthfm.evaluation.cases.patterns import fill, group_names
from synthfm.evaluation.cases.schema import COLOUR, Masks
from synthfm.evaluation.formats.colours import Colours, colour_names
from synthfm.evaluation.formats.foreground import threshold_of
from synthfm.evaluation.formats.reach import check_below
from synthfm.evaluation.formats.readers import (
    ARRAY_SUFFIXES,
    PICTURE_SUFFIXES,
    VOLUME_SUFFIXES,
    read_volume,
    suffix_of,
)
from synthfm.evaluation.formats.segmentation import is_segmentation, read_segments
from synthfm.evaluation.formats.sizes import check_size, readable
from synthfm.evaluation.formats.volume import Unreadable, Volume, same_grid

log = logging.getLogger(__name__)


class _Empty(Unreadable):
    """A mask without a pixel."""


@dataclass
class Structures:
    """The structures of one volume.

    Attributes
    ----------
    shape
        (Z, Y, X).
    names
        (structure, instance) of each bit; instance is 0 but where a structure's masks are kept apart.
    problems
        (file, reason) of what could not be used.
    strokes
        Of a structure, what people drew to have it segmented, of each bool (2, H, W): inside and outside.
    """

    shape: tuple[int, ...]
    names: list[tuple[str, int]] = field(default_factory=list)
    problems: list[tuple[Path, str]] = field(default_factory=list)
    strokes: dict[str, tuple[NDArray[np.bool_], ...]] = field(default_factory=dict)
    _layers: list[NDArray] = field(default_factory=list)

    def add(self, structure: str, mask: NDArray[np.bool_], instance: int | None = 0) -> None:
        """Add a mask to a structure's; `instance` None starts a new instance."""
        if instance is None:
            instance = sum(name == structure for name, _ in self.names)
        bit = self._bit(structure, instance)
        self._layers[bit // 8] |= mask.astype(np.uint8) << np.uint8(bit % 8)

    def _bit(self, structure: str, instance: int) -> int:
        if (structure, instance) not in self.names:
            self.names.append((structure, instance))
            if len(self.names) > 8 * len(self._layers):
                self._layers.append(np.zeros(self.shape, np.uint8))
        return self.names.index((structure, instance))

    def add_labels(self, array: NDArray, numbers: dict[str, list[int]]) -> None:
        """Add several structures from a label map of integers from 0, in one pass a layer."""
        bits = {name: self._bit(name, 0) for name in numbers}
        for k, layer in enumerate(self._layers):
            table = np.zeros(int(array.max()) + 1, np.uint8)
            for name, bit in bits.items():
                if bit // 8 == k:
                    table[numbers[name]] |= np.uint8(1 << (bit % 8))
            if table.any():
                layer |= table[array]

    def remove(self, structure: str) -> None:
        """Take all masks of a structure out again; its bits stay unused."""
        self.names = [(name if name != structure else "", instance) for name, instance in self.names]

    def bits(self) -> list[tuple[int, str, int]]:
        """(bit, structure, instance) of what there is."""
        return [(bit, name, instance) for bit, (name, instance) in enumerate(self.names) if name]

    def layers(self) -> list[NDArray[np.uint8]]:
        """The bits, eight a layer, uint8 (Z, Y, X)."""
        return self._layers


def read_structures(entry: Entry, image: Volume, *, strict: bool) -> Structures:
    """Read all mask files of an image.

    Parameters
    ----------
    entry
        The image's entry in the dataset.
    image
        The image.
    strict
        Whether geometry must agree beyond the size.

    Returns
    -------
    Structures
        What could be read; what could not is in `problems`, and the rest stands.
    """
    structures = Structures(image.array.shape)
    incomplete: set[str] = set()
    for kind in entry.wanted:
        lost: list[str] = []
        files = [mask for mask in entry.masks if mask.kind is kind]
        if not files:
            reason = no_file(kind, entry)
            if reason is not None:
                structures.problems.append((entry.image, reason))
                lost += kind.names()
        elif kind.per_slice:
            if not _guard(structures, files[0].path.parent, kind, files, image, entry, strict):
                lost += kind.names()
        else:
            for file in files:
                if not _guard(structures, file.path, kind, [file], image, entry, strict):
                    lost += file.names()
                elif kind.strokes is not None:
                    _add_strokes(structures, kind, file, entry)
            lost += _report_missing_files(structures, kind, files)
        if kind.instances == "union":
            incomplete.update(lost)
    for structure in incomplete:  # whichever entries its parts come from: without one it is not the reference
        structures.remove(structure)
    return structures


def no_file(kind: Masks, entry: Entry) -> str | None:
    """What is wrong where an image has no file of a kind; None where its one structure may be absent."""
    if kind.structure is not None and kind.absent == "skip":
        return None
    unbound = group_names(kind.file) - set(entry.groups)
    known = fill(kind.file, {**{name: f"{{{name}}}" for name in unbound}, **entry.groups})
    return f"no mask file matches {known!r}"


def _guard(
    structures: Structures,
    path: Path,
    kind: Masks,
    files: list[MaskFile],
    image: Volume,
    entry: Entry,
    strict: bool,
) -> bool:
    """Read files of one kind; False if they could not be used. An empty one can, and is reported if asked."""
    try:
        for structure, mask, instance in _read(kind, files, image, entry, strict, structures):
            structures.add(structure, mask, instance)
    except _Empty as error:
        if kind.absent == "report":
            structures.problems.append((path, str(error)))
    except Unreadable as error:
        structures.problems.append((path, str(error)))
        return False
    return True


def _add_strokes(structures: Structures, kind: Masks, file: MaskFile, entry: Entry) -> None:
    """Read what people drew of a structure."""
    path = file.path.parent / fill(kind.strokes or "", {**entry.groups, **file.groups})
    try:
        with readable():
            check_below(path, entry.root)
            check_size(path, ".npz")
            with np.load(path, allow_pickle=False) as content:
                drawn = [content[name] for name in sorted(content.files, key=natural)]
    except Unreadable as error:
        structures.problems.append((path, f"strokes: no npz file of arrays ({error})"))
        return
    wanted = (2, *structures.shape[1:])
    strange = next((one for one in drawn if one.shape != wanted or one.dtype != bool), None)
    if strange is not None:
        structures.problems.append(
            (path, f"strokes: {strange.dtype} {strange.shape}, expected bool {wanted}")
        )
        return
    structures.strokes[kind.structure or ""] = tuple(drawn)


def _report_missing_files(structures: Structures, kind: Masks, files: list[MaskFile]) -> list[str]:
    """Report each file that is missing where every structure has its own; the structures' names."""
    if not kind.listed or kind.absent == "skip":
        return []
    there = {file.groups.get("structure") for file in files}
    missing = {value: name for value, name in kind.listed.items() if value not in there}
    for value, name in missing.items():
        structures.problems.append((files[0].path.parent, f"no mask file of {name} ({value})"))
    return list(missing.values())


Found = Iterator[tuple[str, NDArray[np.bool_], int | None]]


def _read(
    kind: Masks, files: list[MaskFile], image: Volume, entry: Entry, strict: bool, structures: Structures
) -> Found:
    """Masks in the files: (structure, mask, instance)."""
    path = files[0].path
    inside = list(path.iterdir()) if path.is_dir() else []
    if len(inside) == 1 and _is_segmentation(inside[0]):  # as archives lay out a DICOM-SEG
        path = inside[0]
    check_below(path, entry.root)
    if _is_segmentation(path):
        if kind.labels is None:
            raise Unreadable("is a DICOM-SEG; say with labels which of its segments are which structures")
        yield from _segments(kind, path, image, structures)
        return
    if suffix_of(path) == ".xml":
        volume = Volume(
            polygon_mask(path, image.array.shape[1:], fill(kind.select or "", entry.groups))[None]
        )
    else:
        if kind.colours and suffix_of(path) not in PICTURE_SUFFIXES:
            raise Unreadable("is no picture; only pictures have colours as labels")
        volume = _stack(files, image, kind, entry.root) if kind.per_slice else _one(path, kind, entry)
    problem = same_grid(image, volume, strict=strict)
    if problem:
        raise Unreadable(problem)
    if volume.array.dtype.kind == "f" and not np.isfinite(volume.array).all():
        raise Unreadable("the mask holds NaN or infinite values")
    if kind.labels is not None:
        yield from _labelled(kind, volume, path, structures)
        return
    (name,) = files[0].names()
    mask = volume.array > _threshold(kind, volume.array, path, entry.root)
    if not mask.any():
        raise _Empty(f"the mask of {name} is empty")
    yield from _objects(kind, name, mask)


def _objects(kind: Masks, name: str, mask: NDArray[np.bool_]) -> Found:
    """The objects that a structure's mask in one file makes."""
    if kind.outline:
        try:
            mask = fill_outline(mask)
        except Unreadable as error:
            raise Unreadable(f"{name}: {error}") from error
    if kind.instances == "components":
        numbered, count = ndimage.label(mask, ndimage.generate_binary_structure(3, 3))
        for k in range(1, count + 1):
            yield name, numbered == k, None
    else:
        yield name, mask, None if kind.instances == "files" else 0


def _one(path: Path, kind: Masks, entry: Entry) -> Volume:
    """A mask file; a 4-D one is cut to the image's frame."""
    frame = entry.frame if isinstance(entry.frame, int) else None  # a 3-D file has none to choose
    return read_volume(
        path,
        key=kind.key,
        axes=kind.axes,
        frame=frame,
        mask=True,
        colours=_colours(kind),
        root=entry.root,
    )


def _colours(kind: Masks) -> Colours:
    """What a picture's colours are: labels told apart by colour must not become one number."""
    if kind.labels is None:
        return "shown"
    return "number" if kind.colours else "stored"


def _is_segmentation(path: Path) -> bool:
    others = (*VOLUME_SUFFIXES, *PICTURE_SUFFIXES, *ARRAY_SUFFIXES, ".xml")
    return path.is_file() and suffix_of(path) not in others and is_segmentation(path)


_told: set[tuple[str, Path]] = set()
"""Patterns of masks, with their data roots, of which a doubt has been told."""


def _threshold(kind: Masks, values: NDArray, path: Path, root: Path) -> float:
    if kind.threshold is not None:
        return kind.threshold
    found = threshold_of(values)
    if found.doubt is not None and (kind.file, root) not in _told:
        _told.add((kind.file, root))
        log.warning("%s %s; masks.threshold in the descriptor says otherwise", path.name, found.doubt)
    return found.value


def _stack(files: list[MaskFile], image: Volume, kind: Masks, root: Path) -> Volume:
    """One picture a slice to a volume, in the order of the image's own files where it has them."""
    if len(files) != len(image.array):
        raise Unreadable(f"{len(files)} mask files for {len(image.array)} slices; expected one a slice")
    ordered = sorted(files, key=lambda file: natural(file.path.name))
    by_name = sorted(
        range(len(image.array)), key=lambda k: natural(image.files[k]) if image.files else [(0, k, "")]
    )
    pictures: dict[int, NDArray] = {}
    lossy = False
    for position, file in zip(by_name, ordered, strict=True):
        try:
            volume = read_volume(
                file.path, key=kind.key, axes=kind.axes, mask=True, colours=_colours(kind), root=root
            )
        except Unreadable as error:
            raise Unreadable(f"{file.path.name} {error}") from error
        picture, lossy = volume.array, lossy or volume.lossy
        if picture.shape[0] != 1 or picture.shape[1:] != image.array.shape[1:]:
            size, expected = (" x ".join(map(str, array.shape[1:])) for array in (picture, image.array))
            raise Unreadable(f"{file.path.name} is {size}, the image's slices are {expected}")
        pictures[position] = picture[0]
    stacked = np.stack([pictures[position] for position in sorted(pictures)])  # of the widest type among them
    return replace(image, array=stacked, lossy=lossy)  # a picture lies as the slice that it was drawn on


def _numbers(values: list[int | str], present: NDArray) -> list[int]:
    """The label numbers of `present` that a descriptor's values (numbers, ranges and colours) name."""
    chosen: list[int] = []
    for value in values:
        if isinstance(value, str) and COLOUR.fullmatch(value):
            value = int(value[1:], 16)
        if isinstance(value, str) and ".." in value:
            low, high = (int(end) for end in value.split(".."))
            chosen += [int(number) for number in present if low <= number <= high]
        elif isinstance(value, int) and value in present:
            chosen.append(value)
    return chosen


def _labels_of(array: NDArray, colours: bool) -> tuple[NDArray, NDArray]:
    """The labels in a label map, sorted, and the map: of colours (they are many) their places among those."""
    if colours:
        present, places = np.unique(array, return_inverse=True)
        return present, places.reshape(array.shape).astype(np.int32)
    if array.max() > 65535:
        raise Unreadable(f"holds values up to {array.max():g}, expected label numbers up to 65535")
    if array.min() < 0:  # -1 marks background, or what is to be ignored
        array = np.maximum(array, 0)
    if array.dtype.kind in "bf" or array.dtype.itemsize == 8:
        array = array.astype(np.uint16)
    size = int(array.max()) + 1
    return np.flatnonzero(sum(np.bincount(part.ravel(), minlength=size) for part in array)), array


def _labelled(kind: Masks, volume: Volume, path: Path, structures: Structures) -> Found:
    """The structures of a multi-label file; those that are as drawn are added at once, the others come."""
    array = volume.array
    if volume.lossy:
        raise Unreadable(
            "a JPEG keeps no label numbers or colours exactly; expected PNG or TIFF, or one structure"
        )
    if array.dtype.kind == "f":
        rounded = np.rint(array)
        if not np.allclose(array, rounded, atol=1e-3):
            raise Unreadable("holds fractional values, expected label numbers")
        array = rounded
    present, array = _labels_of(array, kind.colours)
    if not present.any():
        raise _Empty(f"the mask is empty: no label but {'black' if kind.colours else 0}")
    wanted = {name: _numbers(values, present) for name, values in (kind.labels or {}).items()}
    found = {name: numbers for name, numbers in wanted.items() if numbers}
    if kind.colours:  # their places among those present, which the array holds
        found = {name: np.searchsorted(present, numbers).tolist() for name, numbers in found.items()}
    if kind.instances == "union" and not kind.outline:
        structures.add_labels(array, found)
    else:
        for name, numbers in found.items():
            parts = [[number] for number in numbers] if kind.instances == "components" else [numbers]
            for part in parts:  # labels that touch are no one component
                yield from _objects(kind, name, np.isin(array, part))
    shown = ", ".join(map(str, present[:12])) + (", ..." if len(present) > 12 else "")
    shown = colour_names(present) if kind.colours else shown
    for name, numbers in wanted.items():
        if not numbers and kind.absent == "report":
            asked = ", ".join(map(str, (kind.labels or {})[name]))
            structures.problems.append((path, f"label {asked} ({name}) is not in the file; it holds {shown}"))


def _segments(kind: Masks, path: Path, image: Volume, structures: Structures) -> Found:
    masks = read_segments(path, image)
    for structure, values in (kind.labels or {}).items():
        chosen = [masks[value] for value in values if value in masks]
        mask = np.any(chosen, axis=0) if chosen else np.zeros(0, bool)
        if mask.any():
            yield from _objects(kind, structure, mask)
        elif kind.absent == "report":
            wanted = ", ".join(map(str, values))
            shown = ", ".join(str(key) for key in masks)
            reason = "is empty" if chosen else f"is not in the file; it holds {shown}"
            structures.problems.append((path, f"segment {wanted} ({structure}) {reason}"))


def fill_outline(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Fill a drawn outline slice by slice, bool (Z, H, W); an outline that the frame cuts is closed along it.

    A region that is filled already stays. Small gaps are closed first. Where an outline runs out of the
    image, the side of the frame that it meets belongs to it; the sides are tried one by one.
    """
    filled = np.zeros_like(mask)
    for k, outline in enumerate(mask):
        if outline.any():
            filled[k] = _fill(outline)
    return filled


def _fill(outline: NDArray[np.bool_]) -> NDArray[np.bool_]:
    x0, y0, x1, y1 = tight_box(outline)
    if depth(outline).max() > 0.1 * max(x1 - x0, y1 - y0):
        return outline  # no stroke is so thick, a fifth of its extent: it is filled already
    best = ndimage.binary_fill_holes(outline)
    if best.sum() > 2 * outline.sum():
        return best
    closed = ndimage.binary_closing(np.pad(outline, 8), np.ones((3, 3)), iterations=3)[8:-8, 8:-8]
    padded = np.pad(closed | outline, 1)
    for side in (np.s_[0, :], np.s_[-1, :], np.s_[:, 0], np.s_[:, -1]):
        met = np.flatnonzero(padded[1:-1, 1:-1][side])
        if len(met):
            trial = padded.copy()
            trial[side][met[0] + 1 : met[-1] + 2] = True
            grown = ndimage.binary_fill_holes(trial)[1:-1, 1:-1]
            best = grown if grown.sum() > best.sum() else best
    filled = ndimage.binary_fill_holes(padded)[1:-1, 1:-1]
    best = filled if filled.sum() > best.sum() else best
    if best.sum() <= 2 * outline.sum():
        raise Unreadable("the outline is not closed: nothing to fill")
    return best


@readable()
def polygon_mask(path: Path, shape: tuple[int, ...], select: str) -> NDArray[np.bool_]:
    """Union of the polygons of an XML file, bool (H, W).

    The file holds ``<mark><image>1</image><svg>JSON</svg></mark>`` elements; the JSON is a list of regions
    with ``points``, a list of ``{"x": column, "y": row}`` in pixels. `select` is the text of the ``image``
    element of the marks that count, empty for all.

    Raises
    ------
    Unreadable
        If the file is no such XML or has no polygon for the image.
    """
    from skimage.draw import polygon2mask

    try:
        root = ElementTree.parse(path).getroot()
    except (ElementTree.ParseError, OSError) as error:
        raise Unreadable(f"not valid XML ({error})") from error
    mask = np.zeros(shape, bool)
    for mark in root.iter("mark"):
        if select and (mark.findtext("image") or "").strip() != select:
            continue
        try:
            for region in json.loads(mark.findtext("svg") or "[]"):
                points = np.array([[point["y"], point["x"]] for point in region.get("points") or []], float)
                if len(points) >= 3:
                    mask |= polygon2mask(shape, points)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise Unreadable(f"polygons cannot be read ({error})") from error
    if not mask.any():
        raise _Empty(f"no polygon of image {select!r}" if select else "no polygon")
    return mask
