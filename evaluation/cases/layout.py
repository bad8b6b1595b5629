"""A descriptor's files on the disk: which images there are and which mask files belong to each."""

from __future__ import annotations

import csv
import glob
import math
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from synthfm.data.console import InputError
from synthfm.data.files import natural
from synthfm.data.folder import MANIFEST, read_manifest, shard_paths
from synthfm.evaluation.cases.patterns import Folders, Groups, fill, group_names, match
from synthfm.evaluation.cases.schema import Descriptor, GivenShards, Masks, Source
from synthfm.evaluation.formats.reach import check_below, is_below
from synthfm.evaluation.formats.volume import Unreadable


@dataclass(frozen=True)
class MaskFile:
    """One mask file of an image and what the descriptor says of it."""

    path: Path
    kind: Masks
    groups: Groups

    def names(self) -> list[str]:
        """The structures that it is to hold."""
        if self.kind.structures is not None:
            value = self.groups["structure"]
            return [self.kind.listed.get(value, value)]
        return self.kind.names()

    @property
    def listed(self) -> bool:
        """Whether its structure is one that is asked for."""
        return not self.kind.listed or self.groups["structure"] in self.kind.listed


@dataclass(frozen=True)
class Entry:
    """One image or volume (or one frame of it) with its mask files.

    Attributes
    ----------
    id
        Readable and unique in the dataset.
    patient
        Whose it is, unique in the dataset; the id without its frame, where the descriptor does not say.
    image
        The file, or the folder of a DICOM series.
    groups
        What the image's pattern bound.
    masks
        Mask files in natural order; may be empty.
    unlisted
        Files that match as masks do, but whose structure is none of the descriptor's.
    wanted
        The kinds of masks that the descriptor asks for.
    frame
        Frame of a 4-D file, None for the whole file.
    spacing
        mm (rows, columns) from the descriptor's table, None where it says nothing.
    root
        The data root, out of which nothing leads.
    """

    id: str
    patient: str
    image: Path
    groups: Groups
    masks: tuple[MaskFile, ...]
    unlisted: tuple[MaskFile, ...]
    wanted: tuple[Masks, ...]
    frame: int | str | None
    spacing: tuple[float, float] | None
    root: Path


def entries(descriptor: Descriptor, root: Path) -> Iterator[Entry]:
    """All images of a dataset with their masks, in natural order; ids are unique.

    Where two sources give the same id (one download in two formats), the first counts.

    Raises
    ------
    InputError
        If two images of one source have the same id: one of them would be lost; if one mask belongs to two of
        them by a text that should tell them apart; or if a table of spacings names none of them.
    """
    folders = Folders()
    seen: dict[str, tuple[Source, Path]] = {}
    for source, folder in places(descriptor, root, folders):
        table = _spacing_table(descriptor, folder, root)
        images = list(match(folder, source.image, folders))
        _check_pairing(source, len(images))
        _check_table(descriptor, _table_path(descriptor, folder, root), table, [path for path, _ in images])
        claims: dict[tuple[Path, str], tuple[Groups, Path]] = {}
        for path, groups in images:
            matched = _mask_files(source, folder, groups, folders)
            masks = [mask for mask in matched if mask.listed]
            for mask in masks:
                _claim(claims, mask, groups, path)
            for frame, chosen in _frames(descriptor, masks):
                entry_id = _entry_id(
                    source, groups, path, frame if isinstance(frame, int) else None, descriptor
                )
                if entry_id in seen:
                    first_source, first = seen[entry_id]
                    if first_source is source and first != path:
                        raise InputError(_same_id(entry_id, first, path, groups))
                    continue
                seen[entry_id] = source, path
                yield Entry(
                    entry_id,
                    fill(source.patient, groups)
                    if source.patient
                    else _entry_id(source, groups, path, None, descriptor),
                    path,
                    groups,
                    tuple(chosen),
                    tuple(mask for mask in matched if not mask.listed),
                    tuple(source.masks),
                    frame,
                    table.get(path.name),
                    root,
                )


def _check_pairing(source: Source, images: int) -> None:
    known = group_names(source.image)
    for kind in source.masks:
        if images > 1 and not known & group_names(kind.file):
            groups = ", ".join(f"{{{name}}}" for name in sorted(known)) or "none; name some in 'image'"
            raise InputError(
                f"masks.file {kind.file!r} holds no group of the image's pattern {source.image!r}, so all "
                f"{images} images would get the same masks (its groups: {groups})"
            )


def _check_table(
    descriptor: Descriptor, file: Path | None, table: dict[str, tuple[float, float]], images: list[Path]
) -> None:
    columns = descriptor.spacing_table
    if columns is None or not table or any(path.name in table for path in images):
        return
    raise InputError(
        f"{file}: no {columns.name!r} is the name of an image, such as "
        f"{images[0].name!r}; the first is {next(iter(table))!r}"
    )


def _claim(
    claims: dict[tuple[Path, str], tuple[Groups, Path]], mask: MaskFile, groups: Groups, image: Path
) -> None:
    """Note whose a mask is. Images share one only where its pattern does not tell them apart."""
    pattern = mask.kind.file
    used = {name: groups[name] for name in group_names(pattern) & groups.keys()}
    before, first = claims.setdefault((mask.path, pattern), (used, image))
    if before != used:
        raise InputError(
            f"{mask.path} is a mask of {first.name} and of {image.name} by masks.file {pattern!r}; say what "
            "its '*' and groups may be, as in {number:[0-9]+}"
        )


def files(descriptor: Descriptor, root: Path) -> list[Path]:
    """The files that a dataset is read from, sorted: images, masks and tables of spacings, or its shards."""
    folder = shards_of(descriptor, root)
    if folder is not None:
        return [folder / MANIFEST, *shard_paths([folder])]
    found: set[Path] = set()
    for entry in entries(descriptor, root):
        for path in (entry.image, *(mask.path for mask in entry.masks)):
            found.update(_parts_of(path))
    tables = (_table_path(descriptor, folder, root) for _, folder in places(descriptor, root, Folders()))
    found.update(path for path in tables if path is not None)
    return sorted(found)


def shards_of(descriptor: Descriptor, root: str | Path) -> Path | None:
    """A dataset's folder of shards; None where it has none.

    Raises
    ------
    InputError
        If a descriptor's file names one of which anything lies outside of the data root, links resolved.
    """
    if descriptor.shards is None or isinstance(descriptor, GivenShards):
        return None if descriptor.shards is None else Path(descriptor.shards)
    folder = Path(root) / descriptor.shards
    try:
        check_below(folder, Path(root))
    except Unreadable as error:
        raise InputError(f"dataset {descriptor.name}: shards: {error}") from error
    return folder


def _parts_of(path: Path) -> list[Path]:
    """The files of an image or mask: a series' slices, a header's voxels beside it."""
    if path.is_dir():
        return [part for part in path.iterdir() if part.name[0] != "."]
    if path.suffix.lower() in (".mhd", ".nhdr", ".hdr"):
        return [path, *path.parent.glob(f"{glob.escape(path.stem)}.*")]
    return [path]


def _same_id(entry_id: str, first: Path, second: Path, groups: Groups) -> str:
    names = ", ".join(f"{{{name}}}" for name in sorted(groups)) or "none; name some in 'image'"
    return (
        f"{first} and {second} both have the id {entry_id!r}; tell them apart in sources.id "
        f"(the image's groups: {names})"
    )


@dataclass(frozen=True)
class Found:
    """What is there of a dataset: its folder and how many images or volumes with masks (and without)."""

    name: str
    folder: Path | None
    images: int
    without_mask: int = 0
    kind: str = "image"

    def __str__(self) -> str:
        if self.folder is None:
            return "not found"
        bare = f", {self.without_mask} more without masks" if self.without_mask else ""
        return f"{self.images} {self.kind}{'' if self.images == 1 else 's'}{bare}"

    def __format__(self, spec: str) -> str:
        return format(str(self), spec)


def find(descriptor: Descriptor, root: str | Path) -> Found:
    """Look for a dataset under a data root; nothing is opened but folders (and a manifest of shards)."""
    folder = shards_of(descriptor, root)
    if folder is not None:
        return Found(descriptor.name, folder, read_manifest(folder).num)
    found = list(entries(descriptor, Path(root)))
    bare = sum(not entry.masks for entry in found)
    kind = "image" if descriptor.image.dimensions == 2 else "volume"
    return Found(descriptor.name, _place_of(descriptor, Path(root)), len(found) - bare, bare, kind)


def _place_of(descriptor: Descriptor, root: Path) -> Path | None:
    """The folder of a dataset's (first) source under a root, None if nothing is there."""
    return next((folder for _, folder in places(descriptor, root, Folders())), None)


def absence(descriptor: Descriptor, root: Path) -> str:
    """What was expected of a dataset of which nothing is there, and what is there instead."""
    source, folders = descriptor.sources[0], Folders()
    text = f"expected images {source.image!r} in the folder {source.folder[0]!r}"
    outside = next(_candidates(source, root, folders, outside=True), None)
    if outside is not None:
        return f"{text}, which leads out of the data root to {outside.resolve()}; give a root that holds it"
    folder = next(_candidates(source, root, folders), None)
    if folder is None:
        return f"{text}, which is not there"
    for part in PurePosixPath(source.image).parts[:-1]:
        deeper = folders.find(folder, part)
        if deeper is None or not deeper.is_dir():
            break
        folder = deeper
    names = folders.names(folder)
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return f"{text}; {folder} holds {', '.join(names[:3]) or 'nothing'}{more}"


def places(descriptor: Descriptor, root: Path, folders: Folders) -> Iterator[tuple[Source, Path]]:
    """Each source with its folder: the first candidate with images and masks, else the first with images."""
    for source in descriptor.sources:
        fallback: Path | None = None
        for folder in _candidates(source, root, folders):
            first = next(match(folder, source.image, folders), None)
            if first is None:
                continue
            fallback = fallback or folder
            if _any_mask(source, folder, folders):
                yield source, folder
                break
        else:
            if fallback is not None:
                yield source, fallback


def _any_mask(source: Source, folder: Path, folders: Folders) -> bool:
    return any(
        mask.listed
        for _, groups in match(folder, source.image, folders)
        for mask in _mask_files(source, folder, groups, folders)
    )


def _candidates(source: Source, root: Path, folders: Folders, outside: bool = False) -> Iterator[Path]:
    """The folders as written, then without leading parts: the data root may lie inside the download.

    Those that lie below the root, links resolved, or else those `outside` of it.
    """
    seen: set[Path] = set()
    parts = [PurePosixPath(unicodedata.normalize("NFC", name)).parts for name in source.folder]
    for skip in range(max(map(len, parts), default=0) + 1):
        for part in parts:
            folder: Path | None = root
            for name in part[skip:]:
                folder = folders.find(folder, name) if folder is not None else None
            if skip <= len(part) and folder is not None and folder not in seen and folder.is_dir():
                seen.add(folder)
                if is_below(folder, root) != outside:
                    yield folder


def _mask_files(source: Source, folder: Path, groups: Groups, folders: Folders) -> list[MaskFile]:
    return [
        MaskFile(path, kind, found)
        for kind in source.masks
        for path, found in match(folder, kind.file, folders, groups)
    ]


def _frames(
    descriptor: Descriptor, masks: list[MaskFile]
) -> Iterator[tuple[int | str | None, list[MaskFile]]]:
    """The image's frames with the masks of each, where a group of the mask's name numbers the frame."""
    frame = descriptor.image.frame
    if not isinstance(frame, str) or frame == "each":
        yield frame, masks
        return
    if not masks:
        yield None, masks
        return
    (group,) = group_names(frame)
    numbers = sorted({mask.groups.get(group, "") for mask in masks}, key=natural)
    for number in numbers:
        if not number.isdecimal():
            raise InputError(
                f"{masks[0].path}: group {{{group}}} should be the frame's number, found {number!r}"
            )
        chosen = [mask for mask in masks if mask.groups.get(group) == number]
        yield int(number) - descriptor.image.first_frame, chosen


def _entry_id(source: Source, groups: Groups, path: Path, frame: int | None, descriptor: Descriptor) -> str:
    name = fill(source.id, groups) if source.id else "/".join(value for value in groups.values() if value)
    name = name or path.name.split(".")[0]
    if frame is not None and isinstance(descriptor.image.frame, str):
        name += f"/frame{frame + descriptor.image.first_frame:02d}"
    return name


def _table_path(descriptor: Descriptor, folder: Path, root: Path) -> Path | None:
    if descriptor.spacing_table is None:
        return None
    paths = (place / descriptor.spacing_table.table for place in (folder, folder.parent))
    path = next((path for path in paths if path.is_file()), None)
    if path is not None and not is_below(path, root):
        raise InputError(f"{path}: the table of spacings lies outside of the data root {root}")
    return path


def _spacing_table(descriptor: Descriptor, folder: Path, root: Path) -> dict[str, tuple[float, float]]:
    table, path = descriptor.spacing_table, _table_path(descriptor, folder, root)
    if table is None or path is None:
        return {}
    try:
        with open(path, newline="", encoding="utf-8-sig") as handle:
            rows = list(csv.DictReader(handle))
        found = {row[table.name].strip(): (_millimetres(row[table.column]),) * 2 for row in rows}
    except (KeyError, ValueError, TypeError, AttributeError, csv.Error) as error:
        raise InputError(
            f"{path}: expected columns {table.name!r} and {table.column!r} (mm) in every row"
        ) from error
    return found


def _millimetres(text: str) -> float:
    """A length above 0, or NaN for anything else, which costs the image of that row."""
    try:
        value = float(text)
    except ValueError:
        return math.nan
    return value if 0 < value < math.inf else math.nan
