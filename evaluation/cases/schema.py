"""What the descriptor of a dataset may say: the keys of ``datasets/*.yaml``."""

from __future__ import annotations

import re
from typing import Annotated, Literal

import pydantic

from synthfm.data.config import Config
from synthfm.data.shards import Modality
from synthfm.evaluation.cases.patterns import group_names, tokens


def _pattern(value: str) -> str:
    tokens(value)
    return value


COLOUR = re.compile(r"#[0-9a-fA-F]{6}")


def _label(value: object) -> object:
    """Label numbers: 3, [1, 2] or "55..70" (a range, both ends included); or colours: "#ff0000"."""
    values = value if isinstance(value, list) else [value]
    if not values:
        raise ValueError("write at least one label number")
    for item in values:
        if isinstance(item, bool) or not isinstance(item, (int, str)):
            raise ValueError(
                "write a label number, a list of them, a range as 55..70, a colour in quotes as "
                "'#ff0000', or a DICOM-SEG segment's label"
            )
        if isinstance(item, str) and re.fullmatch("#[0-9a-fA-F]*", item) and not COLOUR.fullmatch(item):
            raise ValueError("write a colour as '#ff0000': two hexadecimal digits for red, green and blue")
        if isinstance(item, int) and item < 0:
            raise ValueError("label numbers count from 0")
        if isinstance(item, str) and re.fullmatch(r"\s*[+-]?[0-9.]*[0-9]\s*", item) and ".." not in item:
            raise ValueError("write a label number as an integer, without quotes")
        if isinstance(item, str) and ".." in item:
            low, _, high = item.partition("..")
            if not (low.strip().isdecimal() and high.strip().isdecimal()) or int(low) > int(high):
                raise ValueError("write a range of labels as 55..70")
    return values


def _frame(value: object) -> object:
    if isinstance(value, bool) or not isinstance(value, (int, str)):
        raise ValueError("write the frame's number from 0, 'each', or a group as {frame}")
    if isinstance(value, str) and value != "each" and len(group_names(value)) != 1:
        raise ValueError("write the frame's number from 0, 'each', or a group as {frame}")
    if isinstance(value, int) and value < 0:
        raise ValueError("frames count from 0")
    return value


def _axes(value: str) -> str:
    if len(set(value)) != len(value) or not set("yx") <= set(value) <= set("tczyx"):
        raise ValueError("write each axis once, of t, c, z, y, x, with y and x among them, e.g. zyx")
    return value


def _name(value: str) -> str:
    if not value.strip():
        raise ValueError("write the structure's name")
    return value


Pattern = Annotated[str, pydantic.AfterValidator(_pattern)]
Name = Annotated[str, pydantic.AfterValidator(_name)]
Labels = Annotated[list[int | str], pydantic.BeforeValidator(_label)]
Axes = Annotated[str, pydantic.AfterValidator(_axes)]
Frame = Annotated[int | str, pydantic.PlainValidator(_frame)]


class Array(Config):
    """Where in a file the array lies, and how its axes run."""

    key: str | None = None
    """npz and HDF5: name of the array in the file; may be left out if there is only one."""
    axes: Axes | None = None
    """npz, HDF5, TIFF: the axes in order: t (time or channel), c (colour), z, y, x; by default ``tzyx``."""


class ImageFile(Array):
    """How an image's file is read."""

    dimensions: Literal[2, 3] | None = None
    """What a file must hold, 2-D or 3-D; by default either."""
    frame: Frame | None = None
    """4-D files: number of the frame (time point or channel) from 0; ``each`` for all, the masks being 4-D as
    well; or ``{group}``, a group of the masks' pattern that holds the frame's number."""
    first_frame: int = 0
    """The number in file names of the first frame."""


class Masks(Array):
    """One kind of mask files that belong to an image."""

    file: Pattern
    labels: Annotated[dict[Name, Labels], pydantic.Field(min_length=1)] | None = None
    """Multi-label file: structure to label number(s), or to colours of a picture."""
    structure: Name | None = None
    """The file holds one structure: its name."""
    structures: Annotated[dict[str, Name], pydantic.Field(min_length=1)] | Literal["*"] | None = None
    """One file a structure: value of the pattern's ``{structure}`` to name; ``"*"`` takes every file, and its
    value as the name."""
    per_slice: bool = False
    """One file a slice of the volume, paired in the natural order of the file names on both sides."""
    outline: bool = False
    """The mask (each label) draws the outline only: it is closed and filled."""
    threshold: float | None = None
    """One structure a file: a pixel is inside above this value; by default as the values in the file say, see
    :mod:`synthfm.evaluation.formats.foreground`."""
    instances: Literal["union", "files", "components"] = "union"
    """Several masks of one structure in an image: their union is the object; each file is one; each connected
    component of a file (and label) is one."""
    select: str | None = None
    """XML polygons: the text of the ``image`` element of the entry that belongs to the image: ``{image}``."""
    strokes: str | None = None
    """2-D images, `structure`: an npz file beside the mask, from the patterns' groups; each of its arrays is
    what one person drew, bool (2, H, W): inside and outside."""
    absent: Literal["report", "skip"] = "report"
    """A label that a file does not hold, an empty file, or a structure's missing file: a failure, or nothing,
    where organs may lie outside the field of view."""

    @pydantic.model_validator(mode="after")
    def _one_naming(self) -> Masks:
        given = [name for name in ("labels", "structure", "structures") if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError("give exactly one of labels, structure, structures")
        if self.structures is not None and "structure" not in group_names(self.file):
            raise ValueError("'structures' needs a group {structure} in 'file'")
        if self.strokes is not None and (self.structure is None or self.instances != "union"):
            raise ValueError("strokes goes with structure, and instances: union: they are of one object")
        if self.labels is not None and self.threshold is not None:
            raise ValueError("threshold goes with structure or structures; labels are exact numbers")
        if self.colours and not all(COLOUR.fullmatch(str(value)) for value in self._values()):
            raise ValueError("labels: give colours or numbers, not both")
        return self

    def _values(self) -> list[int | str]:
        return [value for values in (self.labels or {}).values() for value in values]

    @property
    def colours(self) -> bool:
        """Whether the labels are colours."""
        return any(COLOUR.fullmatch(str(value)) for value in self._values())

    def names(self) -> list[str]:
        """The structures, in the descriptor's order; none where only the files know."""
        if self.structure is not None:
            return [self.structure]
        return list(dict.fromkeys(self.labels or self.listed.values()))

    @property
    def listed(self) -> dict[str, str]:
        """The values of ``{structure}`` that `structures` lists, with their names."""
        return self.structures if isinstance(self.structures, dict) else {}


class Source(Config):
    """One arrangement of files."""

    folder: Annotated[
        list[str],
        pydantic.BeforeValidator(lambda v: [v] if isinstance(v, str) else v),
        pydantic.Field(min_length=1),
    ]
    """Folder(s) under the data root, the first that holds images counts; leading parts may be missing."""
    image: Pattern
    """Pattern of the images: a file, or the folder of a DICOM series."""
    id: Pattern | None = None
    """Readable name of a volume or image from the pattern's groups; by default all, joined by ``/``."""
    patient: Pattern | None = None
    """Whose it is, from the pattern's groups, where a patient has several images or volumes; by default each
    is a patient of its own. Intervals and tests resample patients."""
    masks: list[Masks] = pydantic.Field(min_length=1)

    @pydantic.model_validator(mode="after")
    def _groups_bound(self) -> Source:
        known = group_names(self.image)
        texts = [("id", self.id), ("patient", self.patient)]
        for key, text in [*texts, *(("masks.select", masks.select) for masks in self.masks)]:
            unknown = group_names(text or "") - known
            if unknown:
                names = ", ".join(sorted(known)) or "none"
                raise ValueError(
                    f"{key}: {{{min(unknown)}}} is no group of the image's pattern (groups: {names})"
                )
        return self


class Slices(Config):
    """Which slices of a volume, and which objects in them, become cases."""

    plane: Literal["auto", "axial", "coronal", "sagittal"] = "auto"
    """``auto``: the plane it was acquired in, told from the spacing: across the axis that differs from the
    two others, or else the largest; the file's own slices where all are alike."""
    policy: Literal["every", "step", "largest"] = "every"
    """Every slice; every `step`-th; of each structure the slice with its largest area."""
    step: int = pydantic.Field(default=1, ge=1)
    min_area: int = pydantic.Field(default=16, ge=1)
    """Smaller objects (pixels in the slice) are left out: a click or a box on fewer than 4 x 4 pixels says
    more about rounding than about the method."""
    max_objects: int | None = pydantic.Field(default=None, ge=1)
    """At most so many objects an image, drawn from its name; by default all."""

    @pydantic.model_validator(mode="after")
    def _step_goes_with_its_policy(self) -> Slices:
        if self.step > 1 and self.policy != "step":
            raise ValueError(f"step {self.step} goes with policy: step (got {self.policy})")
        return self


class Intensity(Config):
    """How values become grey levels 0 to 255; give one of the three.

    By default 8-bit images of other modalities than MR stay as they are, CT has ``window: [-160, 240]``, and
    everything else has ``percentiles: [0.5, 99.5]``.
    """

    window: tuple[float, float] | None = None
    """Values of black and white, e.g. Hounsfield units."""
    percentiles: tuple[float, float] | None = None
    """Percentiles of the volume's non-zero voxels that become black and white."""
    as_is: bool = False
    """8-bit values are grey levels already."""

    @pydantic.model_validator(mode="after")
    def _one_way(self) -> Intensity:
        if sum([self.window is not None, self.percentiles is not None, self.as_is]) > 1:
            raise ValueError("give one of window, percentiles, as_is")
        for name in ("window", "percentiles"):
            pair = getattr(self, name)
            if pair is not None and not pair[0] < pair[1]:
                raise ValueError(f"{name}: the first number must be the smaller one")
        if self.percentiles is not None and not (self.percentiles[0] >= 0 and self.percentiles[1] <= 100):
            raise ValueError("percentiles lie between 0 and 100")
        return self


class SpacingTable(Config):
    """Pixel sizes in a CSV file beside the images; without the file the spacing stays unknown."""

    table: str
    """Path under the dataset's folder."""
    name: str
    """Column with the image's file name."""
    column: str
    """Column with the pixel size in mm."""


class Descriptor(Config):
    """A dataset: layout, formats, structures, and where to get it."""

    name: str = ""
    """Set from the file's name."""
    title: str
    modality: Modality
    sources: tuple[Source, ...] = ()
    image: ImageFile = ImageFile()
    orientation: Literal["radiological", "file"] = "radiological"
    """``radiological``: volumes are shown as a radiologist sees them (patient's right on the left, anterior
    or superior at the top); ``file``: as stored."""
    geometry: Literal["strict", "size"] = "strict"
    """Image and mask must agree in size, spacing, direction and origin, or in size alone."""
    spacing: Annotated[list[pydantic.PositiveFloat], pydantic.Field(min_length=2, max_length=3)] | None = None
    """mm per pixel, in place of what the files say: [row, column] or [slice, row, column]."""
    spacing_table: SpacingTable | None = None
    """The same from a table, image by image."""
    slices: Slices = Slices()
    intensity: Intensity = Intensity()
    licence: str = "not stated"
    citation: str = ""
    url: str = ""
    get: str = ""
    """How to get it."""
    tree: str = ""
    """What the folder must look like."""
    shards: str | None = None
    """A folder under the data root that synthfm-generate has written, instead of `sources`."""

    @pydantic.model_validator(mode="after")
    def _somewhere(self) -> Descriptor:
        if not self.sources and self.shards is None:
            raise ValueError("'sources' is missing: where do the images lie?")
        if isinstance(self.image.frame, str) and self.image.frame != "each":
            (group,) = group_names(self.image.frame)
            if not all(group in group_names(m.file) for source in self.sources for m in source.masks):
                raise ValueError(f"image.frame: {{{group}}} is no group of every masks' pattern")
        return self

    def structures(self) -> list[str]:
        """Names of all structures, in the descriptor's order."""
        return list(
            dict.fromkeys(n for source in self.sources for masks in source.masks for n in masks.names())
        )


class GivenShards(Descriptor):
    """A folder of shards that a person has named: its path is theirs, and no data root holds it."""
