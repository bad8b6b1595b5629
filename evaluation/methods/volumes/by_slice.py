"""What one would do without propagation: masks of the prompted slices, copied or interpolated to the others.

*Copying* takes, in each slice, the mask of the nearest prompted one; it is told in which slices the object
begins and ends, to its favour. *Interpolation* fills in between prompted slices by their averaged signed
distances [1]_; it needs two of them, and knows nothing beyond the outermost.

References
----------
.. [1] S. P. Raya, J. K. Udupa, "Shape-based interpolation of multidimensional objects", IEEE Transactions on
   Medical Imaging (1990).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from synthfm.evaluation.cases.prompting import DrawnVolumePrompt, Setting
from synthfm.evaluation.cases.volume_prompts import Spacing
from synthfm.evaluation.methods.method import Method, Predicted
from synthfm.trainer.model.next_slice import signed_distance

Mask = NDArray[np.bool_]
Fill = Callable[[Mapping[int, Mask], DrawnVolumePrompt], Mapping[int, Mask]]
"""From the masks of prompted slices to those of all."""


class BySlice:
    """A method of single images in the prompted slices, and a rule for the others.

    Parameters
    ----------
    method
        Who answers the prompted slices.
    fill
        The rule.
    fewest
        How many prompted slices it needs.
    """

    def __init__(self, name: str, method: Method, fill: Fill, fewest: int) -> None:
        self.name = name
        self._method, self._fill, self._fewest = method, fill, fewest

    def accepts(self, setting: Setting) -> bool:
        enough = setting.slices is None or setting.slices >= self._fewest
        return enough and not setting.interactive and self._method.accepts(setting)

    def encode(self, volume: NDArray[np.uint8], spacing: Spacing) -> NDArray[np.uint8]:
        return volume

    def predict(
        self, encoded: NDArray[np.uint8], prompt: DrawnVolumePrompt, previous: Predicted | None = None
    ) -> Predicted:
        known = {
            k: self._method.predict(self._method.encode(encoded[k]), [asked])[0].mask
            for k, asked in prompt.prompts.items()
        }
        mask = np.zeros(encoded.shape, bool)
        for k, found in self._fill(known, prompt).items():
            mask[k] = found
        return Predicted(mask)


def copied(known: Mapping[int, Mask], prompt: DrawnVolumePrompt) -> dict[int, Mask]:
    """The nearest known mask in each slice between the object's ends."""
    low, high = prompt.ends
    return {k: known[min(known, key=lambda near: abs(near - k))] for k in range(low, high + 1)}


def interpolated(known: Mapping[int, Mask], prompt: DrawnVolumePrompt) -> dict[int, Mask]:
    """Averaged signed distances in the slices between two known masks; nothing where one of them is empty."""
    found = dict(known)
    for left, right in pairwise(sorted(known)):
        if not (known[left].any() and known[right].any()):
            continue
        first, second = signed_distance(known[left]), signed_distance(known[right])
        for k in range(left + 1, right):
            share = (k - left) / (right - left)
            found[k] = (1 - share) * first + share * second > 0
    return found
