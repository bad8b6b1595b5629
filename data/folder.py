"""A dataset: a folder of shards and a ``manifest.json`` with the config and the SHA-256 of every shard."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pydantic
from numpy.typing import NDArray

from synthfm.data.console import InputError
from synthfm.data.files import sha256, write_atomically
from synthfm.data.guard import opening, read_json
from synthfm.data.shards import AXES, FORMAT, VERSION, Sample, Shard, StoredStroke, object_masks

MANIFEST = "manifest.json"
UNFINISHED = "unfinished.json"
"""The manifest without its shards, there while a folder is being filled; a reader that sees it refuses."""


@dataclass(frozen=True)
class ShardInfo:
    """One shard's line in the manifest."""

    file: str
    first_index: int
    count: int
    objects: int
    bytes: int
    sha256: str


@dataclass(frozen=True)
class Manifest:
    """What a dataset folder says of itself: ``manifest.json``."""

    config: dict[str, Any]
    package_version: str
    root_seed: int
    num: int
    shard_size: int
    shards: tuple[ShardInfo, ...]
    format: str = FORMAT
    version: int = VERSION

    @property
    def of_volumes(self) -> bool:
        """Whether its samples are slices of volumes, of which each shard holds whole ones."""
        depth = self.config.get("volume", {}).get("depth", 1)
        return max(depth if isinstance(depth, list) else [depth]) > 1


def describe_shard(path: Path) -> ShardInfo:
    """The manifest's line for a shard on the disk."""
    with Shard(path) as shard:
        return ShardInfo(
            file=path.name,
            first_index=shard.first_index,
            count=shard.count,
            objects=len(shard.objects),
            bytes=path.stat().st_size,
            sha256=sha256(path),
        )


def write_manifest(folder: Path, manifest: Manifest, name: str = MANIFEST) -> None:
    """Write ``manifest.json`` (or :data:`UNFINISHED`) atomically; keys in a fixed order."""
    write_atomically(folder / name, json.dumps(dataclasses.asdict(manifest), indent=1) + "\n")


def read_manifest(folder: str | Path) -> Manifest:
    """Read a dataset folder's manifest.

    Raises
    ------
    InputError
        If the folder or its manifest is missing or is not one of ours.
    """
    path = Path(folder) / MANIFEST
    if not path.parent.is_dir():
        raise InputError(f"{path.parent}: no such folder")
    if (path.parent / UNFINISHED).exists():
        raise InputError(
            f"{path.parent}: an unfinished dataset ({UNFINISHED} is there); run the same synthfm-generate "
            "command again to finish it"
        )
    if not path.is_file():
        raise InputError(
            f"{path.parent}: no {MANIFEST} here; expected a folder that synthfm-generate has finished"
        )
    return parse_manifest(path)


def parse_manifest(path: Path) -> Manifest:
    """Read one ``manifest.json`` or ``unfinished.json``; :class:`InputError` if it is not one of ours."""
    content = read_json(path, f"a {FORMAT} manifest")
    with opening(path, f"not a {FORMAT} manifest"):
        shards = tuple(ShardInfo(**line) for line in content.pop("shards"))
        manifest = Manifest(**content, shards=shards)
        wrong = _wrong_value(manifest)
    if wrong is not None:
        raise InputError(f"{path}: not a {FORMAT} manifest (wrong value at {wrong!r})")
    if manifest.format != FORMAT:
        raise InputError(f"{path}: format is {manifest.format!r}, expected {FORMAT!r}")
    if manifest.version < 1:
        raise InputError(f"{path}: not a {FORMAT} manifest (wrong value at 'version')")
    if manifest.version > VERSION:
        raise InputError(f"{path}: format version {manifest.version} is newer than {VERSION}; update synthfm")
    return manifest


def _wrong_value(manifest: Manifest) -> str | None:
    """The key of the first value that is of another kind, or that no folder of shards can have; else None."""
    try:
        pydantic.TypeAdapter(Manifest).validate_json(json.dumps(dataclasses.asdict(manifest)), strict=True)
    except pydantic.ValidationError as error:
        return ".".join(str(part) for part in error.errors()[0]["loc"])
    depth = manifest.config.get("volume", {})
    depth = depth.get("depth", 1) if isinstance(depth, dict) else None
    if not all(type(end) is int for end in (depth if isinstance(depth, list) else [depth])) or depth == []:
        return "config.volume.depth"
    for key, least in (("num", 0), ("shard_size", 1)):
        if getattr(manifest, key) < least:
            return key
    for number, line in enumerate(manifest.shards):
        if line.file in ("", ".", "..") or "\0" in line.file or Path(line.file).name != line.file:
            return f"shards.{number}.file"  # a shard lies in the folder itself
        for key in ("first_index", "objects"):
            if getattr(line, key) < 0:
                return f"shards.{number}.{key}"
        if not 1 <= line.count <= line.bytes:  # a sample takes some bytes
            return f"shards.{number}.count"
    return None


def shard_paths(folders: Sequence[str | Path]) -> list[Path]:
    """Paths of all shards in the dataset folders, in order.

    Raises
    ------
    InputError
        If a folder holds no finished dataset, or a shard of its manifest is missing.
    """
    paths: list[Path] = []
    for folder in folders:
        manifest = read_manifest(folder)
        if not manifest.shards:
            raise InputError(f"{folder}: the dataset is empty; generate it with --num above 0")
        for line in manifest.shards:
            path = Path(folder) / line.file
            if not path.is_file():
                raise InputError(
                    f"{path}: named in {MANIFEST} but missing; run the same synthfm-generate again"
                )
            if line.count > path.stat().st_size:
                raise InputError(f"{path}: cannot hold the {line.count} samples that {MANIFEST} says")
            paths.append(path)
    return paths


def verify(folder: str | Path) -> Iterator[tuple[str, str | None]]:
    """Read a dataset back against its manifest, schema and checksums.

    Yields
    ------
    (file, problem)
        One pair a shard, in order; the problem is None where there is none. A file in the folder that looks
        like a shard but is not in the manifest is a problem as well, and so are lines of the manifest that do
        not hold every sample once.
    """
    folder = Path(folder)
    manifest = read_manifest(folder)
    known = {line.file for line in manifest.shards}
    for line in manifest.shards:
        yield line.file, _verify_shard(folder / line.file, line, manifest)
    gap = _gap(manifest)
    if gap:
        yield MANIFEST, f"{folder / MANIFEST}: {gap}"
    for path in sorted(folder.glob("*.h5")):
        if path.name not in known:
            yield path.name, f"{path}: not in {MANIFEST}"


def _gap(manifest: Manifest) -> str | None:
    """Where the manifest's lines do not hold samples 0 to `num` - 1 in order, or None."""
    following = 0
    for line in manifest.shards:
        if line.first_index != following:
            return f"{line.file} begins with sample {line.first_index}, expected {following}"
        following += line.count
    return None if following == manifest.num else f"its shards hold {following} of {manifest.num} samples"


def _verify_shard(path: Path, line: ShardInfo, manifest: Manifest) -> str | None:
    try:
        with Shard(path) as shard:
            counts = len(shard.objects), path.stat().st_size
            if (shard.first_index, shard.count) != (line.first_index, line.count):
                return f"{path}: holds {shard.count} samples from {shard.first_index}; {MANIFEST} differs"
            if (shard.index != np.arange(line.first_index, line.first_index + line.count)).any():
                return f"{path}: its samples are not numbered from {line.first_index} on"
            for name in ("package_version", "root_seed"):
                if getattr(shard, name) != getattr(manifest, name):
                    return f"{path}: {name} is {getattr(shard, name)}; {MANIFEST} differs"
            if shard.config != json.dumps(manifest.config, sort_keys=True):
                return f"{path}: made with another config than {MANIFEST}'s"
            broken = check_volumes(shard)
            if broken:
                return f"{path}: {broken}"
            for position, sample in enumerate(shard):
                problem = check_sample(sample)
                if problem:
                    return f"{path}: sample {position} (index {sample.index}): {problem}"
    except InputError as error:
        return str(error)
    if sha256(path) != line.sha256:
        return f"{path}: SHA-256 differs from {MANIFEST}; the file was changed after it was written"
    if counts != (line.objects, line.bytes):
        return f"{path}: holds {counts[0]} objects in {counts[1]} bytes; {MANIFEST} differs"
    return None


def check_volumes(shard: Shard) -> str | None:
    """What is wrong with the volumes of a shard and the tracks of their objects, or None.

    A volume's rows are one run, its slices 0 to D - 1 in order; a track is in each slice from its first to
    its last, once. Single images belong to no volume and their objects to no track.
    """
    volume, number = shard.volume, shard.slice
    if (number[volume < 0] != -1).any():
        return "a single image has a number in 'sample/slice'"
    for k in range(len(shard.axis)):
        rows = np.flatnonzero(volume == k)
        if not len(rows) or (rows != rows[0] + np.arange(len(rows))).any():
            return f"volume {k}: its slices are not one run of rows"
        wrong = np.flatnonzero(number[rows] != np.arange(len(rows)))
        if len(wrong):
            return f"volume {k}: slice {wrong[0]} is missing; {number[rows[wrong[0]]]} is in its place"
        if not (np.isfinite(shard.spacing[k]).all() and (shard.spacing[k] > 0).all()):
            return f"volume {k}: spacing {shard.spacing[k].tolist()} is not three numbers above 0"
        if shard.axis[k] not in AXES:
            return f"volume {k}: axis {str(shard.axis[k])!r} is none of {', '.join(AXES)}"
    return _check_tracks(shard)


def _check_tracks(shard: Shard) -> str | None:
    """Where a track is broken, or None."""
    counts = np.diff(shard.start)
    volume, number = np.repeat(shard.volume, counts), np.repeat(shard.slice, counts)
    track = shard.objects.track
    if ((track >= 0) != (volume >= 0)).any():
        return "an object of a volume has no track, or one of a single image has one"
    order = np.lexsort((number, track, volume))
    volume, number, track = volume[order], number[order], track[order]
    same = (volume[1:] == volume[:-1]) & (track[1:] == track[:-1]) & (volume[1:] >= 0)
    broken = np.flatnonzero(same & (np.diff(number) != 1))
    if not len(broken):
        return None
    k = broken[0]
    name = f"volume {volume[k]}: track {track[k]}"
    if number[k] == number[k + 1]:
        return f"{name} is twice in slice {number[k]}"
    return f"{name} is in slices {number[k]} and {number[k + 1]}, but in none between"


def check_sample(sample: Sample) -> str | None:
    """What is wrong with a sample's label map and object table, or None."""
    objects = sample.objects
    if not (sample.modality.isascii() and sample.modality.isalnum()):
        return f"modality {sample.modality!r} is no name of letters and digits"
    if len(np.unique(objects.label)) != len(objects) or (objects.label == 0).any():
        return "object labels are not unique numbers from 1"
    unknown = np.setdiff1d(np.unique(sample.label), np.append(objects.label[~objects.is_set], 0))
    if len(unknown):
        return f"label {unknown[0]} of the label map is not in the object table"
    try:
        masks = object_masks(sample.label, objects)
    except ValueError as error:
        return str(error)
    height, width = sample.label.shape
    bits = np.unpackbits(objects.members, axis=1).astype(bool)
    plain = objects.label[~objects.is_set]
    for k, mask in enumerate(masks):
        name = f"object {objects.label[k]}"
        if strange := np.setdiff1d(np.flatnonzero(bits[k]), plain).tolist():
            return f"{name} is made up of label {strange[0]}, which is no object's own"
        if not mask.any():
            return f"{name} has no pixel"
        ys, xs = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        if tuple(objects.box[k]) != (xs[0], ys[0], xs[-1] + 1, ys[-1] + 1):
            return f"{name}: box {objects.box[k].tolist()} is not tight"
        if objects.area[k] != np.count_nonzero(mask):
            return f"{name}: area {objects.area[k]} is not the mask's"
        used = objects.point_labels[k] >= 0
        x, y = objects.points[k][used].T
        if ((x < 0) | (y < 0) | (x >= width) | (y >= height)).any():
            return f"{name}: a click lies outside the image"
        if (mask[y, x] != (objects.point_labels[k][used] == 1)).any():
            return f"{name}: a click lies on the wrong side of the mask's edge"
        for number, stroke in enumerate(objects.strokes[k]):
            if problem := _stroke_problem(stroke, mask):
                return f"{name}: stroke {number} {problem}"
            if stroke.inside and number and not objects.strokes[k][number - 1].inside:
                return f"{name}: stroke {number} is inside, after one that is outside"
    return None


def _stroke_problem(stroke: StoredStroke, mask: NDArray[np.bool_]) -> str | None:
    """What is wrong with a stroke of the object that has this mask, or None."""
    if not len(stroke.pixels):
        return "is empty"
    x, y = stroke.pixels.T
    height, width = mask.shape
    if ((x < 0) | (y < 0) | (x >= width) | (y >= height)).any():
        return "leaves the image"
    return "lies on the wrong side of the mask's edge" if (mask[y, x] != stroke.inside).any() else None
