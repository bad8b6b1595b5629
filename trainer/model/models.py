"""SAM variants: build them, open their checkpoints, write checkpoints that ``segment_anything`` opens.

A checkpoint is a plain state dict (``.pth``/``.pt``, or ``.safetensors``); which model it holds is read from
its keys and shapes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from segment_anything.modeling import ImageEncoderViT, MaskDecoder, PromptEncoder, Sam, TwoWayTransformer
from torch import Tensor, nn

from synthfm.data.console import InputError, brought_by
from synthfm.trainer.model.checkpoints import StateDict, check_finite, read_weights, save
from synthfm.trainer.model.thin import ThinNet
from synthfm.trainer.model.tiny import DEPTHS, STRIDE, ChannelNorm, Depths, TinyEncoder, depths_of, grow

NAMES = ("tiny", "vit_b", "vit_l", "vit_h", "mobile_sam")

_VIT: dict[str, dict[str, Any]] = {  # as in segment_anything.build_sam
    "vit_b": {"embed_dim": 768, "depth": 12, "num_heads": 12, "global_attn_indexes": (2, 5, 8, 11)},
    "vit_l": {"embed_dim": 1024, "depth": 24, "num_heads": 16, "global_attn_indexes": (5, 11, 17, 23)},
    "vit_h": {"embed_dim": 1280, "depth": 32, "num_heads": 16, "global_attn_indexes": (7, 15, 23, 31)},
}
_CHANNELS = 256
_SIZE_KEY = "image_encoder.input_size"


def build(
    name: str,
    *,
    checkpoint: str | Path | None = None,
    decoder: Literal["pretrained", "scratch"] = "pretrained",
    image_size: int | None = None,
    depths: Depths | None = None,
    seed: int = 0,
) -> Sam:
    """Build a model, in evaluation mode.

    Parameters
    ----------
    name
        One of :data:`NAMES`.
    checkpoint
        A file of that model, as for :func:`load`; None for random weights.
    decoder
        ``"scratch"`` draws the mask decoder's weights afresh (the prompt encoder keeps the checkpoint's).
    image_size
        Input size in pixels of `tiny`, a multiple of 16 (256, or the checkpoint's, where None). The others
        have 1024.
    depths
        Blocks of `tiny`'s encoder at stride 4, 8 and 16; None for the checkpoint's, or
        :data:`synthfm.trainer.model.tiny.DEPTHS`. Those that a checkpoint lacks begin as the identity.
    seed
        Seed of the drawn weights; the global random state is left alone.

    Raises
    ------
    InputError
        If the name, the size or the checkpoint does not fit.
    """
    if name not in NAMES:
        raise InputError(f"unknown model {name!r}; choose one of {', '.join(NAMES)}")
    weights = None
    if checkpoint is not None:
        weights = read_weights(checkpoint)
        found = _recognised(weights, checkpoint, likely=(name,))
        if found != name:
            raise InputError(f"{checkpoint}: holds {found}, not {name}")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        sam = _assemble(
            name,
            _input_size(name, image_size, weights),
            _depths(name, depths, weights, checkpoint),
            thin=weights is not None and has_thin(weights),
        )
        if weights is not None and depths is not None:
            weights = grow(sam.image_encoder, weights, "image_encoder.")
        if weights is not None:
            _load_weights(sam, weights, name, checkpoint, resized=image_size is not None)
        if decoder == "scratch":
            sam.mask_decoder = _mask_decoder()
    return sam.eval()


def load(checkpoint: str | Path) -> tuple[Sam, str]:
    """Open a SAM-format file of any model; returns the model in evaluation mode, and its name.

    Parameters
    ----------
    checkpoint
        A state dict of SAM, MedSAM, MobileSAM or this project; a training state that contains one; or the
        word ``tiny`` for the embedded checkpoint.

    Raises
    ------
    InputError
        If the file is missing, is not a plain state dict, or its keys fit no model; it says which differ.
    """
    weights = read_weights(checkpoint)
    name = _recognised(weights, checkpoint)
    sam = _assemble(
        name,
        _input_size(name, None, weights),
        _depths(name, None, weights, checkpoint),
        thin=has_thin(weights),
    )
    _load_weights(sam, weights, name, checkpoint)
    return sam.eval(), name


def load_mean(checkpoints: Sequence[str | Path]) -> tuple[Sam, str]:
    """As :func:`load`; of several checkpoints of one model, the mean of their weights [1]_.

    Raises
    ------
    InputError
        Also if they are not of one model and size.

    References
    ----------
    .. [1] M. Wortsman et al., "Model soups", arXiv:2203.05482, 2022.
    """
    first, *others = checkpoints
    sam, name = load(first)
    total = {key: value.double() for key, value in sam.state_dict().items()}
    shapes = {key: value.shape for key, value in total.items()}
    for checkpoint in others:
        weights = load(checkpoint)[0].state_dict()
        if {key: value.shape for key, value in weights.items()} != shapes:
            raise InputError(
                f"{checkpoint}: another model or size than {first} ({name}); a mean needs weights of one"
            )
        for key, value in weights.items():
            total[key] += value
    sam.load_state_dict({key: value / len(checkpoints) for key, value in total.items()})
    return sam, name


def identify(weights: Mapping[str, Tensor]) -> str | None:
    """Which model a state dict belongs to, from its keys and shapes; None for none known."""
    if _SIZE_KEY in weights:
        return "tiny"
    table = weights.get("image_encoder.pos_embed")
    if table is not None:
        widths = {options["embed_dim"]: name for name, options in _VIT.items()}
        return widths.get(table.shape[-1])
    return "mobile_sam" if "image_encoder.patch_embed.seq.0.c.weight" in weights else None


def _recognised(weights: StateDict, checkpoint: str | Path, likely: Sequence[str] = NAMES) -> str:
    """As :func:`identify`; where that knows none, an error with what differs from the nearest of `likely`."""
    name = identify(weights)
    if name is not None:
        return name
    models: dict[str, StateDict] = {}
    for name in likely:
        with torch.device("meta"), suppress(InputError):  # without memory; MobileSAM's package is optional
            models[name] = _assemble(name, _input_size(name, None, None)).state_dict()
    nearest = max(models, key=lambda name: _likeness(weights, models[name]), default="")
    if nearest and weights.keys() & models[nearest].keys():
        _check_keys(weights, models[nearest], nearest, checkpoint)
    some = ", ".join(list(weights)[:3])
    raise InputError(
        f"{checkpoint}: no model that this program knows ({', '.join(NAMES)}); its keys begin with {some}"
    )


def _likeness(weights: StateDict, own: StateDict) -> tuple[int, int, int]:
    """Keys in common, those of one shape, and, among models of which the file is a part, the smallest."""
    common = weights.keys() & own.keys()
    return len(common), sum(weights[key].shape == own[key].shape for key in common), -len(own)


def export(sam: Sam, path: str | Path, half: bool = False) -> None:
    """Write a model as a plain state dict, which ``segment_anything`` opens if the model is one of its own.

    ``.safetensors`` writes that format, any other suffix PyTorch's; `half` float16 weights. What was there
    before stays whole if the disk fills.

    Raises
    ------
    InputError
        If a weight is NaN or infinite (in half precision beyond 65504).
    """
    weights = {key: value.detach().cpu().contiguous() for key, value in sam.state_dict().items()}
    if half:
        weights = {
            key: value.half() if value.is_floating_point() else value for key, value in weights.items()
        }
    check_finite(weights, f"{path} is not written")
    save(weights, Path(path))


def _input_size(name: str, image_size: int | None, weights: StateDict | None) -> int:
    if name != "tiny":
        if image_size not in (None, 1024):
            raise InputError(f"{name} has an input of 1024 pixels; only tiny can have another ({image_size})")
        return 1024
    size = image_size
    if size is None:
        size = int(weights[_SIZE_KEY]) if weights is not None else 256
    if size < 2 * STRIDE or size % STRIDE:
        raise InputError(f"the input size must be a multiple of {STRIDE} from {2 * STRIDE}, got {size}")
    return size


def _depths(
    name: str, depths: Depths | None, weights: StateDict | None, checkpoint: str | Path | None
) -> Depths:
    if name != "tiny":
        if depths is not None:
            raise InputError(f"{name} has a fixed encoder; only tiny's depths can be set ({list(depths)})")
        return DEPTHS
    if weights is None:
        return depths or DEPTHS
    found = tuple(max(pair) for pair in zip(depths_of(weights), (1, 1, 1), strict=True))
    if depths is not None and any(few < many for few, many in zip(depths, found, strict=True)):
        raise InputError(
            f"depths: {list(depths)} is fewer blocks than {checkpoint} has ({list(found)}); an encoder can "
            "only grow"
        )
    return depths or found  # type: ignore[return-value]


def _load_weights(
    sam: Sam, weights: StateDict, name: str, checkpoint: str | Path | None, resized: bool = False
) -> None:
    own = sam.state_dict()
    _check_keys(weights, own, name, checkpoint)
    if resized:
        weights = {**weights, _SIZE_KEY: own[_SIZE_KEY]} if _SIZE_KEY in own else weights
    sam.load_state_dict(weights)


def _check_keys(weights: StateDict, own: StateDict, name: str, checkpoint: str | Path | None) -> None:
    """Raise an :class:`InputError` that says which keys differ from the model's own, if any do."""
    missing = [key for key in own if key not in weights]
    foreign = [key for key in weights if key not in own]
    misfits = [key for key, value in weights.items() if key in own and value.shape != own[key].shape]
    problems = [
        f"{len(keys)} keys {what} ({', '.join(keys[:3])}{', ...' if len(keys) > 3 else ''})"
        for what, keys in (("missing", missing), ("unknown", foreign), ("of another shape", misfits))
        if keys
    ]
    if problems:
        raise InputError(f"{checkpoint}: looks like {name}, but has {'; '.join(problems)}")


def _assemble(name: str, size: int, depths: Depths = DEPTHS, *, thin: bool = False) -> Sam:
    grid = (size // STRIDE, size // STRIDE)
    sam = Sam(
        image_encoder=_image_encoder(name, size, depths),
        prompt_encoder=PromptEncoder(
            embed_dim=_CHANNELS,
            image_embedding_size=grid,
            input_image_size=(size, size),
            mask_in_chans=16,
        ),
        mask_decoder=_mask_decoder(),
    )
    if thin:
        sam.thin = make_thin()
    return sam


def has_thin(weights: Mapping[str, Tensor]) -> bool:
    """Whether a state dict holds a thin network."""
    return any(key.startswith("thin.") for key in weights)


def make_thin() -> ThinNet:
    """A thin network, which changes nothing until it is trained."""
    return ThinNet().to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def _mask_decoder() -> MaskDecoder:
    decoder = MaskDecoder(
        num_multimask_outputs=3,
        transformer=TwoWayTransformer(depth=2, embedding_dim=_CHANNELS, mlp_dim=2048, num_heads=8),
        transformer_dim=_CHANNELS,
    )
    decoder.output_upscaling[1] = ChannelNorm(_CHANNELS // 4)  # the same numbers, faster
    return decoder


def _image_encoder(name: str, size: int, depths: Depths) -> nn.Module:
    if name == "tiny":
        encoder = TinyEncoder(size, _CHANNELS, depths)
        return encoder.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # as its images are
    if name == "mobile_sam":
        return _mobile_encoder(size)
    return ImageEncoderViT(
        **_VIT[name],
        img_size=size,
        mlp_ratio=4,
        norm_layer=partial(nn.LayerNorm, eps=1e-6),
        patch_size=STRIDE,
        qkv_bias=True,
        use_rel_pos=True,
        window_size=14,
        out_chans=_CHANNELS,
    )


def _mobile_encoder(size: int) -> nn.Module:
    """TinyViT with the settings of ``mobile_sam.build_sam_vit_t``, from the optional package."""
    try:
        from mobile_sam.modeling import TinyViT
    except ImportError as error:
        raise InputError(
            f"a MobileSAM checkpoint needs the package with its encoder; {brought_by('mobile')}"
        ) from error
    with torch.device("cpu"):  # its constructor reads values, which tensors without memory have none of
        return TinyViT(
            img_size=size,
            in_chans=3,
            num_classes=1000,
            embed_dims=[64, 128, 160, 320],
            depths=[2, 2, 6, 2],
            num_heads=[2, 4, 5, 10],
            window_sizes=[7, 7, 14, 7],
            mlp_ratio=4.0,
            drop_rate=0.0,
            drop_path_rate=0.0,
            mbconv_expand_ratio=4.0,
            local_conv_size=3,
            layer_lr_decay=0.8,
        )
