"""Checkpoints in and out, and the numbers of SamPredictor."""

from __future__ import annotations

import copy
import pickle
import zipfile

import numpy as np
import pytest
import torch
from segment_anything import SamPredictor, sam_model_registry
from segment_anything.modeling.common import LayerNorm2d

from synthfm.data.console import InputError
from synthfm.data.files import write_digest
from synthfm.data.prompts import Prompt
from synthfm.trainer.model import decoder, look, models
from synthfm.trainer.model.packing import PackedPrompts, pack
from synthfm.trainer.model.tiny import ChannelNorm, TinyEncoder


@pytest.fixture(scope="module")
def sam():
    return models.build("tiny", image_size=64)


def test_tiny_is_small_and_keeps_the_interface():
    encoder = TinyEncoder(256)
    assert sum(p.numel() for p in encoder.parameters()) <= 6_000_000
    assert encoder(torch.zeros(1, 3, 64, 96)).shape == (1, 256, 4, 6)


def test_channel_norm_has_the_numbers_of_sams():
    ours, theirs = ChannelNorm(8), LayerNorm2d(8)
    x = torch.randn(2, 8, 5, 6)
    torch.testing.assert_close(ours(x), theirs(x), atol=1e-5, rtol=1e-5)


def test_round_trip_keeps_model_size_and_weights(sam, tmp_path):
    for name in ("a.pth", "a.safetensors"):
        models.export(sam, tmp_path / name)
        again, model = models.load(tmp_path / name)
        assert model == "tiny"
        assert again.image_encoder.img_size == 64
        for key, value in sam.state_dict().items():
            assert torch.equal(value, again.state_dict()[key]), key
    assert not list(tmp_path.glob("*.partial"))


def test_training_states_and_prefixes_are_opened(sam, tmp_path):
    weights = sam.state_dict()
    path = tmp_path / "state.pt"
    for content in (
        {"model": weights, "epoch": 3, "optimizer": {}},
        {"module." + key: value for key, value in weights.items()},
        {"state_dict": {"sam_model." + key: value for key, value in weights.items()}},
        {"state_dict": beside({"model." + key: value for key, value in weights.items()}), "epoch": 1},
        beside({"_forward_module.model." + key: value for key, value in weights.items()}),
        {"model_state": weights, "optimizer_state": {"momentum": torch.zeros(2)}},
        {"net": weights},
    ):
        torch.save(content, path)
        assert models.load(path)[1] == "tiny"


def beside(weights):
    """The weights with a tensor that is not the model's, as Lightning keeps that of a loss."""
    return weights | {"criterion.weight": torch.zeros(2)}


def test_moving_averages_go_before_the_weights(sam, tmp_path):
    average = {"module." + key: torch.ones_like(value) for key, value in sam.state_dict().items()}
    average["module.image_encoder.input_size"] = torch.tensor(64)
    weights = beside({"net." + key: value for key, value in sam.state_dict().items()})
    content = {"model": weights, "ema": average | {"n_averaged": torch.tensor(3)}}
    torch.save(content, tmp_path / "state.pt")
    loaded, _ = models.load(tmp_path / "state.pt")
    assert all((p == 1).all() for p in loaded.parameters())


def test_half_precision_is_loaded_as_float32(sam, tmp_path):
    path = tmp_path / "half.pth"
    weights = sam.state_dict().items()
    torch.save({k: v.half() if v.is_floating_point() else v for k, v in weights}, path)
    again, _ = models.load(path)
    assert {p.dtype for p in again.parameters()} == {torch.float32}


@pytest.mark.parametrize("cut", [0.5, 0.0])
def test_truncated_file_is_named(sam, tmp_path, cut):
    path = tmp_path / "cut.pth"
    models.export(sam, path)
    path.write_bytes(path.read_bytes()[: int(cut * path.stat().st_size)])
    with pytest.raises(InputError, match=r"cut\.pth"):
        models.load(path)


def test_wrong_files_say_what_is_wrong(sam, tmp_path):
    path = tmp_path / "other.pth"
    weights = dict(sam.state_dict())
    weights.pop("mask_decoder.iou_token.weight")
    weights["mask_decoder.more"] = torch.zeros(1)
    torch.save(weights, path)
    with pytest.raises(InputError, match=r"looks like tiny.*1 keys missing.*iou_token.*1 keys unknown.*more"):
        models.load(path)
    torch.save({"resnet.conv1": torch.zeros(1)}, path)
    with pytest.raises(InputError, match=r"no model that this program knows"):
        models.load(path)
    models.export(sam, path)
    with pytest.raises(InputError, match="holds tiny, not vit_b"):
        models.build("vit_b", checkpoint=path)
    with pytest.raises(InputError, match="no such checkpoint"):
        models.load(tmp_path / "absent.pth")


@pytest.mark.parametrize(
    ("name", "lost", "message"),
    [
        (
            "tiny",
            "image_encoder.input_size",
            r"looks like tiny, .*1 keys missing \(image_encoder\.input_size\)",
        ),
        (
            "vit_b",
            "image_encoder.pos_embed",
            r"looks like vit_b, .*1 keys missing \(image_encoder\.pos_embed\)",
        ),
        ("tiny", "image_encoder", r"looks like tiny, .*\d+ keys missing \(image_encoder\.input_size, "),
    ],
)
def test_file_without_the_key_of_its_model_says_what_is_missing(tmp_path, name, lost, message):
    weights = models.build(name).state_dict()
    path = tmp_path / "part.pth"
    torch.save({key: value for key, value in weights.items() if not key.startswith(lost)}, path)
    with pytest.raises(InputError, match=message):
        models.load(path)
    with pytest.raises(InputError, match=message):
        models.build(name, checkpoint=path)


def test_numpys_numbers_in_a_training_state_are_no_code(tmp_path):
    """Scores and counts, as NumPy 2 and NumPy 1 write them, which name their module differently."""
    weights = models.build("tiny", image_size=64, seed=3).state_dict()
    new, old = tmp_path / "new.pth", tmp_path / "old.pth"
    torch.save({"state_dict": weights, "best": np.float64(0.5), "epoch": np.int64(3)}, new)
    with zipfile.ZipFile(new) as read, zipfile.ZipFile(old, "w") as written:
        for name in read.namelist():
            text = read.read(name)
            if name.endswith("data.pkl"):
                assert b"cnumpy._core.multiarray\nscalar" in text
                text = text.replace(b"cnumpy._core.multiarray\n", b"cnumpy.core.multiarray\n")
            written.writestr(name, text)
    for path in (new, old):
        sam, name = models.load(path)
        assert name == "tiny"
        for key, value in sam.state_dict().items():
            assert torch.equal(value, weights[key])


class Evil:
    def __reduce__(self):
        return (print, ("code ran",))


def test_file_with_code_is_refused(tmp_path, capsys):
    path = tmp_path / "evil.pth"
    torch.save({"model": Evil()}, path)
    with pytest.raises(InputError, match=r"print\).*carries code"):
        models.load(path)
    (tmp_path / "plain.pth").write_bytes(pickle.dumps(Evil()))
    with pytest.raises(InputError):
        models.load(tmp_path / "plain.pth")
    assert "code ran" not in capsys.readouterr().out


def test_decoder_from_scratch_leaves_the_rest(sam, tmp_path):
    path = tmp_path / "a.pth"
    models.export(sam, path)
    fresh = models.build("tiny", checkpoint=path, decoder="scratch", seed=5)
    assert fresh.image_encoder.img_size == 64
    for key, value in fresh.state_dict().items():
        if key.startswith("mask_decoder.transformer.layers.0.self_attn.q_proj.weight"):
            assert not torch.equal(value, sam.state_dict()[key])
        elif not key.startswith("mask_decoder"):
            assert torch.equal(value, sam.state_dict()[key]), key


def test_same_weights_at_another_size(sam, tmp_path):
    path = tmp_path / "a.pth"
    models.export(sam, path)
    larger = models.build("tiny", checkpoint=path, image_size=128)
    assert larger.image_encoder.img_size == 128
    assert larger.prompt_encoder.image_embedding_size == (8, 8)
    models.export(larger, path)
    assert models.load(path)[0].image_encoder.img_size == 128


def test_a_deeper_encoder_begins_as_the_same_function(sam, tmp_path):
    path = tmp_path / "a.pth"
    models.export(sam, path)
    deeper = models.build("tiny", checkpoint=path, depths=(2, 3, 6))
    image = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    embedding = deeper.image_encoder(image)
    torch.testing.assert_close(embedding, sam.image_encoder(image))
    embedding.square().sum().backward()
    for block in (deeper.image_encoder.stage1[1], deeper.image_encoder.stage2[2]):
        assert block.conv2.weight.grad.abs().max() > 0
    assert deeper.image_encoder.stage3[5].lin2.weight.grad.abs().max() > 0
    models.export(deeper, path)
    again = models.load(path)[0].image_encoder
    assert [len(stage) for stage in (again.stage1, again.stage2, again.stage3)] == [2, 3, 6]
    with pytest.raises(
        InputError, match=r"depths: \[2, 3, 5\] is fewer blocks than .*a\.pth has \(\[2, 3, 6\]\)"
    ):
        models.build("tiny", checkpoint=path, depths=(2, 3, 5))


def test_only_tiny_has_depths():
    with pytest.raises(InputError, match="vit_b has a fixed encoder"):
        models.build("vit_b", depths=(2, 3, 6))


def test_state_dict_fits_unmodified_vit_b(tmp_path):
    ours = models.build("vit_b")
    theirs = sam_model_registry["vit_b"]()
    theirs.load_state_dict(ours.state_dict(), strict=True)
    assert models.identify(ours.state_dict()) == "vit_b"


def test_mobile_sam_opens():
    pytest.importorskip("mobile_sam", reason="the optional package of MobileSAM's encoder is not installed")
    mobile = models.build("mobile_sam")
    assert models.identify(mobile.state_dict()) == "mobile_sam"
    assert look.encode(mobile, torch.zeros(1, 1, 1024, 1024)).shape == (1, 256, 64, 64)


POINTS = np.array([[[10.0, 20], [30, 8]], [[50, 41], [3, 5]]])
LABELS = np.array([[1, 0], [1, 1]])
BOXES = np.array([[5, 6, 40, 30.0], [20, 10, 70, 45]])


def for_sam(prompt, multimask):
    """As ``SamPredictor.predict`` takes it."""
    clicks = {"point_coords": prompt.points, "point_labels": prompt.labels} if len(prompt.points) else {}
    return {**clicks, "box": prompt.box, "multimask_output": multimask, "return_logits": True}


MASKS = {False: slice(0, 1), True: slice(1, None)}


@pytest.mark.parametrize(
    "prompts",
    [
        [Prompt(POINTS[k], LABELS[k]) for k in range(2)],
        [Prompt(POINTS[k, :1], LABELS[k, :1]) for k in range(2)],
        [Prompt(box=BOXES[k]) for k in range(2)],
        [Prompt(POINTS[k], LABELS[k], BOXES[k]) for k in range(2)],
        [
            Prompt(POINTS[0], LABELS[0]),
            Prompt(POINTS[1, :1], LABELS[1, :1], BOXES[0]),
            Prompt(box=BOXES[1]),
        ],
    ],
    ids=["clicks", "click", "box", "clicks in a box", "of every kind"],
)
def test_logits_equal_sam_predictors(sam, prompts):
    image = np.random.default_rng(0).integers(0, 256, (50, 80), dtype=np.uint8)
    predictor = SamPredictor(sam)
    predictor.set_image(np.repeat(image[:, :, None], 3, axis=2))
    encoding, packed = look.encode_image(sam, image), pack(prompts)
    ours = look.predict(sam, encoding, packed)
    for multimask, chosen in MASKS.items():
        again = look.predict(sam, encoding, packed, ours.low_res[:, chosen][:, :1])
        for k, prompt in enumerate(prompts):
            full, iou, low = predictor.predict(**for_sam(prompt, multimask))
            np.testing.assert_allclose(ours.logits()[k, chosen], full, atol=1e-4)
            np.testing.assert_allclose(ours.iou[k, chosen], iou, atol=1e-4)
            full, _, _ = predictor.predict(**for_sam(prompt, multimask), mask_input=low[:1])
            np.testing.assert_allclose(again.logits()[k, chosen], full, atol=1e-4)


def test_prompts_of_several_images_in_one_call(sam):
    images = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (2, 1, 64, 64), dtype=np.uint8))
    with torch.no_grad():
        features = look.encode(sam, images)
        coords = torch.tensor([[[9.0, 30.0]], [[40.0, 12.0]], [[3.0, 3.0]], [[50.0, 60.0]]])
        kinds = torch.ones(4, 1, dtype=torch.long)
        memory = torch.randn(4, 1, 16, 16, generator=torch.Generator().manual_seed(0))
        for logits in (None, memory):
            batched, _ = decoder.decode(sam, features, PackedPrompts(coords, kinds), logits)
            for row in range(4):
                own = slice(row, row + 1)
                alone, _ = decoder.decode(
                    sam,
                    features[row // 2 :][:1],
                    PackedPrompts(coords[own], kinds[own]),
                    None if logits is None else logits[own],
                )
                torch.testing.assert_close(batched[own], alone, atol=1e-5, rtol=1e-4)


def test_padding_of_batches_equals_sams(sam):
    image = np.random.default_rng(1).integers(0, 256, (40, 64), dtype=np.uint8)
    padded = torch.zeros(1, 1, 64, 64)
    padded[0, 0, :40] = torch.from_numpy(image)
    with torch.no_grad():
        ours = look.encode(sam, padded, torch.tensor([[40, 64]]))
    torch.testing.assert_close(ours, look.encode_image(sam, image).features, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("size", [0, -32, 16, 40])
def test_sizes_that_tiny_cannot_have_are_refused(size):
    with pytest.raises(InputError, match=f"multiple of 16 from 32, got {size}"):
        models.build("tiny", image_size=size)


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_a_flipped_bit_never_changes_what_is_read(sam, tmp_path, suffix):
    """Where a bit stands in no member, nothing is lost with it."""
    path = tmp_path / f"a{suffix}"
    models.export(sam, path, half=True)
    weights, content = models.read_weights(path), path.read_bytes()
    refused = 0
    for place in np.random.default_rng(0).integers(0, 8 * len(content), 20):
        damaged = bytearray(content)
        damaged[place // 8] ^= 1 << place % 8
        path.write_bytes(damaged)
        try:
            found = models.read_weights(path)
        except InputError:
            refused += 1
        else:
            assert found.keys() == weights.keys()
            assert all(torch.equal(found[key], weights[key]) for key in weights)
    assert refused > 15


def test_a_file_with_its_sha256_beside_it_is_checked(sam, tmp_path):
    path = tmp_path / "a.pth"
    models.export(sam, path)
    write_digest(path)
    models.load(path)
    beside = tmp_path / "a.pth.sha256"
    beside.write_text("0" * 64 + "  a.pth\n")
    with pytest.raises(
        InputError, match=r"a\.pth: damaged or changed: its SHA-256 is not the one in a\.pth\.sha256"
    ):
        models.load(path)
    models.export(sam, path)  # of another file it says nothing
    assert not beside.exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda value: value.fill_(float("nan")), "holds NaN or infinity, as a training that has diverged"),
        (lambda value: value.index_fill_(0, torch.tensor([0]), float("-inf")), "holds NaN or infinity"),
        (lambda value: value.half().fill_(float("inf")), "holds NaN or infinity"),
        (lambda value: (100 * value).to(torch.int8), r"holds whole numbers \(int8\)"),
        (lambda value: value.to_sparse(), "is sparse_coo, expected plain"),
        (lambda value: value.to(torch.complex64), "is complex64, expected plain"),
        (lambda value: torch.zeros(1).expand(10**12), r"unpacks to .* is let in; SYNTHFM_MAX_GB"),
    ],
)
def test_weights_that_are_no_finite_numbers_are_refused(sam, tmp_path, change, message):
    weights = {key: value.clone() for key, value in sam.state_dict().items()}
    key = "mask_decoder.iou_token.weight"
    weights[key] = change(weights[key])
    torch.save(weights, tmp_path / "a.pth")
    with pytest.raises(InputError, match=message) as caught:
        models.load(tmp_path / "a.pth")
    assert str(tmp_path / "a.pth") in str(caught.value)


def test_weights_that_are_no_finite_numbers_are_not_written(sam, tmp_path):
    broken = copy.deepcopy(sam)
    for value, half in ((float("nan"), False), (1e5, True)):  # the latter is infinite in half precision
        torch.nn.init.constant_(broken.mask_decoder.iou_token.weight, value)
        with pytest.raises(
            InputError, match=r"a\.pth is not written: mask_decoder\.iou_token\.weight holds NaN"
        ):
            models.export(broken, tmp_path / "a.pth", half)
    assert not any(tmp_path.iterdir())


def test_a_compressed_archive_is_refused(sam, tmp_path):
    """PyTorch would read it; and a few kilobytes of it may be gigabytes."""
    path, packed = tmp_path / "a.pth", tmp_path / "b.pth"
    models.export(sam, path)
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as new:
        for name in old.namelist():
            new.writestr(name, old.read(name))
    with pytest.raises(InputError, match=r"b\.pth: a compressed archive"):
        models.load(packed)
