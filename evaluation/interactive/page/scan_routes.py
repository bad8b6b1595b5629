"""The page's routes for scans of several slices: what is done in a session, what it shows, what is saved."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

import flask
import numpy as np
import pydantic
from numpy.typing import NDArray

from synthfm.data.config import Config
from synthfm.data.console import InputError
from synthfm.data.files import slug
from synthfm.data.prompts import Prompt
from synthfm.evaluation.cases.slicing import PLANES, view_of
from synthfm.evaluation.formats.volume import Unreadable
from synthfm.evaluation.interactive.page.actions import ACTIONS, MOST_OBJECTS, At, OnObject
from synthfm.evaluation.interactive.page.desk import Levels, body, desk, outline
from synthfm.evaluation.interactive.page.editing import Editor, model_of
from synthfm.evaluation.interactive.page.pictures import Library
from synthfm.evaluation.interactive.placing import read_masks
from synthfm.evaluation.interactive.prompt_files import Mark
from synthfm.evaluation.scans.listing import stem_of
from synthfm.evaluation.scans.scan import Scan
from synthfm.evaluation.scans.writers import COLOURS, write_masks, write_slice

SAVED = {
    ".nii.gz": "NIfTI",
    ".seg.nrrd": "NRRD, for 3D Slicer",
    ".dcm": "DICOM-SEG",
    ".png": "PNG of this slice",
}
"""What can be saved, by suffix."""

scans = flask.Blueprint("scans", __name__, url_prefix="/api/scans")


@contextmanager
def _edited(name: str) -> Iterator[Editor]:
    """The editor of a name, while nobody else changes it; what a session refuses is an InputError."""
    try:
        editor = desk().editors[name]
    except KeyError:
        flask.abort(404, "this scan is not open any more; open it again")
    with editor.lock:
        editor.revision += 1  # of what is told next: an answer that comes late is known by it
        try:
            yield editor
        except ValueError as error:
            raise InputError(str(error)) from error


class _Opened(Config):
    """A file is to be worked on in a plane, with the masks of the scan `after`, which is closed."""

    image: str
    frame: Annotated[int, pydantic.Field(ge=0)] = 0
    plane: Literal["auto", "axial", "coronal", "sagittal"] = "auto"
    after: str | None = None


@scans.post("")
def _open() -> Any:
    asked, library = body(_Opened), desk().library.result()
    read = partial(_in_plane, library, asked.image, asked.frame, asked.plane)
    read()  # what cannot be read is told before anything else
    file = library.files[asked.image]
    editor = Editor(file.title, file.frames, read, partial(model_of, desk().asker))
    if asked.after is not None:
        with _edited(asked.after) as before:
            editor.take(before)
        desk().editors.close(asked.after)
    return {"scan": desk().editors.add(editor), **_described(editor)}


def _in_plane(library: Library, image: str, frame: int, plane: str) -> Scan:
    scan = library.scan(image, frame)
    try:
        return scan if plane == "auto" else replace(scan, view=view_of(scan.volume, "radiological", plane))
    except Unreadable as error:
        raise InputError(str(error)) from error


@scans.post("/<name>/close")
def _close(name: str) -> Any:
    desk().editors.close(name)
    return {}


@scans.get("/<name>")
def _again(name: str) -> Any:
    with _edited(name) as editor:
        return _described(editor)


def _described(editor: Editor) -> dict[str, Any]:
    """What does not change while a scan is open."""
    planes, scan = editor.planes, editor.scan
    suffixes = [suffix for suffix in SAVED if suffix != ".dcm" or scan.form == "dicom"]
    return {
        "title": editor.title,
        "frames": editor.frames,
        "shape": planes.shape,
        "spacing": planes.spacing,
        "measured": scan.grid.measured,
        "own": planes.own,
        "upright": planes.upright,
        "voxels": planes.voxels(),
        "levels": editor.levels,
        "coding": editor.coding,
        "ct": scan.modality == "CT",
        "colours": COLOURS,
        "formats": [{"suffix": suffix, "title": SAVED[suffix]} for suffix in suffixes],
    }


@scans.get("/<name>/slices/<plane>/<int:at>")
def _slice(name: str, plane: str, at: int) -> Any:
    """A slice's values as codes of 16 bits, little-endian, row by row."""
    try:
        editor = desk().editors[name]
    except KeyError:
        flask.abort(404, "this scan is not open any more; open it again")
    planes = editor.planes
    if plane not in PLANES or at >= planes.shape[PLANES.index(plane)]:
        raise InputError(f"{plane} {at}: no such slice")
    codes = planes.image(PLANES.index(plane), at, editor.coding)
    reply = flask.Response(codes.astype("<u2").tobytes(), mimetype="application/octet-stream")
    reply.cache_control.private, reply.cache_control.max_age = True, 3600
    return reply


@scans.post("/<name>/view")
def _view(name: str) -> Any:
    asked = body(At)
    with _edited(name) as editor:
        return _state(editor, asked.place)


@scans.post("/<name>/do/<action>")
def _do(name: str, action: str) -> Any:
    if action not in ACTIONS:
        flask.abort(404, f"no action {action!r}")
    asked = body(ACTIONS[action])
    with _edited(name) as editor:
        _inside(editor, asked.place)
        with editor.session.at_once():
            asked.on(editor)
        return _state(editor, asked.place)


@scans.post("/<name>/<direction>")
def _step(name: str, direction: Literal["undo", "redo"]) -> Any:
    """Undo or redo; `moved` is the slice in which something changed."""
    if direction not in ("undo", "redo"):
        flask.abort(404)
    asked = body(At)
    with _edited(name) as editor:
        place = list(asked.place)
        moved = editor.step(direction == "undo", place[editor.planes.own])
        if moved is not None:
            place[editor.planes.own] = moved
        return _state(editor, (place[0], place[1], place[2])) | {"moved": moved}


class _Found(OnObject):
    """An object is to be found in all slices, seen in a window."""

    levels: Levels


@scans.post("/<name>/propagate")
def _propagate(name: str) -> Any:
    """Begin to find an object in all slices; how far that has come is in every later state."""
    asked = body(_Found)
    with _edited(name) as editor:
        if editor.session[asked.object].finished:
            raise InputError(f"{asked.object} is locked; unlock it to change it")
        editor.see(asked.levels)
        editor.propagate(asked.object)
        return _state(editor, asked.place)


@scans.post("/<name>/cancel")
def _cancel(name: str) -> Any:
    asked = body(At)
    with _edited(name) as editor:
        editor.cancel()
        return _state(editor, asked.place)


class _Begun(At):
    """Masks that were sent are to be gone on with."""

    upload: str


@scans.post("/<name>/begin")
def _begin(name: str) -> Any:
    asked = body(_Begun)
    folder, files = desk().uploads.take(asked.upload)
    try:
        with _edited(name) as editor:
            masks: list[tuple[str, NDArray[np.bool_]]] = []
            for file in files:
                mark = Mark(file, stem_of(Path(file)), "mask", file=folder / file)
                masks += read_masks(mark, editor.scan).items()
            if len(editor.session.names) + len(masks) > MOST_OBJECTS:
                raise InputError(f"{len(masks)} objects: no more than {MOST_OBJECTS} fit")
            with editor.session.at_once():
                for title, mask in masks:
                    editor.session.begin(_unused(title, editor.session.names), np.ascontiguousarray(mask))
            return _state(editor, asked.place)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _unused(name: str, taken: list[str]) -> str:
    """A name, with a number where it is taken."""
    numbered = (f"{name} {k}" for k in range(2, len(taken) + 3))
    return next(one for one in (name, *numbered) if one not in taken)


class _Saved(At):
    suffix: Literal[".nii.gz", ".seg.nrrd", ".dcm", ".png"]


@scans.post("/<name>/save")
def _save(name: str) -> Any:
    """The masks as a file, on the scan's own grid; of a PNG the slice as it is shown."""
    asked = body(_Saved)
    with _edited(name) as editor, tempfile.TemporaryDirectory(dir=desk().uploads.folder) as folder:
        _inside(editor, asked.place)
        session, number = editor.session, asked.place[editor.planes.own]
        there = [title for title in session.names if editor.masks(title)]
        if not there:
            raise InputError("no object has a mask yet; click on one first")
        stem = slug(stem_of(Path(editor.title)))
        of_slice = asked.suffix == ".png"
        path = Path(folder) / f"{stem}_{f'slice{number}_' if of_slice else ''}mask{asked.suffix}"
        if of_slice:
            write_slice({title: session.mask_in(title, number) for title in there}, path)
        else:
            write_masks({title: session.mask(title) for title in there}, editor.scan, path)
        content = path.read_bytes()
    reply = flask.Response(content, mimetype="application/octet-stream")
    reply.headers.set("Content-Disposition", "attachment", filename=path.name)
    return reply


def _inside(editor: Editor, place: tuple[int, int, int]) -> None:
    if any(not 0 <= at < size for at, size in zip(place, editor.planes.shape, strict=True)):
        raise InputError(f"place {place}: outside of the scan, {editor.planes.shape}")


def _state(editor: Editor, place: tuple[int, int, int]) -> dict[str, Any]:
    """All objects, and what is seen of them where the three planes meet in a place."""
    _inside(editor, place)
    planes, session, job = editor.planes, editor.session, editor.job
    voxel = float(np.prod(planes.spacing))
    number = place[planes.own]
    found = []
    for name in session.names:
        item, masks = session[name], editor.masks(name)
        voxels = sum(bits.count for bits in masks.values())
        prompt = item.prompts.get(number)
        found.append(
            {
                "name": name,
                "finished": item.finished,
                "voxels": voxels,
                "ml": voxels * voxel / 1000 if editor.scan.grid.measured else None,
                "slices": sorted(masks),
                "anchors": sorted(k for k, bits in item.anchors.items() if bits.count),
                "iou": item.iou.get(number),
                "prompt": _prompt(prompt),
                "outlines": [outline(planes.cut(masks, plane, place[plane])) for plane in range(3)],
            }
        )
    return {
        "place": place,
        "revision": editor.revision,
        "objects": found,
        "undo": session.can_undo,
        "redo": session.can_redo,
        "job": None
        if job is None
        else {
            "object": job.name,
            "runs": job.runs,
            "asked": job.asked,
            "most": job.most,
            "error": job.error,
        },
    }


def _prompt(prompt: Prompt | None) -> dict[str, Any]:
    if prompt is None:
        return {"clicks": [], "box": None}
    clicks = [
        [x, y, label] for (x, y), label in zip(prompt.points.tolist(), prompt.labels.tolist(), strict=True)
    ]
    return {"clicks": clicks, "box": None if prompt.box is None else prompt.box.tolist()}
