"""From what is asked of a scan to the masks of its objects, with nobody there to correct them.

Both the command, :mod:`synthfm.evaluation.interactive.predict`, and
:func:`synthfm.evaluation.segment.segment` end here.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from synthfm.data.console import InputError
from synthfm.data.prompts import Prompt
from synthfm.evaluation.interactive.placing import Asked
from synthfm.evaluation.scans.encodings import Segmenter
from synthfm.evaluation.scans.scan import Scan
from synthfm.evaluation.scans.session import Session
from synthfm.evaluation.session import pick_device
from synthfm.trainer.model import models, predict

Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Found:
    """An object in a scan.

    Attributes
    ----------
    name
        The object's.
    mask
        bool (slices, H, W), as the scan is cut; empty where the model finds nothing.
    iou
        Slice to the model's own estimate of its mask's IoU; none of slices that a person has drawn.
    seconds
        That it took.
    """

    name: str
    mask: Mask
    iou: Mapping[int, float]
    seconds: float


@dataclass(frozen=True)
class Model:
    """A model as a session asks it: a whole slice, where somebody prompts; the square around an object,
    where its mask in the slice beside is known.
    """

    whole: Segmenter
    nearby: Segmenter


@lru_cache(maxsize=1)
def open_model(checkpoint: str = "tiny", device: str = "auto") -> Model:
    """Open a SAM-format checkpoint, or the embedded model; the last one is kept.

    A model of `tiny`'s kind takes a second look at the square around its mask, as it sees few pixels.

    Raises
    ------
    InputError
        If the file is no such checkpoint, or the device is not there.
    """
    sam, name = models.load(checkpoint)
    sam = sam.to(pick_device(device))
    look = predict.SecondLook() if name == "tiny" else None
    return Model(predict.Segmenter(sam, look), predict.Segmenter(sam))


def find(
    scan: Scan,
    asked: Sequence[Asked],
    model: Model,
    *,
    two_d: bool = False,
    overlap: bool = False,
    watch: Callable[[str], object] = lambda name: None,
) -> list[Found]:
    """Find the objects in a scan, one after the other.

    Parameters
    ----------
    asked
        What is asked of each, see :func:`synthfm.evaluation.interactive.placing.place`.
    two_d
        Answer in the prompted slices alone.
    overlap
        Whether objects may claim the same voxels; else it is the first one's.
    watch
        Called with the object's name for each slice that is done.

    Raises
    ------
    InputError
        If nothing of an object was asked but where it is not.
    """
    for item in asked:
        _check(item, two_d)
    session = open_session(scan, model)
    found = []
    for item in asked:
        start = time.perf_counter()
        for _ in _steps(session, item, two_d):
            watch(item.name)
        if not overlap:
            session.finish(item.name)
        mask, iou = session.mask(item.name), session[item.name].iou
        estimates = {k: round(iou[k], 4) for k in np.flatnonzero(mask.any((1, 2))).tolist() if k in iou}
        found.append(Found(item.name, mask, estimates, time.perf_counter() - start))
    return found


def _check(item: Asked, two_d: bool) -> None:
    says_where = {k for k, prompt in item.prompts.items() if prompt.box is not None or len(prompt.positives)}
    if item.mask is not None or (says_where and (says_where == {*item.prompts} or not two_d)):
        return
    where = f" in slice {min({*item.prompts} - says_where)}" if says_where else ""
    raise InputError(
        f"{item.name}: only clicks on the background{where}; add one on the object, a box or a mask"
    )


def open_session(scan: Scan, model: Model) -> Session:
    """A session on a scan's slices, as they are shown."""
    return Session(scan.shown, model.whole, nearby=model.nearby, spacing=spacing_of(scan))


def spacing_of(scan: Scan) -> float:
    """Distance between slices in pixels."""
    slices, row, column = scan.spacing
    return slices / float(np.sqrt(row * column))


def _steps(session: Session, asked: Asked, two_d: bool) -> Iterator[int]:
    """Ask for one object; the slices as they are done.

    A mask of several slices says where the object ends, one of a single slice does not. Clicks on the
    background alone correct what propagation has brought to their slice.
    """
    name, span = asked.name, asked.span
    if asked.mask is None:
        session.add(name)
    else:
        session.begin(name, asked.mask)
        drawn = np.flatnonzero(asked.mask.any((1, 2))).tolist()
        if len(drawn) > 1 and span is None:
            span = min([*drawn, *asked.prompts]), max([*drawn, *asked.prompts])
        yield from session.refine(name)
    if span is not None:
        session.limit(name, span)
    later = []
    for k, prompt in asked.prompts.items():
        if asked.mask is not None:
            _correct(session, name, k, prompt)
        elif prompt.box is not None or len(prompt.positives):
            session.ask(name, k, prompt)
        else:
            later.append(k)
            continue
        yield k
    yield from _propagated(session, name, two_d)
    if later:
        for k in later:
            _correct(session, name, k, asked.prompts[k])
        yield from _propagated(session, name, two_d)


def _correct(session: Session, name: str, number: int, prompt: Prompt) -> None:
    """Ask with what is known of an object in a slice; nothing is taken from where nothing is."""
    if prompt.box is not None:
        session.box(name, number, prompt.box)
    if len(prompt.positives):
        session.click(name, number, prompt.positives, 1)
    if len(prompt.negatives) and session.mask_in(name, number).any():
        session.click(name, number, prompt.negatives, 0)


def _propagated(session: Session, name: str, two_d: bool) -> Iterator[int]:
    if not two_d and any(bits.mask.any() for bits in session[name].anchors.values()):
        yield from (step.slice for step in session.propagate(name))
