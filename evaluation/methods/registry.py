"""Which methods there are.

Adding one is a file in this folder with a class of the protocol
:class:`synthfm.evaluation.methods.method.Method`, and a line in :data:`CLASSICAL` or :func:`build`.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import NamedTuple

from synthfm.data.console import InputError, did_you_mean
from synthfm.evaluation.methods.method import Method, Options, VolumeMethod

CLASSICAL = {
    "ellipse": "filled ellipse inscribed in the box: the image is not looked at",
    "grabcut": "GrabCut (OpenCV)",
    "random_walker": "random walker (scikit-image)",
    "region_growing": "confidence-connected region growing from the clicks",
    "chan_vese": "morphological Chan-Vese (scikit-image); no negative clicks",
}
"""Method name (and module in this folder) to what it does."""

VOLUMES = {
    "ellipsoid": "ellipsoid whose middle section fills the box: the image is not looked at",
    "random_walker": "random walker (scikit-image) in the volume",
    "region_growing": "confidence-connected region growing in the volume; no negative clicks",
}
"""Method for volumes (and module in ``volumes/``) to what it does."""
BY_SLICE = ("copy", "interpolation")
"""Kinds for volumes that ask a method of single images in the prompted slices."""
BY_SLICE_MODEL = "second-look:tiny"
"""That method, where none is given."""

SECOND_LOOK = ("second-look", "zoom")
"""Names of the kind that takes a second look; the latter is an older one."""
MODELS = ("checkpoint", *SECOND_LOOK, "medsam")
"""Kinds of method that are opened from a checkpoint."""

DEFAULT = Options()


def build(spec: str, options: Options = DEFAULT) -> Method:
    """Build a method from ``[NAME=]SPEC``.

    Parameters
    ----------
    spec
        A name of :data:`CLASSICAL`; ``checkpoint:FILE`` for a SAM or SAM 2 checkpoint; ``second-look:FILE``
        (or ``zoom:FILE``) for a SAM one with a second look; ``medsam:FILE`` for MedSAM's; ``masks:DIR`` for
        masks saved by another system. ``NAME=`` before it gives the name of its column.
    options
        How a model is asked.

    Raises
    ------
    InputError
        If the method is unknown or its file is not one of the kind.
    Unavailable
        If it needs a package that is not installed.
    """
    name, kind, argument = parse(spec)
    if kind == "medsam":
        from synthfm.evaluation.methods import medsam

        return medsam.open_checkpoint(name, argument, options)
    if kind in MODELS:
        from synthfm.evaluation.methods import sam

        return sam.open_checkpoint(name, argument, options, second_look=kind in SECOND_LOOK)
    if kind == "masks":
        from synthfm.evaluation.methods import masks

        return masks.build(name, argument)
    method: Method = importlib.import_module(f"synthfm.evaluation.methods.{kind}").build(name)
    return method


def build_for_volumes(spec: str, options: Options = DEFAULT) -> VolumeMethod:
    """Build a method for volumes from ``[NAME=]SPEC``.

    Parameters
    ----------
    spec
        A name of :data:`VOLUMES`; ``checkpoint:FILE`` or ``second-look:FILE`` for a SAM one that carries its
        mask from slice to slice, or SAM 2's with its own video predictor; ``copy`` or ``interpolation``,
        after a colon the method that answers the prompted slices; ``masks:DIR``.
    options
        As for :func:`build`.

    Raises
    ------
    InputError, Unavailable
        As by :func:`build`.
    """
    name, kind, argument = parse(spec, dims=3)
    if kind in MODELS:
        from synthfm.evaluation.methods import sam

        return sam.open_for_volumes(name, argument, options, second_look=kind in SECOND_LOOK)
    if kind in BY_SLICE:
        from synthfm.evaluation.methods.volumes import by_slice

        method = build(argument or BY_SLICE_MODEL, options)
        fill, fewest = {"copy": (by_slice.copied, 1), "interpolation": (by_slice.interpolated, 2)}[kind]
        return by_slice.BySlice(name, method, fill, fewest)
    if kind == "masks":
        from synthfm.evaluation.methods import masks

        return masks.build_for_volumes(name, argument)
    built: VolumeMethod = importlib.import_module(f"synthfm.evaluation.methods.volumes.{kind}").build(name)
    return built


class Spec(NamedTuple):
    """What ``[NAME=]SPEC`` says: the name of the column, the kind of method, and what it is opened from."""

    name: str
    kind: str
    argument: str


def parse(spec: str, dims: int = 2) -> Spec:
    """Split ``[NAME=]SPEC``.

    >>> parse("SAM=checkpoint:sam_vit_b.pth")
    Spec(name='SAM', kind='checkpoint', argument='sam_vit_b.pth')
    >>> parse("second-look:tiny").name, parse("zoom:tiny").name
    ('tiny-second-look', 'tiny-zoom')
    """
    models = MODELS if dims == 2 else tuple(kind for kind in MODELS if kind != "medsam")
    plain = CLASSICAL if dims == 2 else {**VOLUMES, **dict.fromkeys(BY_SLICE, "")}
    given, equals, rest = spec.partition("=")
    if not equals or spec.partition(":")[0] in (*MODELS, *BY_SLICE, "masks"):  # a file's name may hold one
        given, rest = "", spec
    kind, _, argument = rest.partition(":")
    if kind in (*models, "masks") and argument:
        stem = Path(argument).stem
        return Spec(given or (f"{stem}-{kind}" if kind in SECOND_LOOK else stem), kind, argument)
    if kind in plain and (not argument or kind in BY_SLICE):
        return Spec(given or rest, kind, argument)
    among = [*plain, "second-look:FILE", *(["medsam:FILE"] if dims == 2 else []), "masks:DIR"]
    raise InputError(
        f"unknown method {spec!r}{' for volumes' if dims == 3 else ''}; {did_you_mean(kind, plain)}choose "
        f"among {', '.join(among)}; models are given with --checkpoint [NAME=]FILE"
    )
