"""Training the network for thin objects: it alone changes, it learns, and the rest is to be nothing."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from synthfm.data.console import InputError
from synthfm.data.shards import Sample
from synthfm.trainer.config import Augment, Stream, load_config
from synthfm.trainer.model import checkpoints, models
from synthfm.trainer.model.thin import THIN, slenderness
from synthfm.trainer.objective.prompting import Plan
from synthfm.trainer.objective.thin import ThinStep
from synthfm.trainer.run import inputs, loop
from synthfm.trainer.stream.batch import collate
from synthfm.trainer.stream.samples import prepare
from tests.support.ellipses import dying, write_samples
from tests.support.runs import CONFIG, assert_equal, assert_same_run, changed, rows
from tests.support.shards import objects_in

pytestmark = pytest.mark.usefixtures("one_thread")
THIN_RUN = changed(CONFIG, thin=True, image_size=96)


def sample(seed, side=96, discs=1, lines=1):
    """A noisy image of lines of two pixels, and of discs."""
    rng = np.random.default_rng(seed)
    ys, xs = np.indices((side, side))
    label = np.zeros((side, side), np.uint8)
    for number in range(1, discs + 1):
        label[np.hypot(ys - rng.uniform(20, 76), xs - rng.uniform(20, 76)) < 13] = number
    for number in range(discs + 1, discs + lines + 1):
        label[np.abs(ys - rng.uniform(12, 84) - rng.uniform(-0.2, 0.2) * xs) < 1.1] = number
    image = 90 + 70 * (label > discs) + 40 * ((label > 0) & (label <= discs)) + rng.normal(0, 6, label.shape)
    found = [number for number in range(1, discs + lines + 1) if (label == number).any()]
    label = np.searchsorted([0, *found], label).astype(np.uint8)
    return Sample(
        image=np.clip(image, 0, 255).astype(np.uint8),
        label=label,
        objects=objects_in(label, dict.fromkeys(range(1, len(found) + 1), 0), rng, 3, 2),
        index=seed,
        seed=seed,
        modality="generic",
    )


def batch_of(seeds, objects=2, thin=0.0, **options):
    stream = Stream(objects_per_image=objects, min_area=4, thin=thin)
    items = [
        prepare(sample(seed, **options), stream, Augment(flip=0, rotate90=0), np.random.default_rng(seed))
        for seed in seeds
    ]
    return collate(items)


def step_of(**keys):
    config = changed(THIN_RUN, **keys)
    return ThinStep(inputs.prepare(models.build("tiny", image_size=96), config), config).train()


def test_thin_objects_are_chosen_where_there_are_any():
    lines = slenderness(batch_of(range(8), thin=1.0).masks().flatten(0, 1)) <= THIN
    either = slenderness(batch_of(range(8)).masks().flatten(0, 1)) <= THIN
    none = batch_of(range(4), thin=1.0, lines=0).masks()
    assert lines.all()
    assert either.any()
    assert not either.all()
    assert (none.sum((2, 3)) > 0).all()


def test_it_learns_lines_and_to_leave_discs():
    step = step_of()
    optimizer = torch.optim.AdamW(step.light_parameters(), lr=3e-3)
    plans = [Plan("box"), Plan("box")]
    for number in range(60):
        loss, log = step(batch_of(range(8 * (number % 12), 8 * (number % 12) + 8)), plans)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert float(log["iou"]) > 0.6
    with torch.no_grad():
        masks, asked = [], batch_of(range(200, 208))
        monitor = step.sam.thin.register_forward_hook(lambda _, __, out: masks.append(out > 0))
        step(asked, plans)
        monitor.remove()
    found = torch.stack(masks, 1).flatten(0, 1)  # one object of each image a plan
    thin = slenderness(asked.masks().flatten(0, 1)) <= THIN
    covered = found.sum((1, 2)) / asked.masks().flatten(0, 1).sum((1, 2))
    assert covered[thin].median() > 0.6
    assert covered[~thin].median() < 0.1


def test_what_is_not_thin_counts_little(monkeypatch):
    """Its target is nothing, and its loss is weighed."""
    step, asked = step_of(loss={"nothing": 0.3}), []

    def one_each(logits, wanted):
        asked.append(wanted)
        return 0 * logits.mean((1, 2)) + 1

    monkeypatch.setattr(step.criterion, "forward", one_each)
    step_loss, _ = step(batch_of(range(3), objects=1, lines=0), [Plan("box")])
    assert float(step_loss) == pytest.approx(0.3)
    assert float(asked[0].abs().max()) == 0
    step_loss, _ = step(batch_of(range(3), objects=1, discs=0), [Plan("box")])
    assert float(step_loss) == pytest.approx(1)
    assert float(asked[1].max()) == 1


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return str(
        write_samples(tmp_path_factory.mktemp("thin") / "shards", [sample(seed) for seed in range(24)])
    )


@pytest.fixture(scope="module")
def start(tmp_path_factory):
    """Weights without such a network."""
    path = tmp_path_factory.mktemp("thin") / "start.pth"
    models.export(models.build("tiny", image_size=96), path)
    return path


def train(folder, out, start, config=THIN_RUN):
    given = loop.Inputs((folder,), init_from=str(start))
    return loop.train(config, given, out, accelerator="cpu", devices=1, progress=False)


@pytest.fixture(scope="module")
def finished(folder, start, tmp_path_factory):
    return train(folder, tmp_path_factory.mktemp("thin") / "run", start).parent


def of_thin(weights):
    return {key: value for key, value in weights.items() if key.startswith("thin.")}


def test_it_alone_changes(start, finished):
    before, after = (checkpoints.read_weights(path) for path in (start, finished / "model.pth"))
    assert not of_thin(before)
    assert_equal(before, {key: value for key, value in after.items() if key not in of_thin(after)})
    fresh = inputs.prepare(models.build("tiny", image_size=96), THIN_RUN).thin.state_dict(prefix="thin.")
    assert of_thin(after).keys() == fresh.keys()
    assert any(not torch.equal(value, fresh[key]) for key, value in of_thin(after).items())
    settings = {row["setting"] for row in rows(finished / "val.csv")}
    assert {"box", "box_frame", "points3_neg2"} <= settings


def test_a_run_that_was_killed_goes_on(folder, start, finished, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(loop.Run, "validate", dying(loop.Run.validate, RuntimeError("killed"), at=2))
        with pytest.raises(RuntimeError, match="killed"):
            train(folder, tmp_path, start)
    train(folder, tmp_path, start)
    assert_same_run(finished, tmp_path)


def test_training_the_rest_leaves_it_as_it_was(folder, finished, tmp_path):
    config = changed(CONFIG, image_size=96, freeze=("encoder", "prompt_encoder"), decoder="pretrained")
    path = train(folder, tmp_path, finished / "model.pth", config)
    before, after = (checkpoints.read_weights(one) for one in (finished / "model.pth", path))
    assert of_thin(before)
    assert_equal(of_thin(before), of_thin(after))
    decoder = "mask_decoder.iou_token.weight"
    assert not torch.equal(before[decoder], after[decoder])


def test_another_model_has_none():
    with pytest.raises(InputError, match="thin: only tiny has a network for thin objects, not vit_b"):
        load_config("default", ["thin=true", "model=vit_b"])
