"""What is asked of a scan, as people write it: options of a command, JSON, CSV, 3D Slicer's markups.

All become :class:`Mark` here, as they were written; :mod:`synthfm.evaluation.interactive.placing` puts them
in a scan. Nothing of the scan is known here yet, so that a file is checked before the first scan is read.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from synthfm.data.config import Config, validate
from synthfm.data.console import InputError
from synthfm.data.guard import opening, read_json

OBJECT = "object"
"""An object's name where nobody has given one."""
PIXEL_COLUMNS = {"box": ("x0", "y0", "x1", "y1"), "point": ("x", "y")}
"""Columns of a CSV file; beside them scan, object, slice, and label of a point: 1 object, 0 background."""

_FARTHEST = 1e5
"""Beyond it no pixel of a stroke lies."""

Place = Literal["pixels", "patient"]


@dataclass(frozen=True)
class Mark:
    """A click, a stroke, a box or a mask as somebody has given it.

    Attributes
    ----------
    where
        How a message about it begins: the option, or the file and the entry in it.
    object
        The name of the object that is meant.
    kind
        ``point``, ``stroke``, ``box`` or ``mask``.
    numbers
        In pixels of a slice (x, y) or (x0, y0, x1, y1), half-open, and of a stroke (x, y) of point after
        point; in the patient, mm (LPS), one point (x, y, z), two opposite corners of a box, or all that it
        encloses, one after the other.
    slice
        The slice, counted from 0; None where none was said, and in the patient.
    label
        1 for a click or a stroke on the object, 0 for one on the background.
    place
        What the numbers are.
    file
        Of a mask.
    """

    where: str
    object: str
    kind: Literal["point", "stroke", "box", "mask"]
    numbers: tuple[float, ...] = ()
    slice: int | None = None
    label: int = 1
    place: Place = "pixels"
    file: Path | None = None


def parse_box(text: str, *, world: bool = False) -> Mark:
    """``[NAME:]x0,y0,x1,y1[,slice]``; in the patient ``x0,y0,x1,y1,z`` or ``x0,y0,z0,x1,y1,z1``, mm, LPS.

    >>> parse_box("liver:10,20,30,40,5").numbers
    (10.0, 20.0, 30.0, 40.0)
    """
    where, name, parts = _option("--box", text)
    wanted = "x0,y0,x1,y1,z or x0,y0,z0,x1,y1,z1 in mm" if world else "x0,y0,x1,y1 or x0,y0,x1,y1,slice"
    numbers = _numbers(where, parts, (5, 6) if world else (4, 5), wanted)
    if not world:
        return Mark(where, name, "box", numbers[:4], _slice(where, numbers[4:]))
    if len(numbers) == 5:
        x0, y0, x1, y1, z = numbers
        numbers = (x0, y0, z, x1, y1, z)
    return Mark(where, name, "box", numbers, place="patient")


def parse_point(text: str, *, world: bool = False) -> Mark:
    """``[NAME:]x,y[,slice][,-]``, ``-`` for a click on the background; in the patient ``x,y,z[,-]``, mm, LPS.

    >>> parse_point("12,30,5,-").label
    0
    """
    where, name, parts = _option("--point", text)
    label = 1
    if parts and parts[-1] in ("-", "+"):
        label = int(parts.pop() == "+")
    wanted = "x,y,z in mm" if world else "x,y or x,y,slice, and ,- for the background"
    numbers = _numbers(where, parts, (3,) if world else (2, 3), wanted)
    if world:
        return Mark(where, name, "point", numbers, label=label, place="patient")
    return Mark(where, name, "point", numbers[:2], _slice(where, numbers[2:]), label)


def parse_stroke(text: str) -> Mark:
    """``[NAME:]x0,y0,x1,y1,...[,slice][,-]``, a line through these pixels, ``-`` for one on the background.

    >>> parse_stroke("10,20,18,20,5").numbers
    (10.0, 20.0, 18.0, 20.0)
    """
    where, name, parts = _option("--stroke", text)
    label = 1
    if parts and parts[-1] in ("-", "+"):
        label = int(parts.pop() == "+")
    wanted = "x0,y0,x1,y1 and so on, then the slice if there are several, and ,- for the background"
    numbers = _numbers(where, parts, tuple(range(4, max(len(parts), 4) + 1)), wanted)
    if max(map(abs, numbers)) > _FARTHEST:
        raise InputError(f"{where} {max(numbers, key=abs):g}: no image has so many pixels")
    number = _slice(where, numbers[-1:] if len(numbers) % 2 else ())
    return Mark(where, name, "stroke", numbers[: len(numbers) // 2 * 2], number, label)


def parse_mask(text: str) -> Mark:
    """``[NAME:]FILE``, a mask on the scan's grid to begin with."""
    name, _, file = ("", "", text) if Path(text).exists() else text.rpartition(":")
    return Mark(f"--mask {text}:", name.strip() or OBJECT, "mask", file=Path(file))


Placed = tuple[dict[Path, list[Mark]], list[str]]
"""Scan to its prompts; why others in the file belong to none of the scans, a line each."""


def read_prompts(path: Path, scans: Sequence[Path], *, world: bool = False) -> Placed:
    """The prompts of a file, by the scans that they belong to.

    Parameters
    ----------
    path
        ``.mrk.json`` of 3D Slicer, all of one object that bears the file's name; the ``prompts.json`` that
        ``synthfm-eval prompts`` writes; other ``.json``, see :class:`PromptFile`; ``.csv``, see
        :data:`PIXEL_COLUMNS`.
    scans
        The scans that were given. A file names one by its path (from the file's own folder), or by the end
        of its path; a file that names none belongs to the only one.
    world
        Whether numbers that do not say otherwise are mm in the patient.

    Raises
    ------
    InputError
        If the file cannot be read, or is none of these, or names none of the scans given.
    """
    with opening(path, "cannot be read as prompts"):
        found, strays = _read(path, scans, world)
    if strays and not found:
        raise InputError(f"{path}: {strays[0]}")
    return found, list(dict.fromkeys(strays))


def _read(path: Path, scans: Sequence[Path], world: bool) -> Placed:
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    if path.suffix.lower() == ".csv":
        return _read_csv(path, scans, world)
    content = read_json(path, "a file of prompts")
    if not isinstance(content, dict):
        raise InputError(f"{path}: expected a JSON object with scans, or 3D Slicer's markups")
    if "markups" in content:
        return {_only(path, scans): _markups(path, content)}, []
    if "cases" in content:
        return _exported(path, content, scans), []
    return _own(path, content, scans, world)


class AskedObject(Config):
    """An object in a file of prompts."""

    name: str = OBJECT
    boxes: tuple[list[float], ...] = ()
    """Each as ``--box`` has it: ``[x0, y0, x1, y1, slice]``."""
    points: tuple[list[float], ...] = ()
    """Each as ``--point`` has it: ``[x, y, slice]``."""
    labels: list[Literal[0, 1]] | None = None
    """Of the points, 1 for the object, 0 for the background; 1 where left out."""
    strokes: tuple[list[float], ...] = ()
    """Each as ``--stroke`` has it: ``[x0, y0, x1, y1, ..., slice]``, in pixels."""
    stroke_labels: list[Literal[0, 1]] | None = None
    """Of the strokes, as `labels`."""
    mask: str | None = None
    """A mask to begin with: a file on the scan's grid."""


class AskedScan(Config):
    """A scan in a file of prompts."""

    scan: str | None = None
    """May be left out where one scan alone was given."""
    world: bool = False
    """Whether boxes and points are mm in the patient (LPS)."""
    objects: list[AskedObject]


class PromptFile(Config):
    """``{"scans": [{"scan": "a.nii", "objects": [{"name": "gland", "boxes": [[10, 20, 90, 80, 5]]}]}]}``."""

    scans: list[AskedScan]


def _own(path: Path, content: Mapping[str, Any], scans: Sequence[Path], world: bool) -> Placed:
    found: dict[Path, list[Mark]] = {}
    strays: list[str] = []
    for asked in validate(PromptFile, content, str(path)).scans:
        scan = _only(path, scans) if asked.scan is None else _named(path, asked.scan, scans, strays)
        if scan is None:
            continue
        marks = found.setdefault(scan, [])
        patient = world or asked.world
        for item in asked.objects:
            where = f"{path}: object {item.name}:"
            marks += listed(
                where,
                item.name,
                item.boxes,
                item.points,
                item.labels,
                item.strokes,
                item.stroke_labels,
                world=patient,
            )
            if item.mask is not None:
                marks.append(Mark(f"{where} mask", item.name, "mask", file=path.parent / item.mask))
    return found, strays


def listed(
    where: str,
    name: str,
    boxes: Sequence[Sequence[float]] = (),
    points: Sequence[Sequence[float]] = (),
    labels: Sequence[int] | None = None,
    strokes: Sequence[Sequence[float]] = (),
    stroke_labels: Sequence[int] | None = None,
    *,
    world: bool = False,
) -> list[Mark]:
    """Marks of one object from lists of numbers, see :class:`AskedObject`; `where` begins their messages."""
    texts = [("box", box, "") for box in boxes]
    for kind, given, said in (("point", points, labels), ("stroke", strokes, stroke_labels)):
        signs = [1] * len(given) if said is None else said
        if len(signs) != len(given):
            raise InputError(f"{where} {len(signs)} labels of {len(given)} {kind}s; one for each")
        texts += [(kind, numbers, "-+"[label]) for numbers, label in zip(given, signs, strict=True)]
    marks = []
    for kind, numbers, sign in texts:
        text = ",".join([*(f"{number!r}" for number in numbers), *([sign] if sign else [])])
        shown = text if len(text) < 60 else f"{text[:50]}..."
        try:
            if kind == "stroke":
                if world:
                    raise InputError(f"stroke {shown}: strokes are in pixels, not in mm")
                mark = parse_stroke(text)
            else:
                mark = (parse_box if kind == "box" else parse_point)(text, world=world)
        except InputError as error:
            raise InputError(f"{where} {_without_option(str(error))}") from error
        marks.append(replace(mark, where=f"{where} {kind} [{shown}]", object=name))
    return marks


def _read_csv(path: Path, scans: Sequence[Path], world: bool) -> Placed:
    found: dict[Path, list[Mark]] = {}
    strays: list[str] = []
    with opening(path, "cannot be read as CSV"), open(path, newline="", encoding="utf-8-sig") as handle:
        rows = list(csv.DictReader(handle))
    columns = {"scan", "object", "slice", "label", "z", "z0", "z1"}.union(*PIXEL_COLUMNS.values())
    unknown = sorted({str(key) for row in rows for key in row} - columns)
    if unknown or not rows:
        what = f"column {unknown[0]!r}" if unknown else "no rows"
        raise InputError(f"{path}: {what}; expected the columns {', '.join(sorted(columns))}, not all needed")
    for number, row in enumerate(rows, 2):
        where = f"{path}: line {number}:"
        given = {key: value.strip() for key, value in row.items() if isinstance(value, str) and value.strip()}
        kind = "box" if "x0" in given else "point"
        last = "z" if world else "slice"
        order = {"box": ["x0", "y0", "x1", "y1", last], "point": ["x", "y", last]}[kind]
        if "z0" in given:
            order = ["x0", "y0", "z0", "x1", "y1", "z1"]
        missing = [name for name in PIXEL_COLUMNS[kind] if name not in given]
        if missing:
            raise InputError(
                f"{where} no {missing[0]}; expected {' and '.join(PIXEL_COLUMNS[kind])} of a {kind}"
            )
        values = [given[name] for name in order if name in given]
        if kind == "point":
            label = given.get("label", "1")
            if label not in ("0", "1"):
                raise InputError(f"{where} label {label!r}; expected 1 for the object, 0 for the background")
            values.append("-+"[int(label)])
        try:
            mark = (parse_box if kind == "box" else parse_point)(",".join(values), world=world)
        except InputError as error:
            raise InputError(f"{where} {_without_option(str(error))}") from error
        scan = _named(path, given["scan"], scans, strays) if "scan" in given else _only(path, scans)
        mark = replace(mark, where=f"{where} {kind} {','.join(values)}", object=given.get("object", OBJECT))
        if scan is not None:
            found.setdefault(scan, []).append(mark)
    return found, strays


def _exported(path: Path, content: Mapping[str, Any], scans: Sequence[Path]) -> dict[Path, list[Mark]]:
    """What ``synthfm-eval prompts`` writes: pictures of one slice, an object for each setting."""
    found: dict[Path, list[Mark]] = {}
    known = {scan.resolve() for scan in scans}
    with opening(path, "not as synthfm-eval prompts writes it"):
        for case in content["cases"]:
            scan = (path.parent / case["image"]).resolve()
            if scan not in known:  # an export holds all cases of its datasets; asked is of those given
                continue
            (given,) = [one for one in scans if one.resolve() == scan][:1]
            several = len({line["setting"] for line in case["prompts"]}) > 1
            for line in case["prompts"]:
                name = f"{line['object']}, {line['setting']}" if several else str(line["object"])
                where = f"{path}: {case['case']}, {name}:"
                marks = found.setdefault(given, [])
                if line["box"] is not None:
                    marks.append(Mark(where, name, "box", tuple(map(float, line["box"])), 0))
                for point, label in zip(line["points"], line["labels"], strict=True):
                    marks.append(Mark(where, name, "point", tuple(map(float, point)), 0, int(label)))
    if not found:
        raise InputError(f"{path}: names none of the scans given: {_list(scans)}")
    return found


def _markups(path: Path, content: Mapping[str, Any]) -> list[Mark]:
    """3D Slicer's markups: point lists, lines and curves are clicks, regions and planes boxes.

    A click is on the background where its label, or its list's name, ends with a minus or says "negative".
    """
    name = path.name.removesuffix(".json").removesuffix(".mrk")
    marks: list[Mark] = []
    with opening(path, "not as 3D Slicer writes markups"):
        for number, markup in enumerate(content["markups"], 1):
            kind = str(markup["type"])
            where = f"{path}: {kind} {markup.get('name') or number}:"
            turn = _to_lps(where, markup)
            if kind in ("ROI", "Plane"):
                corners = _corners(where, markup, kind) * turn
                marks.append(Mark(where, name, "box", tuple(corners.ravel().tolist()), place="patient"))
            elif kind in ("Fiducial", "Line", "Curve", "ClosedCurve"):
                for point in markup["controlPoints"]:
                    if point.get("positionStatus", "defined") == "undefined":
                        continue
                    texts = (str(point.get("label", "")), str(markup.get("name", "")))
                    label = (
                        0 if any(text.endswith("-") or "negative" in text.lower() for text in texts) else 1
                    )
                    place = np.array(point["position"], float) * turn
                    if place.shape != (3,) or not np.isfinite(place).all():
                        raise InputError(f"{where} position {point['position']}; expected three numbers, mm")
                    shown = f"{where} {texts[0] or 'point'}"
                    marks.append(Mark(shown, name, "point", tuple(place.tolist()), None, label, "patient"))
            else:
                raise InputError(f"{where} is no prompt; give point lists, lines, curves, ROIs or planes")
    if not marks:
        raise InputError(f"{path}: has no control point; place one in 3D Slicer and save again")
    return marks


def _to_lps(where: str, markup: Mapping[str, Any]) -> np.ndarray:
    """What a markup's positions are multiplied by to be mm, LPS."""
    system, unit = str(markup.get("coordinateSystem", "LPS")), markup.get("coordinateUnits", "mm")
    unit = unit[0] if isinstance(unit, list) else unit
    systems, units = {"LPS": (1.0, 1.0, 1.0), "RAS": (-1.0, -1.0, 1.0)}, {"mm": 1.0, "um": 1e-3}
    if system not in systems or unit not in units:
        raise InputError(f"{where} coordinates {system} in {unit}; expected LPS or RAS, in mm or um")
    return np.array(systems[system]) * units[unit]


def _corners(where: str, markup: Mapping[str, Any], kind: str) -> np.ndarray:
    """The corners of a region (8, 3) or of a plane (4, 3), in the markup's coordinates."""
    if "center" not in markup or "size" not in markup:
        raise InputError(f"{where} has no center and size; save it again with 3D Slicer 5 or later")
    axes = np.array(markup.get("orientation", np.eye(3).ravel()), float).reshape(3, 3)  # columns
    half = np.array(markup["size"], float) / 2
    signs = np.array(np.meshgrid([-1, 1], [-1, 1], [0] if kind == "Plane" else [-1, 1])).reshape(3, -1).T
    return np.array(markup["center"], float) + (signs * half) @ axes.T


def _option(option: str, text: str) -> tuple[str, str, list[str]]:
    name, colon, rest = text.rpartition(":")
    parts = [part.strip() for part in rest.split(",")]
    return f"{option} {text}:", name.strip() or OBJECT if colon else OBJECT, parts


def _without_option(message: str) -> str:
    """A message about an option's text, without the option: the text stands in a file."""
    return message.split(": ", 1)[1]


def _numbers(where: str, parts: Sequence[str], counts: tuple[int, ...], wanted: str) -> tuple[float, ...]:
    try:
        numbers = tuple(float(part) for part in parts)
    except ValueError:
        numbers = ()
    if len(numbers) not in counts or not all(map(math.isfinite, numbers)):
        raise InputError(f"{where} expected {wanted}")
    return numbers


def _slice(where: str, numbers: Sequence[float]) -> int | None:
    if not numbers:
        return None
    if numbers[0] != int(numbers[0]):
        raise InputError(f"{where} slice {numbers[0]:g}; expected a whole number, counted from 0")
    return int(numbers[0])


def _only(path: Path, scans: Sequence[Path]) -> Path:
    if len(scans) != 1:
        raise InputError(f"{path}: does not say which of {len(scans)} scans it is for; give one scan alone")
    return scans[0]


def _named(path: Path, name: str, scans: Sequence[Path], strays: list[str]) -> Path | None:
    """The scan that a file names: by its path, or by the end of its path; where there is none such, the
    reason is added to `strays`.
    """
    exact = (path.parent / name).resolve()
    parts = Path(name).parts
    found = [scan for scan in scans if scan.resolve() == exact] or [
        scan for scan in scans if scan.resolve().parts[-len(parts) :] == parts
    ]
    if len(found) != 1:
        several = f"{len(found)} of the scans given end so" if found else "not among the scans given"
        strays.append(f"scan {name!r}: {several}: {_list(found or scans)}")
        return None
    return found[0]


def _list(scans: Sequence[Path], most: int = 4) -> str:
    return ", ".join(str(scan) for scan in scans[:most]) + (", ..." if len(scans) > most else "")
