"""Scans and prompts in, mask files out: what ``synthfm-eval predict`` calls."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from synthfm.data.console import InputError, Interrupted, Progress, waiting_for
from synthfm.data.files import replacing, write_atomically
from synthfm.data.prompts import compile_kernels
from synthfm.evaluation.cases.case import Failure
from synthfm.evaluation.cases.slicing import PLANES
from synthfm.evaluation.formats.readers import suffix_of
from synthfm.evaluation.interactive.finding import Found, find, open_model
from synthfm.evaluation.interactive.placing import place
from synthfm.evaluation.interactive.prompt_files import (
    Mark,
    parse_box,
    parse_mask,
    parse_point,
    parse_stroke,
    read_prompts,
)
from synthfm.evaluation.interactive.sheet import sheet
from synthfm.evaluation.scans.listing import SUFFIXES, list_scans, names_of
from synthfm.evaluation.scans.scan import Scan, read_scan
from synthfm.evaluation.scans.writers import default_suffix, mask_files, mask_suffix, write_masks


def predict(
    paths: Sequence[Path],
    out: Path,
    *,
    boxes: Sequence[str] = (),
    points: Sequence[str] = (),
    strokes: Sequence[str] = (),
    masks: Sequence[str] = (),
    prompts: Path | None = None,
    world: bool = False,
    kind: str | None = None,
    separate: bool = False,
    overlap: bool = False,
    two_d: bool = False,
    plane: str = "auto",
    frame: int | None = None,
    window: tuple[float, float] | None = None,
    checkpoint: str = "tiny",
    device: str = "auto",
    say: Callable[[str], object] = print,
) -> list[Failure]:
    """Segment scans and write their masks, with a picture and a JSON file beside each.

    Parameters
    ----------
    paths
        As :func:`synthfm.evaluation.scans.listing.list_scans` takes them.
    out
        A file for the masks of one scan, or a folder, in which they are named after their scans.
    boxes, points, strokes, masks
        Options, as :func:`parse_box`, :func:`parse_point`, :func:`parse_stroke` and :func:`parse_mask` take
        them, for every scan.
    prompts
        A file of prompts, see :func:`read_prompts`.
    world
        Whether the numbers of the prompts are mm in the patient.
    kind
        Suffix of the files in a folder; by default one that fits the scan.
    separate
        A file an object.
    overlap, two_d, checkpoint, device
        See :func:`synthfm.evaluation.interactive.finding.find`.
    plane, frame, window
        See :func:`synthfm.evaluation.scans.scan.read_scan`.
    say
        Called with a line on each scan that is done.

    Returns
    -------
    list
        The scans that could not be segmented, where there are several, and what the file of prompts asks of
        others.

    Raises
    ------
    InputError
        If an argument is wrong, or the only scan cannot be segmented.
    Interrupted
        On Ctrl-C. Whatever is there then is whole.
    """
    scans = list_scans(paths)
    asked, strays = _marks(scans, boxes, points, strokes, masks, prompts, world)
    targets = _targets(paths, scans, out, kind)
    model = open_model(checkpoint, device)
    compile_kernels(shown=True)
    failures = [Failure("", "", "", str(prompts), reason) for reason in strays]
    done = 0
    try:
        for number, (path, target) in enumerate(zip(scans, targets, strict=True), 1):
            count = f"{number}/{len(scans)} " if len(scans) > 1 else ""
            try:
                start = time.perf_counter()
                marks = asked[path]
                if not marks:
                    raise InputError(f"{prompts} holds no prompt for it")
                scan = read_scan(path, plane=plane, frame=frame, window=window)
                items = place(marks, scan)
                target = target or out / f"{names_of(scans)[number - 1]}_mask{kind or default_suffix(scan)}"
                taken = [path, *([prompts] if prompts else []), *(m.file for m in marks if m.file)]
                files = mask_files([item.name for item in items], target, separate=separate)
                sidecars = [target.with_name(f"{_base(target)}{end}") for end in ("_overlay.png", ".json")]
                _spare(taken, [*files, *sidecars])
                with Progress(leave=False, bar_format="{desc}: {n_fmt} slices, {elapsed}") as bar:

                    def watch(name: str, bar: Progress = bar, title: str = f"{count}{path.name}") -> None:
                        bar.set_description(f"{title}: {name}", refresh=False)
                        bar.update()

                    found = find(scan, items, model, two_d=two_d, overlap=overlap, watch=watch)
                with waiting_for("the files of this scan"):
                    write_masks({item.name: item.mask for item in found}, scan, target, separate=separate)
                    with replacing(sidecars[0]) as partial:
                        sheet(scan, items, found).save(partial, format="PNG")
                    report = {
                        "scan": str(path),
                        "checkpoint": checkpoint,
                        "synthfm": version("synthfm"),
                        **_described(scan, found, files),
                        "seconds": round(time.perf_counter() - start, 2),
                    }
                    write_atomically(sidecars[1], json.dumps(report, indent=1) + "\n")
            except InputError as error:
                if len(scans) == 1:
                    raise
                failures.append(Failure("", "", "", str(path), str(error).removeprefix(f"{path}: ")))
                continue
            done += 1
            say(f"{count}{path}: {_summary(report)}: {', '.join(map(str, files))}")
    except KeyboardInterrupt as error:
        text = f"stopped; {done} of {len(scans)} scans are done, the others as before"
        raise Interrupted(f"{text}; the same command begins again") from error
    if failures and not done:
        raise InputError(f"{failures[0].file}: {failures[0].reason}; none of the {len(scans)} scans is done")
    return failures


def _marks(
    scans: Sequence[Path],
    boxes: Sequence[str],
    points: Sequence[str],
    strokes: Sequence[str],
    masks: Sequence[str],
    prompts: Path | None,
    world: bool,
) -> tuple[dict[Path, list[Mark]], list[str]]:
    """What is asked of each scan, and what is asked of none of them."""
    for_all = [parse_box(text, world=world) for text in boxes]
    for_all += [parse_point(text, world=world) for text in points]
    if strokes and world:
        raise InputError(f"--stroke {strokes[0]}: strokes are in pixels; give it without --world")
    for_all += [parse_stroke(text) for text in strokes]
    for_all += [parse_mask(text) for text in masks]
    read, strays = read_prompts(prompts, scans, world=world) if prompts is not None else ({}, [])
    if not for_all and prompts is None:
        raise InputError("nothing is asked: give --box, --point, --stroke, --mask or --prompts")
    return {scan: [*for_all, *read.get(scan, [])] for scan in scans}, strays


def _targets(paths: Sequence[Path], scans: Sequence[Path], out: Path, kind: str | None) -> list[Path | None]:
    """The mask file of each scan, None where it is named after the scan in a folder."""
    if kind is not None:
        mask_suffix(Path(f"mask{kind}"))
    if suffix_of(out) not in SUFFIXES or out.is_dir():
        if out.exists() and not out.is_dir():
            raise InputError(f"--out {out}: is a file; expected a folder, or a name that ends as masks do")
        if any(path.is_dir() and path.resolve() == out.resolve() and path not in scans for path in paths):
            raise InputError(f"--out {out}: the scans are read from this folder; give another")
        return [None] * len(scans)
    if len(scans) > 1:
        raise InputError(
            f"--out {out}: one file for {len(scans)} scans; give a folder, and --format if need be"
        )
    if kind is not None:
        raise InputError(f"--out {out}: is a file; --format is for a folder")
    mask_suffix(out)
    return [out]


def _base(target: Path) -> str:
    return target.name[: -len(mask_suffix(target))]


def _spare(inputs: Sequence[Path], outputs: Sequence[Path]) -> None:
    """Nothing that was read is written over."""
    taken = {path.resolve() for path in inputs}
    for path in outputs:
        if path.resolve() in taken:
            raise InputError(f"--out: {path} would be written over, which was given as input; give another")


def _described(scan: Scan, found: Sequence[Found], files: Sequence[Path]) -> dict[str, Any]:
    """What the JSON file says of a scan's objects."""
    return {
        "plane": None if scan.grid.flat else PLANES[scan.view.plane],
        "size": list(scan.grid.size),
        "spacing_mm": list(scan.grid.spacing) if scan.grid.measured else None,
        "objects": [
            {
                "name": item.name,
                "file": str(files[k if len(files) > 1 else 0]),
                "label": 1 if len(files) > 1 else k + 1,
                **_measured(scan, item),
                "iou": {str(number): iou for number, iou in sorted(item.iou.items())},
                "seconds": round(item.seconds, 2),
            }
            for k, item in enumerate(found)
        ],
    }


def _measured(scan: Scan, item: Found) -> dict[str, Any]:
    """Size, and extent as first and last voxel along i, j, k of the file; in mm where these are known."""
    voxels = int(np.count_nonzero(item.mask))
    placed = scan.on_grid(item.mask)
    used = [np.flatnonzero(placed.any(axis=tuple({0, 1, 2} - {axis}))) for axis in (2, 1, 0)]
    known = scan.grid.measured
    spacing = scan.grid.spacing
    extent = [[int(axis[0]), int(axis[-1])] for axis in used if len(axis)]
    flat = scan.grid.flat
    return {
        "voxels": voxels,
        "volume_ml": round(voxels * float(np.prod(spacing)) / 1000, 3) if known and not flat else None,
        "area_mm2": round(voxels * spacing[0] * spacing[1], 2) if known and flat else None,
        "extent": extent or None,
        "extent_mm": [
            round((last - first + 1) * step, 2)
            for (first, last), step in zip(extent, spacing[: 2 if flat else 3], strict=False)
        ]
        if known and extent
        else None,
    }


def _summary(report: Mapping[str, Any]) -> str:
    def size(item: Mapping[str, Any]) -> str:
        for key, unit in (("volume_ml", "ml"), ("area_mm2", "mm2")):
            if item[key]:
                return f"{item[key]:.4g} {unit}"
        return f"{item['voxels']} pixels" if item["voxels"] else "not found"

    return ", ".join(f"{item['name']} {size(item)}" for item in report["objects"])
