"""Methods: each against what it is on a case where the right answer is known."""

import importlib.util
import json

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from synthfm.data.console import InputError
from synthfm.data.distance import bounds
from synthfm.data.prompts import Prompt
from synthfm.evaluation.cases.prompting import SETTINGS, Key, correct, make_prompt, parse_setting
from synthfm.evaluation.methods import grabcut, registry
from synthfm.evaluation.methods.classical import Classical
from synthfm.evaluation.methods.ellipse import inscribed
from synthfm.evaluation.methods.masks import mask_file
from synthfm.evaluation.methods.method import Options, Unavailable
from synthfm.evaluation.methods.registry import CLASSICAL
from synthfm.evaluation.scoring.ask import ask, case_prompts
from synthfm.evaluation.scoring.metrics import score
from tests.support.cases import disc_case, random_tiny


def predict(method, case, setting):
    prompts = case_prompts(case, [setting], 0)
    _, answers = ask(method, case, prompts)
    return answers


def dice(case, answer):
    return score(answer.predicted.mask, answer.object.mask, None, 1).dsc


def test_the_ellipse_fills_the_box_with_the_area_of_an_ellipse():
    mask = inscribed(np.array([3, 5, 43, 25]), (40, 60))
    assert mask.sum() == pytest.approx(np.pi / 4 * 40 * 20, rel=0.02)
    ys, xs = np.nonzero(mask)
    assert (xs.min(), xs.max(), ys.min(), ys.max()) == (3, 42, 5, 24)


def test_the_ellipse_takes_boxes_only():
    method = registry.build("ellipse")
    assert [name for name, setting in SETTINGS.items() if method.accepts(setting)] == [
        "box",
        "box_loose",
        "box_wide",
        "box_frame",
        "box_point",
    ]


@pytest.mark.parametrize("name", sorted(set(CLASSICAL) - {"ellipse"}))
@pytest.mark.parametrize("setting", ["box", "point3", "point3_neg2", "scribble"])
def test_a_classical_method_finds_a_bright_disc(name, setting):
    method, case = registry.build(name), disc_case(2)
    if not method.accepts(parse_setting(setting)):
        pytest.skip(f"{name} has no use for {setting}")
    (answer,) = predict(method, case, setting)
    assert answer.predicted.mask.shape == case.image.shape
    assert answer.predicted.mask.dtype == bool
    assert dice(case, answer) > 0.75  # the random walker from clicks alone is the weakest


@pytest.mark.parametrize("name", sorted(CLASSICAL))
def test_a_classical_method_survives_odd_images_and_prompts(name):
    method = registry.build(name)
    flat = np.full((20, 31), 7, np.uint8)
    whole, pixel = np.ones(flat.shape, bool), np.zeros(flat.shape, bool)
    pixel[0, 30] = True
    for mask in (whole, pixel, ~pixel):
        for setting in filter(method.accepts, SETTINGS.values()):
            prompt = make_prompt(mask, Key("set", "a", "x", setting.name), 0)
            (found,) = method.predict(method.encode(flat), [prompt])
            assert found.mask.shape == flat.shape


@pytest.mark.parametrize("name", ["grabcut", "random_walker", "region_growing"])
def test_negative_clicks_are_kept_out_and_positive_ones_in(name):
    method, case = registry.build(name), disc_case(1)
    prompt = make_prompt(case.objects[0].mask, Key("set", "a", "disc", "point3_neg2"), 0)
    (found,) = method.predict(method.encode(case.image), [prompt])
    assert not any(found.mask[y, x] for x, y in prompt.negatives)
    assert all(found.mask[y, x] for x, y in prompt.positives)


@pytest.mark.parametrize("setting", ["box", "box_loose", "point1", "point3_neg2"])
@pytest.mark.parametrize("name", ["grabcut", "random_walker", "region_growing", "chan_vese"])
def test_a_disc_that_stands_out_is_found(name, setting):
    """What no baseline may fail on: grey 170 on 60, with little noise."""
    ys, xs = np.mgrid[:128, :144]
    mask = (ys - 60) ** 2 + (xs - 70) ** 2 < 30**2
    noise = np.random.default_rng(0).normal(0, 5, mask.shape)
    image = np.clip(60 + 110 * mask + noise, 0, 255).astype(np.uint8)
    prompt = make_prompt(mask, Key("set", "a", "disc", setting), 0)
    method = registry.build(name)
    if not method.accepts(parse_setting(setting)):
        pytest.skip("not for this setting")
    (found,) = method.predict(method.encode(image), [prompt])
    assert score(found.mask, mask, None, 1).dsc > 0.9


@pytest.mark.filterwarnings("error::RuntimeWarning")  # of the mean of no grey values
@pytest.mark.parametrize("name", ["grabcut", "random_walker", "region_growing"])
def test_a_click_on_the_background_alone_finds_nothing(name):
    image = disc_case(1).image
    (found,) = registry.build(name).predict(image, [Prompt([[5, 5]], [0])])
    assert not found.mask[5, 5]
    assert not found.mask.any()


def test_region_growing_is_divided_along_edges_and_not_along_speckle():
    ys, xs = np.mgrid[:128, :144]
    mask = (ys - 64) ** 2 / 900 + (xs - 60) ** 2 / 1600 < 1
    prompt = Prompt([[60, 64], [130, 64]], [1, 0])
    dsc = []
    for seed in range(4):
        speckle = np.random.default_rng(seed).gamma(16, 1 / 16, mask.shape)
        grey = (90 + 30 * ndimage.gaussian_filter(mask * 1.0, 2)) * speckle
        (found,) = registry.build("region_growing").predict(np.clip(grey, 0, 255).astype(np.uint8), [prompt])
        dsc.append(score(found.mask, mask, None, 1).dsc)
    assert np.mean(dsc) > 0.8


@pytest.mark.parametrize("side", [256, 512])
def test_a_click_that_corrects_the_grown_region_loses_nothing(side):
    """Such a click lies at the edge, where the grey values around it are half the background's."""
    ys, xs = np.mgrid[:side, :side] / side
    mask = (ys - 0.5) ** 2 + (xs - 0.4) ** 2 < 0.03
    mask |= (abs(ys - 0.5) < 0.06) & (xs > 0.55) & (xs < 0.85)
    grey = 80 + 50 * mask + np.random.default_rng(0).normal(0, 12, mask.shape)
    image = np.clip(grey, 0, 255).astype(np.uint8)
    method = registry.build("region_growing")
    prompt = make_prompt(mask, Key("set", "a", "x", "clicks:5"), 0)
    dsc = []
    for _ in range(5):
        (found,) = method.predict(image, [prompt])
        dsc.append(score(found.mask, mask, None, 1).dsc)
        prompt = correct(prompt, found.mask, mask)
    assert min(dsc) > 0.9


@pytest.mark.parametrize("factor", [1, 7])
def test_no_pixel_lies_outside_of_the_box_whatever_the_window(factor):
    shape = (90 * factor, 110 * factor)
    box = np.array([31, 22, 64, 57], np.float32) * factor + 3
    everything = Classical("all", lambda local: np.ones(local.image.shape, bool))
    (found,) = everything.predict(np.zeros(shape, np.uint8), [Prompt(box=box)])
    np.testing.assert_array_equal(bounds(found.mask), box)


def test_grabcut_does_better_on_small_objects_in_an_enlarged_window():
    # In few pixels the cut is cheapest around the certain seeds: it shrinks to them.
    large, small = registry.build("grabcut"), Classical("small", grabcut.segment)
    ys, xs = np.mgrid[:48, :48]
    mask = (ys - 22.0) ** 2 / 9 + (xs - 25.0) ** 2 / 17 < 1
    dsc = []
    for seed in range(6):
        noise = ndimage.gaussian_filter(np.random.default_rng(seed).normal(0, 28, mask.shape), 0.8)
        grey = 110 + 24 * ndimage.gaussian_filter(mask.astype(float), 1) + noise
        image = np.clip(grey, 0, 255).astype(np.uint8)
        prompt = make_prompt(mask, Key("set", "a", "x", "box_loose"), seed)
        found = [method.predict(method.encode(image), [prompt])[0].mask for method in (large, small)]
        dsc.append([score(one, mask, None, 1).dsc for one in found])
    assert np.mean(dsc, 0)[0] > np.mean(dsc, 0)[1] + 0.03


def test_a_large_image_is_worked_on_small_and_brought_back_in_place():
    case = disc_case(3)
    image = np.kron(case.image, np.ones((9, 9), np.uint8))  # 540 x 648
    mask = np.kron(case.objects[0].mask, np.ones((9, 9), bool))
    method = registry.build("region_growing")
    prompt = make_prompt(mask, Key("set", "a", "disc", "box_point"), 0)
    (found,) = method.predict(method.encode(image), [prompt])
    assert score(found.mask, mask, None, 1).dsc > 0.95


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return random_tiny(tmp_path_factory.mktemp("weights") / "rand.pth")


def test_a_batch_gives_each_prompt_what_sam_predictor_gives_it_alone(checkpoint):
    from segment_anything import SamPredictor

    from synthfm.trainer.model import models

    case = disc_case(0, second=True)
    method = registry.build(f"checkpoint:{checkpoint}")
    prompts = case_prompts(case, list(SETTINGS), 0)
    _, answers = ask(method, case, prompts)
    predictor = SamPredictor(models.load(checkpoint)[0])
    predictor.set_image(np.repeat(case.image[:, :, None], 3, 2))
    assert len(answers) == 2 * len(SETTINGS)
    for answer in answers:
        prompt = answer.prompt
        alone = len(prompt.points) == 1 and prompt.box is None
        masks, iou, _ = predictor.predict(
            prompt.points if len(prompt.points) else None,
            prompt.labels if len(prompt.points) else None,
            prompt.box,
            multimask_output=alone,
        )
        best = iou.argmax()
        assert answer.predicted.iou == pytest.approx(iou[best], abs=1e-5)
        assert (answer.predicted.mask != masks[best]).mean() < 1e-3


def test_medsam_is_given_what_its_own_program_gives_it(checkpoint):
    import torch
    from skimage.transform import resize

    from synthfm.trainer.model import models

    # Written after MedSAM's program: stretched, scaled to 0..1, the box along with it, probabilities resized.
    case = disc_case(0, second=True)
    height, width = case.image.shape
    method = registry.build(f"medsam:{checkpoint}")
    assert [name for name, setting in SETTINGS.items() if method.accepts(setting)] == [
        "box",
        "box_loose",
        "box_wide",
        "box_frame",
    ]
    sam = models.load(checkpoint)[0].eval()
    side = sam.image_encoder.img_size
    square = resize(case.image, (side, side), order=3, preserve_range=True, anti_aliasing=True).astype(
        np.uint8
    )
    square = (square - square.min()) / (square.max() - square.min())
    with torch.no_grad():
        features = sam.image_encoder(torch.tensor(square).float().expand(1, 3, side, side))
        for answer in predict(method, case, "box"):
            box = answer.prompt.box / np.array([width, height, width, height]) * side
            boxes = torch.tensor(box).float()[None]
            sparse, dense = sam.prompt_encoder(points=None, boxes=boxes, masks=None)
            logits, _ = sam.mask_decoder(
                image_embeddings=features,
                image_pe=sam.prompt_encoder.get_dense_pe(),
                sparse_prompt_embeddings=sparse,
                dense_prompt_embeddings=dense,
                multimask_output=False,
            )
            shares = torch.nn.functional.interpolate(torch.sigmoid(logits), (height, width), mode="bilinear")
            expected = shares[0, 0].numpy() > 0.5
            assert 0 < expected.sum() < expected.size
            assert (answer.predicted.mask != expected).mean() < 1e-3
            assert answer.predicted.iou is None


def test_previous_logits_are_fed_back_with_the_next_click(checkpoint):
    from segment_anything import SamPredictor

    from synthfm.trainer.model import models

    case = disc_case(0)
    _, answers = ask(registry.build(f"checkpoint:{checkpoint}"), case, case_prompts(case, ["clicks:3"], 0))
    assert [answer.round for answer in answers] == [1, 2, 3]
    predictor = SamPredictor(models.load(checkpoint)[0])
    predictor.set_image(np.repeat(case.image[:, :, None], 3, 2))
    logits = None
    for answer in answers:
        masks, iou, low = predictor.predict(
            answer.prompt.points, answer.prompt.labels, mask_input=logits, multimask_output=logits is None
        )
        best = iou.argmax()
        logits = low[best][None]
        assert (answer.predicted.mask != masks[best]).mean() < 1e-3


def test_multimask_can_be_turned_off(checkpoint):
    case = disc_case(0)
    found = {
        choice: predict(
            registry.build(f"checkpoint:{checkpoint}", Options(multimask=choice)), case, "point1"
        )[0]
        for choice in ("auto", "always", "never")
    }
    assert found["auto"].predicted.iou == found["always"].predicted.iou
    assert found["auto"].predicted.iou != found["never"].predicted.iou


def test_a_second_look_is_taken_of_every_prompt():
    case = disc_case(0, second=True)
    prompts = case_prompts(case, ["box", "point1", "point1_neg1", "clicks:2"], 0)
    specs = ("checkpoint:tiny", "second-look:tiny")
    once, twice = ({key(a): a for a in ask(registry.build(spec), case, prompts)[1]} for spec in specs)
    assert once.keys() == twice.keys()
    for name, answer in twice.items():
        assert answer.predicted.mask.shape == case.image.shape
        assert answer.predicted.iou != once[name].predicted.iou


def key(answer):
    return answer.prompt.key, answer.round


def test_a_file_that_is_no_checkpoint_is_named(tmp_path):
    wrong = tmp_path / "wrong.pth"
    wrong.write_bytes(b"no tensors here")
    with pytest.raises(InputError, match=r"wrong\.pth"):
        registry.build(f"checkpoint:{wrong}")


@pytest.mark.parametrize(
    "spec", ["elipse", "ellipse:3", "masks", "checkpoint:", "second-look:", "zoom:", "a=b=c"]
)
def test_an_unknown_method_is_named_with_what_there_is(spec):
    with pytest.raises(InputError, match="random_walker"):
        registry.build(spec)


def save_masks(folder, case, settings, change=lambda mask: mask):
    for item, prompt in case_prompts(case, settings, 0):
        path = folder / mask_file(prompt)
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(change(item.mask).astype(np.uint8)).save(path)  # 0 and 1: any value above 0 counts


def test_saved_masks_come_back_for_the_settings_that_are_there(tmp_path):
    case = disc_case(0, second=True)
    save_masks(tmp_path, case, ["box", "point1"])
    method = registry.build(f"UnSAM=masks:{tmp_path}")
    assert method.name == "UnSAM"
    assert [name for name in [*SETTINGS, "clicks:2"] if method.accepts(parse_setting(name))] == [
        "point1",
        "box",
    ]
    answers = predict(method, case, "box")
    assert [dice(case, answer) for answer in answers] == [1.0, 1.0]
    assert {answer.object.key for answer in answers} == {"disc", "bar"}


def test_a_missing_or_misshapen_saved_mask_is_named(tmp_path):
    case = disc_case(0)
    save_masks(tmp_path, case, ["box"], change=lambda mask: mask[:-1])
    method = registry.build(f"masks:{tmp_path}")
    with pytest.raises(InputError, match=r"disc\.png: \(59, 72\) pixels"):
        predict(method, case, "box")
    next((tmp_path / "box").rglob("*.png")).write_bytes(b"not a picture")
    with pytest.raises(InputError, match=r"disc\.png: cannot be read as a picture"):
        predict(method, case, "box")
    next((tmp_path / "box").rglob("*.png")).unlink()
    with pytest.raises(InputError, match="no such mask"):
        predict(method, case, "box")


def test_masks_made_for_other_prompts_are_refused(tmp_path):
    case = disc_case(0)
    save_masks(tmp_path, case, ["box"])
    ((_, prompt),) = case_prompts(case, ["box"], 99)
    line = {"mask": mask_file(prompt), "seed": prompt.seed}
    (tmp_path / "prompts.json").write_text(json.dumps({"seed": 99, "cases": [{"prompts": [line]}]}))
    with pytest.raises(InputError, match="--seed"):
        predict(registry.build(f"masks:{tmp_path}"), case, "box")


@pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA", "P", "1"])
def test_saved_masks_may_be_pictures_of_any_mode(tmp_path, mode):
    case = disc_case(0)
    save_masks(tmp_path, case, ["box"], change=lambda mask: mask * np.uint8(255))
    (path,) = (tmp_path / "box").rglob("*.png")
    Image.open(path).convert(mode).save(path)  # LA and RGBA: opaque everywhere
    (answer,) = predict(registry.build(f"masks:{tmp_path}"), case, "box")
    assert dice(case, answer) == 1.0


def test_saved_masks_are_what_is_shown_and_probabilities_above_half(tmp_path, caplog):
    case = disc_case(0)
    save_masks(tmp_path, case, ["box", "point1"])
    (box,), (point,) = ((tmp_path / name).rglob("*.png") for name in ("box", "point1"))
    mask = case.objects[0].mask
    picture = Image.fromarray(np.where(mask, 0, 1).astype(np.uint8), mode="P")
    picture.putpalette([255, 255, 255, 0, 0, 0])
    picture.save(box)
    shades = np.where(mask, 230, 20).astype(np.uint8)
    shades[0] = 60
    Image.fromarray(shades).save(point)
    method = registry.build(f"masks:{tmp_path}")
    for setting in ("box", "point1"):
        (answer,) = predict(method, case, setting)
        assert dice(case, answer) == 1.0
    assert "holds more than two values, 20 to 230: what is above 127" in caplog.text


def test_a_missing_folder_of_masks_is_named(tmp_path):
    with pytest.raises(InputError, match="nowhere"):
        registry.build(f"masks:{tmp_path / 'nowhere'}")


SAM2 = importlib.util.find_spec("sam2") is not None


@pytest.fixture(scope="module")
def sam2_checkpoint(tmp_path_factory):
    if not SAM2:
        pytest.skip("the optional package sam2 is not installed")
    import torch
    from sam2.build_sam import build_sam2

    torch.manual_seed(0)
    model = build_sam2("configs/sam2.1/sam2.1_hiera_t.yaml", None, device="cpu")
    path = tmp_path_factory.mktemp("sam2") / "sam2_random.pt"
    torch.save({"model": model.state_dict()}, path)
    return path


def test_sam2_runs_on_clicks_boxes_and_its_own_logits(sam2_checkpoint):
    case = disc_case(0, second=True)
    method = registry.build(f"checkpoint:{sam2_checkpoint}")
    _, answers = ask(method, case, case_prompts(case, ["point1", "box", "box_point", "clicks:2"], 0))
    assert len(answers) == 2 * 5
    for answer in answers:
        assert answer.predicted.mask.shape == case.image.shape
        assert answer.predicted.iou is not None


def test_a_sam2_checkpoint_without_its_package_costs_only_its_method(tmp_path, monkeypatch):
    import sys

    import torch

    weights = {"image_encoder.trunk.patch_embed.proj.weight": torch.zeros(96, 3, 7, 7)}
    torch.save({"model": weights}, tmp_path / "sam2.pt")
    monkeypatch.setitem(sys.modules, "sam2", None)
    monkeypatch.setitem(sys.modules, "sam2.build_sam", None)
    with pytest.raises(Unavailable, match=r"pip install .\.\[sam2\]. in the clone"):
        registry.build(f"checkpoint:{tmp_path / 'sam2.pt'}")


def test_sam2_takes_no_second_look(tmp_path):
    import torch

    weights = {"image_encoder.trunk.patch_embed.proj.weight": torch.zeros(96, 3, 7, 7)}
    torch.save({"model": weights}, tmp_path / "sam2.pt")
    with pytest.raises(InputError, match=r"sam2\.pt: a SAM 2 checkpoint"):
        registry.build(f"second-look:{tmp_path / 'sam2.pt'}")


@pytest.mark.parametrize("package", ["mobile_sam", "timm"])
def test_a_mobile_sam_checkpoint_without_its_package_costs_only_its_method(tmp_path, monkeypatch, package):
    import sys

    import torch

    weights = {"image_encoder.patch_embed.seq.0.c.weight": torch.zeros(32, 3, 3, 3)}
    torch.save(weights, tmp_path / "mobile.pt")
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(Unavailable, match=r"pip install .\.\[mobile\]. in the clone"):
        registry.build(f"MS=checkpoint:{tmp_path / 'mobile.pt'}")


@pytest.mark.parametrize(
    ("width", "blocks", "version", "expected"),
    [(96, 12, "2.1", "sam2.1_hiera_t"), (96, 16, "2", "sam2_hiera_s"), (112, 24, "2.1", "sam2.1_hiera_b+"),
     (144, 48, "2", "sam2_hiera_l")],
)  # fmt: skip
def test_the_size_and_version_of_a_sam2_are_read_from_its_keys(width, blocks, version, expected):
    import torch

    from synthfm.evaluation.methods.sam2 import config_of

    weights = {"image_encoder.trunk.patch_embed.proj.weight": torch.zeros(width, 3, 7, 7)}
    weights |= {f"image_encoder.trunk.blocks.{k}.norm1.weight": torch.zeros(1) for k in range(blocks)}
    if version == "2.1":
        weights["no_obj_embed_spatial"] = torch.zeros(1)
    assert config_of(weights) == f"configs/sam{version}/{expected}.yaml"
