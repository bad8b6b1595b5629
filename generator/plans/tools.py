"""How a plan is registered: one decorator, where the plan stands.

A plan is a function that places structures on a canvas, in anatomical coordinates (x right, y down, a body
about 2 wide). The anatomical ones draw sizes, positions and presence widely around what textbooks of
cross-sectional anatomy show in general; no image was measured for them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from synthfm.generator.canvas.layout import Canvas


@dataclass(frozen=True)
class Plan:
    """A registered plan.

    Attributes
    ----------
    draw
        Places its structures on a canvas.
    modality
        The modality that it always shows, whichever modality's weights it was drawn by; empty if any.
    probes
        Kinds of ultrasound probe that it is seen by; empty if it is laid out for none in particular.
    upright
        Whether the scanner holds it as it is drawn: never far away, nor turned to any angle.
    zoom
        Its own range of zoom; None for that of the config.
    """

    draw: Callable[[Canvas], None]
    modality: str = ""
    probes: tuple[str, ...] = ()
    upright: bool = False
    zoom: tuple[float, float] | None = None

    @property
    def projection(self) -> bool:
        """Whether it shows what lies before and behind as well, so that no volume can be cut from it."""
        return self.modality == "XR"


PLANS: dict[str, Plan] = {}
"""All plans by name. How often each is drawn is said by the modalities (`generator/modalities/`)."""


def plan(
    *,
    modality: str = "",
    probes: tuple[str, ...] = (),
    upright: bool = False,
    zoom: tuple[float, float] | None = None,
) -> Callable[[Callable[[Canvas], None]], Callable[[Canvas], None]]:
    """Register a function under its own name; parameters as :class:`Plan`'s."""

    def register(draw: Callable[[Canvas], None]) -> Callable[[Canvas], None]:
        PLANS[draw.__name__] = Plan(draw, modality, probes, upright or bool(probes), zoom)
        return draw

    return register
