"""Synthetic images and volumes: ours with shapes, prompts and files, others' image step from given labels."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Callable, Iterator

import noise
import numpy as np
import torch
from bench_generate import make_shard
from numpy.typing import NDArray

from peers.turns import OURS, Contender, built
from synthfm.generator.config import load_config
from synthfm.generator.folder.compiling import SMALL
from synthfm.generator.scene import make_sample
from synthfm.generator.volume import make_volume

OCTAVES = 4


def images(size: int, count: int) -> list[Contender]:
    """Images of `size` pixels, `count` in a turn; of the others a quarter, of the slowest one."""
    config = load_config("full", size=size)
    make_shard("full", SMALL, 96, 0)  # loads the kernels, of rare kinds of samples too
    labels = [make_sample(config, 5, index).label for index in range(8)]
    given = itertools.cycle(labels)
    firsts = itertools.count(0, count)
    few = max(count // 4, 2)
    return [
        Contender(OURS, "synthfm", lambda: make_shard("full", size, count, next(firsts)).samples),
        Contender("TorchIO, labels to image", "torchio", built(lambda: repeated(torchio_2d(), given, few))),
        Contender(
            "TorchIO, and MR's artefacts",
            "torchio",
            built(lambda: repeated(torchio_2d(artefacts=True), given, few)),
        ),
        Contender(
            "cornucopia, labels to image", "cornucopia", built(lambda: repeated(cornucopia(), given, few))
        ),
        Contender("MONAI, labels to image", "monai", built(lambda: repeated(monai(), given, few))),
        Contender("one texture, pixel by pixel", "noise", repeated(perlin, given, 1)),
    ]


def volumes(size: int, depth: int) -> list[Contender]:
    """Slices of volumes."""
    config = load_config("volumes", [f"volume.depth={depth}..{depth}"], size=size)
    stack = np.stack([sample.label for sample in make_volume(config, 5, 0)])
    given = itertools.repeat(stack)
    firsts = itertools.count(0, depth)
    return [
        Contender(OURS, "synthfm", lambda: make_shard("volumes", size, depth, next(firsts)).samples),
        Contender(
            "TorchIO, labels to volume", "torchio", built(lambda: repeated(torchio_3d(), given, 1, depth))
        ),
        Contender(
            "TorchIO, and MR's artefacts",
            "torchio",
            built(lambda: repeated(torchio_3d(artefacts=True), given, 1, depth)),
        ),
        Contender(
            "cornucopia, labels to volume",
            "cornucopia",
            built(lambda: repeated(cornucopia(), given, 1, depth)),
        ),
    ]


def repeated(
    make: Callable[[NDArray], object], given: Iterator[NDArray], times: int, each: int = 1
) -> Callable[[], int]:
    def work() -> int:
        for _ in range(times):
            make(next(given))
        return times * each

    return work


def torchio_3d(artefacts: bool = False) -> Callable[[NDArray], object]:
    """SynthSeg's recipe as TorchIO's page gives it: image from labels, blur, bias, noise, gamma.

    Its artefacts of MR are motion, ghosts and spikes, each through the Fourier transform of the image.
    """
    import torchio

    of_mr = [torchio.RandomMotion(), torchio.RandomGhosting(), torchio.RandomSpike()] if artefacts else []
    change = torchio.Compose(
        [
            torchio.RandomLabelsToImage(label_key="label"),
            *of_mr,
            torchio.RandomBlur(),
            torchio.RandomBiasField(),
            torchio.RandomNoise(),
            torchio.RandomGamma(),
        ]
    )

    def make(labels: NDArray) -> object:
        subject = torchio.Subject(
            label=torchio.LabelMap(tensor=torch.from_numpy(labels[None].astype(np.int16)))
        )
        return change(subject)["image_from_labels"].data

    return make


def torchio_2d(artefacts: bool = False) -> Callable[[NDArray], object]:
    make = torchio_3d(artefacts)
    return lambda labels: make(labels[..., None])


def cornucopia() -> Callable[[NDArray], object]:
    """Its transform with what it draws by itself: deformation, mixture, bias, blur, noise, gamma."""
    from cornucopia import SynthFromLabelTransform

    change = SynthFromLabelTransform()

    def make(labels: NDArray) -> object:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return change(torch.from_numpy(labels[None].astype(np.int64)))

    return make


def monai() -> Callable[[NDArray], object]:
    """A grey value a label, then its random blur, bias, noise and gamma."""
    from monai.transforms import (
        Compose,
        RandAdjustContrast,
        RandBiasField,
        RandGaussianNoise,
        RandGaussianSmooth,
    )

    change = Compose(
        [
            RandGaussianSmooth(prob=1),
            RandBiasField(prob=1),
            RandGaussianNoise(prob=1),
            RandAdjustContrast(prob=1),
        ]
    )
    rng = np.random.default_rng(0)

    def make(labels: NDArray) -> object:
        table = rng.uniform(0, 1, 256).astype(np.float32)
        return change(torch.from_numpy(table[labels][None]))

    return make


def perlin(labels: NDArray) -> object:
    """A texture as one writes it first: a call a pixel."""
    height, width = labels.shape
    return np.array(
        [[noise.pnoise2(x / 32, y / 32, octaves=OCTAVES) for x in range(width)] for y in range(height)],
        np.float32,
    )
