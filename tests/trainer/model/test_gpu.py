"""On a CUDA device: the CPU's masks and losses, in every precision, compiled or not."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from synthfm.trainer.config import Prompting, Stream, TrainConfig
from synthfm.trainer.model import models
from synthfm.trainer.model.predict import Prompt, SecondLook, Segmenter
from synthfm.trainer.objective import losses
from synthfm.trainer.run import loop
from tests.support import runs
from tests.support.ellipses import dying, write_dataset
from tests.support.runs import changed, rows, run

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")

CONFIG = changed(
    runs.CONFIG,
    image_size=64,
    batch=8,
    validate_every=4,
    save_every=TrainConfig.model_fields["save_every"].default,
    stream=Stream(objects_per_image=2, val_images=3, val_share=0.2, workers=2).model_dump(),
    prompts=Prompting(interactive=0.5, rounds_max=3).model_dump(),
)


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    return str(write_dataset(tmp_path_factory.mktemp("gpu") / "a", num=40, size=64))


def train(config, shards, out, accelerator):
    """The losses of a run, step by step."""
    run(config, shards, out, accelerator=accelerator)
    return [float(row["loss"]) for row in rows(out / "log.csv") if row.get("loss")]


@pytest.fixture(scope="module")
def reference(shards, tmp_path_factory):
    return train(CONFIG, shards, tmp_path_factory.mktemp("cpu"), "cpu")


def test_masks_are_those_of_the_cpu():
    sam = models.build("tiny", image_size=256).eval()
    image = np.random.default_rng(0).integers(0, 256, (200, 256), dtype=np.uint8)
    box, point = Prompt(box=[40, 30, 180, 150]), Prompt([[110, 90]], [1])

    def both():
        segmenter = Segmenter(sam)
        encoding = segmenter.encode(image)
        found = segmenter.predict(encoding, [box])
        clicked = segmenter.predict(encoding, [point], found)
        return torch.cat(
            [one.low_res for one in (*found, *clicked, *segmenter.alternatives(encoding, point))]
        ).cpu()

    wanted = both()
    sam.cuda()
    assert (both() - wanted).abs().max() < 1e-2 * wanted.abs().max()


@pytest.mark.parametrize("prompt", [{"box": [175, 125, 225, 175]}, {"points": [[200, 150]], "labels": [1]}])
def test_two_looks_are_those_of_the_cpu(prompt):
    ys, xs = np.indices((300, 400))
    shown = 90 + 60 * (np.hypot(ys - 150, xs - 200) < 25) + np.random.default_rng(0).normal(0, 15, ys.shape)
    image = np.clip(shown, 0, 255).astype(np.uint8)
    sam = models.load("tiny")[0].eval()

    def asked(sam):
        segmenter = Segmenter(sam, SecondLook())
        return segmenter.predict(segmenter.encode(image), [Prompt(**prompt)])[0]

    wanted, found = asked(sam), asked(sam.cuda())
    assert wanted.mask.sum() > 1000
    assert (found.mask ^ wanted.mask).sum() < 0.01 * wanted.mask.sum()
    assert found.iou == pytest.approx(wanted.iou, abs=0.01)


def test_corrective_clicks_are_those_of_the_cpu():
    generator = torch.Generator().manual_seed(0)
    logits = torch.nn.functional.avg_pool2d(torch.randn((20, 64, 64), generator=generator), 9, 1, 4)
    targets = (torch.randn((20, 64, 64), generator=generator).cumsum(1) > 0).float()
    targets[0] = 1  # the deepest: no erosion is left out
    wanted = losses.corrective_clicks(logits, targets)
    for found, expected in zip(losses.corrective_clicks(logits.cuda(), targets.cuda()), wanted, strict=True):
        assert torch.equal(found.cpu(), expected)


@pytest.mark.parametrize(
    ("keys", "tolerance"),
    [
        ({}, 2e-3),
        ({"precision": "bf16"}, 3e-2),
        ({"precision": "16"}, 3e-2),
        ({"precision": "bf16", "compile": True}, 3e-2),
        ({"precision": "bf16", "optim": CONFIG.optim.model_copy(update={"kind": "muon"}).model_dump()}, 0.1),
    ],
)
def test_losses_are_those_of_the_cpu(shards, reference, tmp_path, keys, tolerance):
    """Muon's steps are others: there the first loss alone is the same."""
    found = train(changed(CONFIG, **keys), shards, tmp_path, "cuda")
    compared = slice(1) if "optim" in keys else slice(None)
    assert np.allclose(found[compared], reference[compared], rtol=tolerance)
    assert np.isfinite(found).all()


def test_a_killed_run_goes_on(shards, tmp_path, monkeypatch):
    """It ends where an uninterrupted one does, but for rounding: sums on a GPU have no fixed order."""
    config = changed(CONFIG, precision="16", save_every=2)  # the scale of the gradients is part of the state
    whole = train(config, shards, tmp_path / "whole", "cuda")
    monkeypatch.setattr(loop, "clip", dying(loop.clip, KeyboardInterrupt, at=4))
    with pytest.raises(KeyboardInterrupt):
        train(config, shards, tmp_path / "killed", "cuda")
    monkeypatch.undo()
    assert np.allclose(train(config, shards, tmp_path / "killed", "cuda"), whole, rtol=1e-2)
