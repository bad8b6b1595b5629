"""What a scene is drawn from, whatever its modality: shapes, boundaries, texture, appearance, prompts.

A *span* is the ends of the range from which a number is drawn; a *share* is the probability that something
is drawn at all; grey values are relative to the displayed range, 0 black and 1 white. What a modality adds
stands in its own file (:mod:`synthfm.generator.modalities`); :mod:`synthfm.generator.config` puts them
together.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import BeforeValidator, Field

from synthfm.data.config import Config, Rising, Share, Weight, Weights

# Nothing is drawn beyond a thousand: far below it images show nothing any more, far above it is overflow.
_Real = Annotated[float, Field(ge=-1000, le=1000)]
Span = Rising[_Real]
_Positive = Annotated[float, Field(gt=0, le=1000)]
Positive = Rising[_Positive]
_NotNegative = Annotated[float, Field(ge=0, le=1000)]
NotNegative = Rising[_NotNegative]

# Beyond it the exponential of a bias field leaves what float32 can tell apart.
_Bias = Annotated[float, Field(ge=0, le=3)]
Bias = Rising[_Bias]
# A grid finer than the frame shows nothing more, and takes as long as it is fine.
_Coarse = Annotated[float, Field(ge=1)]
Coarseness = Rising[_Coarse]


class PromptsConfig(Config):
    """Prompts stored per object: `positives` clicks (the centre first), then `negatives`; up to `strokes`
    strokes inside and as many outside."""

    positives: int = Field(default=5, ge=1, le=64)
    negatives: int = Field(default=3, ge=0, le=64)
    strokes: int = Field(default=0, ge=0, le=64)


class ShapesConfig(Config):
    """The shape-aware module.

    An object has `min_area` pixels at least, an image `max_objects` objects at most. `anatomical: false`
    leaves ellipses in an ellipse. `deformation` is the standard deviation over the frame's side of the
    nodes between which the scene's displacement runs smoothly; its own is 0.57 of that. `crop_share` of
    the scenes zoom in on a structure, `distant_share` show a small body in a large field, `turned_share`
    are turned by any angle; the plans `crop` and `tiles` have a zoom of their own, and the ultrasound
    plans that place the probe are never distant or turned. Of the objects `two_tissue_share` hold
    regions of another tissue, `pieces_share` get a second piece apart from the first where there is
    room, `ragged_share` have a ragged outline.

    Objects as people define them: `scatter_share` of the small objects are of many pieces, `wall_share` of
    the objects that hold nothing get a wall of even thickness, `zones_share` become of two or three tissues
    that are objects of their own; `hollow_share` of the objects that hold others are objects without those
    too; `group_share` of the sets of like objects, such as both kidneys or all vessels, are one object more,
    and look alike.
    """

    anatomical: bool = True
    min_area: int = Field(default=16, ge=4)
    max_objects: int = Field(default=40, ge=1, le=60)
    deformation: NotNegative = (0.0, 0.045)
    crop_share: Share = 0.28
    distant_share: Share = 0.12
    turned_share: Share = 0.15
    two_tissue_share: Share = 0.12
    pieces_share: Share = 0.0
    ragged_share: Share = 0.0
    scatter_share: Share = 0.0
    wall_share: Share = 0.0
    zones_share: Share = 0.0
    hollow_share: Share = 0.0
    group_share: Share = 0.0


class BoundaryConfig(Config):
    """The boundary-aware module; `enabled: false` leaves sharp, separate objects that stand out.

    Of the objects, `low_contrast_share` differ from the parent or a touching neighbour by a mean within
    `low_contrast`, `weak_edge_share` have stretches of outline that vanish, `capsule_share` a thin
    bright or dark rim, `leak_share` a narrow bridge of their grey value and texture across the border
    into a neighbour (the label map does not follow it), `gap_share` keep 1 to 3 pixels between them and
    what they would touch, `touching_share` get another neighbour along their outline. `edge_width` is
    the standard deviation of the blur of all edges in thousandths of the frame's side, drawn per image,
    and 0.35 pixels at least; in `varying_edge_share` of the images it grows over the image to several
    times that. In `margin_share` of the images all outlines run outside of the edges (> 0) or inside, as
    people draw them, by `margin` in thousandths of the frame's side. With the module off, an object's
    mean differs by `least_contrast` from all that it touches but its own parts.
    """

    enabled: bool = True
    least_contrast: Share = 0.1
    low_contrast_share: Share = 0.3
    low_contrast: NotNegative = (0.012, 0.07)
    weak_edge_share: Share = 0.3
    capsule_share: Share = 0.1
    leak_share: Share = 0.06
    gap_share: Share = 0.15
    touching_share: Share = 0.15
    varying_edge_share: Share = 0.4
    edge_width: NotNegative = (1.5, 7.0)
    margin_share: Share = 0.0
    margin: Span = (-6.0, 14.0)


class TextureKinds(Weights):
    """Kinds of texture."""

    spectral: Weight = 0.4
    bandpass: Weight = 0.17
    perlin: Weight = 0.08
    simplex: Weight = 0.05
    cellular: Weight = 0.04
    fibres: Weight = 0.12
    vessels: Weight = 0.08


class TextureConfig(Config):
    """Texture: its kinds and its standard deviation, `strength`, per tissue, as a share of the grey range.

    `texture_only_share` of the objects that are not of low contrast by `boundary.low_contrast_share` differ
    from their parent by texture alone. `shading` is the standard deviation of the nodes of a slow shading,
    whose own is 0.57 of that.
    """

    enabled: bool = True
    kinds: TextureKinds = TextureKinds()
    strength: Positive = (0.005, 0.09)
    texture_only_share: Share = 0.05
    shading: NotNegative = (0.0, 0.06)


class AppearanceConfig(Config):
    """Contrast, gamma and inversion.

    `relative_share` of the objects differ from a neighbour by a step within `contrast`; `physical_share` of
    the CT, ultrasound and radiograph images have tissues in the order that physics gives them, others in any.
    `gamma` is the exponent of the grey values in a quarter of the CT images and 0.6 of the others;
    `inversion_share` of the images but ultrasound are shown as negatives.
    """

    contrast: Positive = (0.04, 0.9)
    relative_share: Share = 0.3
    physical_share: Share = 0.8
    gamma: Positive = (0.65, 1.6)
    inversion_share: Share = 0.08


class ResolutionConfig(Config):
    """The scanner's grid. `low_resolution_share` of the images are acquired on a grid coarser by `coarseness`
    (drawn per axis within `anisotropy`) and interpolated to the frame."""

    low_resolution_share: Share = 0.4
    coarseness: Coarseness = (1.2, 4.5)
    anisotropy: Positive = (1.0, 1.8)


def _ends(value: object) -> object:
    """The ends of a range of whole numbers that may be written as ``16..64`` or as one number."""
    if isinstance(value, str):
        low, dots, high = value.partition("..")
        if not (dots and low.strip().isdigit() and high.strip().isdigit()):
            raise ValueError("expected a number of slices, or a range such as 16..64")
        return int(low), int(high)
    return (value, value) if type(value) is int else value


_Depth = Annotated[int, Field(ge=1, le=512)]
Depth = Annotated[Rising[_Depth], BeforeValidator(_ends)]
# Thousands of pixels of height would be other scenes, each of which takes its time to draw.
_Apart = Annotated[float, Field(ge=0.1, le=32)]
Apart = Rising[_Apart]
# Structures that turn over faster than that are no longer the same from slice to slice.
_Long = Annotated[float, Field(ge=0.2, le=100)]
Long = Rising[_Long]


class VolumeConfig(Config):
    """Volumes: runs of `depth` slices of one scene; a depth of 1 leaves single images.

    Slices are `spacing` pixels apart and average over `thickness` of that. Lengths through the plane are in
    pixels or relative to what is long in the plane: structures are `length` times as long as wide (vessels
    and what fills the frame longer), their middles shift by `slope` per pixel of height (standard deviation),
    and all are deformed by a smooth displacement that varies with the height, whose standard deviation over
    the frame's side is `deformation`. Of the objects `fork_share` are of two limbs that join, of the walls
    `open_share` are open in one place. Of the volumes of modalities that take cines (ultrasound, MR)
    `cine_share` run through time: structures beat and move a little through the plane, none is partially
    averaged. `through_plane: false` makes each slice an independent draw.
    """

    depth: Depth = (1, 1)
    spacing: Apart = (1.0, 8.0)
    thickness: Rising[Share] = (0.4, 1.0)
    length: Long = (0.7, 2.2)
    slope: NotNegative = (0.0, 0.35)
    deformation: NotNegative = (0.005, 0.03)
    fork_share: Share = 0.12
    open_share: Share = 0.35
    cine_share: Share = 0.2
    through_plane: bool = True


class SceneConfig(Config):
    """What a scene is drawn from, and how large its image is."""

    size: int = Field(default=256, ge=32, le=2048)
    prompts: PromptsConfig = PromptsConfig()
    shapes: ShapesConfig = ShapesConfig()
    boundary: BoundaryConfig = BoundaryConfig()
    texture: TextureConfig = TextureConfig()
    appearance: AppearanceConfig = AppearanceConfig()
    volume: VolumeConfig = VolumeConfig()
