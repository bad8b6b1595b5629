"""SAM-format checkpoints on volumes: asked in the prompted slices, and from there slice by slice.

What `synthfm-eval predict` and the page do, see :mod:`synthfm.trainer.model.propagate`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from synthfm.data.prompts import Prompt
from synthfm.evaluation.cases.prompting import DrawnVolumePrompt, Setting
from synthfm.evaluation.cases.volume_prompts import Spacing
from synthfm.evaluation.methods.method import Predicted
from synthfm.evaluation.scans.encodings import Encodings
from synthfm.evaluation.scans.session import Session
from synthfm.trainer.model.predict import Segmenter

OBJECT = "object"


@dataclass(frozen=True)
class Encoded:
    """A volume, what has been encoded of it, and the distance between its slices in pixels."""

    slices: list[NDArray[np.uint8]]
    encodings: Encodings
    spacing: float


class Propagated:
    """A model of single images that carries its mask through a volume.

    Parameters
    ----------
    whole, nearby
        Who answers prompts in whole slices, and in squares around the object, as
        :class:`synthfm.evaluation.scans.session.Session` takes them.
    """

    def __init__(self, name: str, whole: Segmenter, nearby: Segmenter) -> None:
        self.name = name
        self._whole, self._nearby = whole, nearby

    def accepts(self, setting: Setting) -> bool:
        return True

    def encode(self, volume: NDArray[np.uint8], spacing: Spacing) -> Encoded:
        between = 1.0 if spacing is None else spacing[0] / float(np.sqrt(spacing[1] * spacing[2]))
        slices = list(volume)  # views
        return Encoded(slices, Encodings(slices, self._whole), between)

    def predict(
        self, encoded: Encoded, prompt: DrawnVolumePrompt, previous: Predicted | None = None
    ) -> Predicted:
        if previous is None:
            session = self._begin(encoded, prompt)
        else:
            session = previous.state
            assert prompt.last is not None
            asked = prompt.prompts[prompt.last]
            session.click(OBJECT, prompt.last, asked.points[-1], int(asked.labels[-1]))
        if any(bits.mask.any() for bits in session[OBJECT].anchors.values()):
            for _ in session.propagate(OBJECT):
                pass
        mask, iou = session.mask(OBJECT), session[OBJECT].iou
        sure = [iou[k] for k in np.flatnonzero(mask.any((1, 2))).tolist() if k in iou]
        return Predicted(mask, float(np.mean(sure)) if sure else None, session)

    def _begin(self, encoded: Encoded, prompt: DrawnVolumePrompt) -> Session:
        session = Session(
            encoded.slices,
            self._whole,
            nearby=self._nearby,
            spacing=encoded.spacing,
            encodings=encoded.encodings,
        )
        session.add(OBJECT)
        if prompt.span is not None:
            session.limit(OBJECT, prompt.span)
        for k, asked in prompt.prompts.items():
            session.ask(OBJECT, k, Prompt(asked.points, asked.labels, asked.box))
        return session
