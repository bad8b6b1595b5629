"""DSC, HD95 and surface Dice of masks: ours beside the packages whose scores are theirs one by one."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage

from peers.turns import OURS, Contender
from synthfm.data.shards import object_masks
from synthfm.evaluation.scoring.metrics import score
from synthfm.generator.config import load_config
from synthfm.generator.scene import make_sample

TOLERANCE = 2.0
Pair = tuple[NDArray[np.bool_], NDArray[np.bool_]]


def pairs(count: int, size: int) -> list[Pair]:
    """Objects of synthetic images, and the same moved by two pixels with another edge."""
    rng, config, found = np.random.default_rng(0), load_config("full", size=size), []
    for index in itertools.count():
        sample = make_sample(config, 7, index)
        for mask in object_masks(sample.label, sample.objects)[:3]:
            rough = ndimage.gaussian_filter(mask + 0.5 * rng.normal(size=mask.shape), 2) > 0.5
            other = np.roll(rough & ndimage.binary_dilation(mask, iterations=4), 2, 1)
            if mask.sum() > 100 and other.any():
                found.append((other, np.asarray(mask)))
        if len(found) >= count:
            return found[:count]
    raise AssertionError


def by_monai(predicted: NDArray, reference: NDArray) -> tuple[float, float, float]:
    from monai.metrics import compute_dice, compute_hausdorff_distance, compute_surface_dice

    pair = [torch.as_tensor(mask)[None, None] for mask in (predicted, reference)]
    dsc = compute_dice(*pair, include_background=True)
    hd95 = compute_hausdorff_distance(*pair, include_background=True, percentile=95)
    near = compute_surface_dice(*pair, [TOLERANCE], include_background=True)
    return float(dsc), float(hd95), float(near)


def by_surface_distance(predicted: NDArray, reference: NDArray) -> tuple[float, float, float]:
    import surface_distance as sd

    found = sd.compute_surface_distances(reference, predicted, (1.0, 1.0))
    return (
        float(sd.compute_dice_coefficient(reference, predicted)),
        float(sd.compute_robust_hausdorff(found, 95)),
        float(sd.compute_surface_dice_at_tolerance(found, TOLERANCE)),
    )


def by_medpy(predicted: NDArray, reference: NDArray) -> tuple[float, float, float]:
    """It has no surface Dice."""
    from medpy.metric.binary import dc, hd95

    return float(dc(predicted, reference)), float(hd95(predicted, reference)), float("nan")


def by_scipy(predicted: NDArray, reference: NDArray) -> tuple[float, float, float]:
    """Written plainly: distance transforms of the whole image."""
    edges = [mask & ~ndimage.binary_erosion(mask) for mask in (predicted, reference)]
    there, back = (
        ndimage.distance_transform_edt(~other)[edge]
        for edge, other in ((edges[0], edges[1]), (edges[1], edges[0]))
    )
    dsc = 2 * (predicted & reference).sum() / (predicted.sum() + reference.sum())
    hd95 = max(np.percentile(there, 95), np.percentile(back, 95))
    return float(dsc), float(hd95), float(np.mean(np.concatenate([there, back]) <= TOLERANCE))


def ours(predicted: NDArray, reference: NDArray) -> tuple[float, float, float]:
    found = score(predicted, reference, None, TOLERANCE)
    return found.dsc, found.hd95, found.surface_dice


PEERS: dict[str, tuple[str, Callable[[NDArray, NDArray], tuple[float, float, float]]]] = {
    "MONAI": ("monai", by_monai),
    "surface-distance": ("surface-distance", by_surface_distance),
    "medpy (no surface Dice)": ("medpy", by_medpy),
    "scipy, written plainly": ("scipy", by_scipy),
}


def metrics(size: int, count: int) -> list[Contender]:
    """Cases of two masks of `size` pixels."""
    given = pairs(count, size)

    def all_of(function: Callable[[NDArray, NDArray], object]) -> Callable[[], int]:
        def work() -> int:
            for predicted, reference in given:
                function(predicted, reference)
            return len(given)

        return work

    return [
        Contender(OURS, "synthfm", all_of(ours)),
        *(Contender(name, package, all_of(function)) for name, (package, function) in PEERS.items()),
    ]


def differences(size: int, count: int) -> dict[str, float]:
    """Largest difference from ours in any score, over the cases."""
    given = pairs(count, size)
    return {
        name: max(float(np.nanmax(np.abs(np.subtract(function(*pair), ours(*pair))))) for pair in given)
        for name, (_, function) in PEERS.items()
    }
