"""The flags of guided-diffusion's sampling scripts in the words of this project.

What the flags leave out has the scripts' own default. Knows names and numbers; not networks.

References:
    `scripts/image_sample.py` and `scripts/super_res_sample.py` of openai/guided-diffusion at
    22e0df8183507e13a7813f8d38d51b072ca1e67c.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from cascade.diffusion.betas import MAX_TRAIN_STEPS, BetaSpec
from cascade.diffusion.request_options import MAX_STEPS
from cascade.diffusion.spacing import Spacing, kept_steps
from cascade.errors import InvalidRequest, UnsupportedModel
from export.adapters.flag_file import (
    Flag,
    positive,
    positive_or_none,
    positives,
    read_flags,
    truth,
)
from export.layouts.guided_unet import GROUPS, GuidedShape

ARGUMENTS = "arguments.txt"
WHOLE, TRUTH = "a whole number from 1", "True or False"
EVEN = "linspace"
LEAST_LINEAR = 21
"""Training steps of the schedule `linear`: with fewer its last beta is 1 or more."""
COUNTED = 1000.0
"""Training steps that `rescale_timesteps` counts to."""


def schedule_name(text: str) -> str:
    """One of the two schedules."""
    if text not in ("linear", "cosine"):
        raise ValueError(text)
    return text


def multipliers(text: str) -> tuple[int, ...]:
    """Widths of levels in units of the first; empty for those that go with the size."""
    return () if text == "" else positives(text)


SHARED: Mapping[str, Flag] = {
    "num_channels": Flag(128, positive, WHOLE),
    "num_res_blocks": Flag(2, positive, WHOLE),
    "num_heads": Flag(4, positive, WHOLE),
    "num_heads_upsample": Flag(None, positive_or_none, f"{WHOLE}, or -1"),
    "num_head_channels": Flag(None, positive_or_none, f"{WHOLE}, or -1"),
    "attention_resolutions": Flag((16, 8), positives, "sizes of pictures between commas"),
    "class_cond": Flag(default=False, read=truth, words=TRUTH),
    "use_scale_shift_norm": Flag(default=True, read=truth, words=TRUTH),
    "resblock_updown": Flag(default=False, read=truth, words=TRUTH),
    "learn_sigma": Flag(default=False, read=truth, words=TRUTH),
    "diffusion_steps": Flag(1000, positive, WHOLE),
    "noise_schedule": Flag("linear", schedule_name, "linear, cosine"),
    "timestep_respacing": Flag("", str, "counts between commas, or ddim and a count"),
    "predict_xstart": Flag(default=False, read=truth, words=TRUTH),
    "rescale_timesteps": Flag(default=False, read=truth, words=TRUTH),
    "clip_denoised": Flag(default=True, read=truth, words=TRUTH),
}
BASE: Mapping[str, Flag] = {
    **SHARED,
    "image_size": Flag(64, positive, WHOLE),
    "channel_mult": Flag((), multipliers, "whole numbers between commas"),
    "use_new_attention_order": Flag(default=False, read=truth, words=TRUTH),
    "use_ddim": Flag(default=False, read=truth, words=TRUTH),
}
UPSCALER: Mapping[str, Flag] = {
    **SHARED,
    "large_size": Flag(256, positive, WHOLE),
    "small_size": Flag(64, positive, WHOLE),
}
UNREAD = (
    "dropout", "use_checkpoint", "use_fp16", "use_kl", "rescale_learned_sigmas", "num_samples",
    "batch_size", "model_path", "base_samples",
)  # fmt: skip
"""Of training, of how many pictures, or of the numbers that a GPU computes in."""

WIDTHS: Mapping[int, tuple[float, ...]] = {
    512: (0.5, 1, 1, 2, 2, 4, 4),
    256: (1, 1, 2, 2, 4, 4),
    128: (1, 1, 2, 3, 4),
    64: (1, 2, 3, 4),
}
"""Of the levels of a network for pictures of that size, where `channel_mult` says nothing."""
UPSCALER_WIDTHS = {512: (1, 1, 2, 2, 4, 4), 256: (1, 1, 2, 2, 4, 4), 64: (1, 2, 3, 4)}


@dataclass(frozen=True, kw_only=True, slots=True)
class GuidedArguments:
    """One folder's flags, checked."""

    path: Path
    size: int
    """Of the pictures that it makes."""
    small_size: int | None
    """Of those that it enlarges; None of a network that starts from noise."""
    shape: GuidedShape
    """`classes` still missing."""
    is_class_conditional: bool
    schedule: BetaSpec
    timesteps: tuple[int, ...]
    """Of the run, the noisiest first; empty where they are the schedule's own choice."""
    steps: int
    unit: float
    """What the network counts a training step as."""
    values: Mapping[str, Any]
    """All flags."""


def is_upscaler(folder: Path) -> bool:
    """Whether a folder's flags are those of a super-resolution network."""
    path = folder / ARGUMENTS
    return path.is_file() and b"--large_size" in path.read_bytes()


def read_arguments(folder: Path, *, upscaler: bool) -> GuidedArguments:
    """The flags of a folder.

    Raises:
        UnsupportedModel: naming the file and the flag.
    """
    path = folder / ARGUMENTS
    values = read_flags(path, UPSCALER if upscaler else BASE, UNREAD)
    size = values["large_size" if upscaler else "image_size"]
    kept, spacing = respacing(path, values["timestep_respacing"], values["diffusion_steps"])
    total = values["diffusion_steps"]
    return GuidedArguments(
        path=path,
        size=size,
        small_size=values["small_size"] if upscaler else None,
        shape=shape_of(path, values, size, upscaler=upscaler),
        is_class_conditional=values["class_cond"],
        schedule=replace(schedule_of(path, values["noise_schedule"], total), spacing=spacing),
        timesteps=() if kept_steps(spacing, 0, total, len(kept)) == kept else tuple(kept),
        steps=len(kept),
        unit=COUNTED / total if values["rescale_timesteps"] else 1.0,
        values=values,
    )


def schedule_of(path: Path, name: str, steps: int) -> BetaSpec:
    """The noise schedule.

    Raises:
        UnsupportedModel: it has more or fewer training steps than there can be.
    """
    least = LEAST_LINEAR if name == "linear" else 1
    if not least <= steps <= MAX_TRAIN_STEPS:
        raise UnsupportedModel(
            f"{path}: diffusion_steps is {steps}; supported: {least} to {MAX_TRAIN_STEPS}",
            field=f"{path}:diffusion_steps",
        )
    if name == "cosine":
        return BetaSpec(kind="betas", rule="squared_cosine", train_steps=steps)
    # The bounds are those of 1,000 steps; fewer steps add more noise each.
    scale = 1000 / steps
    return BetaSpec(
        kind="betas", rule="linear", train_steps=steps, first=scale * 1e-4, last=scale * 0.02
    )


def respacing(path: Path, text: str, total: int) -> tuple[list[int], Spacing]:
    """The training steps that a run keeps, the noisiest first, and how other runs are spaced.

    Raises:
        UnsupportedModel: there are not so many, or more than a run may have.
    """
    try:
        if text.startswith("ddim"):
            kept, spacing = strided(int(text.removeprefix("ddim")), total), "leading"
        else:
            counts = [int(part) for part in text.split(",")] if text else [total]
            kept, spacing = sections(counts, total), EVEN
        if not 1 <= len(kept) <= MAX_STEPS:
            raise ValueError(f"{len(kept)} steps")
    except (ValueError, InvalidRequest) as exc:
        raise UnsupportedModel(
            f"{path}: timestep_respacing is {text!r} of {total} diffusion_steps ({exc}); "
            f"supported: counts that fit into equal parts, or ddim and a count that a whole "
            f"stride gives; 1 to {MAX_STEPS} in all",
            field=f"{path}:timestep_respacing",
        ) from exc
    found: Spacing = "leading" if spacing == "leading" else "linspace"
    return sorted(set(kept), reverse=True), found


def strided(count: int, total: int) -> list[int]:
    """Every n-th training step, with the smallest n that gives so many.

    Raises:
        ValueError: no n does.
    """
    for stride in range(1, total):
        if -(-total // stride) == count:
            return list(range(0, total, stride))
    raise ValueError("no whole stride gives so many")


def sections(counts: list[int], total: int) -> list[int]:
    """So many training steps of each of as many equal parts, both ends of a part among them.

    Raises:
        ValueError: a part has fewer.
    """
    kept: list[int] = []
    start = 0
    for number, count in enumerate(counts):
        size = total // len(counts) + (number < total % len(counts))
        if not 0 <= count <= size:
            raise ValueError(f"part {number} has {size}")
        # The stride is summed, not multiplied, so that ties round as published.
        stride, place = ((size - 1) / (count - 1) if count > 1 else 1.0), 0.0
        for _ in range(count):
            kept.append(start + round(place))
            place += stride
        start += size
    return kept


def shape_of(path: Path, values: Mapping[str, Any], size: int, *, upscaler: bool) -> GuidedShape:
    """The network that the flags describe.

    Raises:
        UnsupportedModel: naming the flag.
    """
    width = values["num_channels"]
    widths = tuple(int(by * width) for by in multipliers_of(path, values, size, upscaler=upscaler))
    refuse(path, any(w % GROUPS for w in (width, *widths)), "num_channels", width,
           f"widths that are multiples of {GROUPS}")  # fmt: skip
    levels = 2 ** (len(widths) - 1)
    refuse(path, size % levels > 0, "large_size" if upscaler else "image_size", size,
           f"multiples of {levels}, which the levels halve")  # fmt: skip
    attended = frozenset(size // at for at in values["attention_resolutions"])
    heads, head_width = values["num_heads"], values["num_head_channels"]
    heads_up = values["num_heads_upsample"] or heads
    looking = [w for level, w in enumerate(widths) if 2**level in attended] + [widths[-1]]
    for name, number in (("num_heads", heads), ("num_heads_upsample", heads_up)):
        refuse(path, head_width is None and any(w % number for w in looking), name, number,
               f"divisors of {', '.join(map(str, looking))}")  # fmt: skip
    refuse(path, head_width is not None and any(w % head_width for w in looking),
           "num_head_channels", head_width,
           f"divisors of {', '.join(map(str, looking))}")  # fmt: skip
    return GuidedShape(
        in_channels=6 if upscaler else 3,
        out_channels=6 if values["learn_sigma"] else 3,
        width=width,
        widths=widths,
        blocks=values["num_res_blocks"],
        attended=attended,
        heads=heads,
        heads_up=heads_up,
        head_width=head_width,
        scale_shift=values["use_scale_shift_norm"],
        resizing_blocks=values["resblock_updown"],
        parts_first=values.get("use_new_attention_order", False),
        classes=None,
    )


def multipliers_of(
    path: Path, values: Mapping[str, Any], size: int, *, upscaler: bool
) -> tuple[float, ...]:
    """Widths of the levels in units of the first.

    Raises:
        UnsupportedModel: none are known for that size.
    """
    if values.get("channel_mult"):
        return tuple(values["channel_mult"])
    known: Mapping[int, tuple[float, ...]] = UPSCALER_WIDTHS if upscaler else WIDTHS
    refuse(path, size not in known, "large_size" if upscaler else "channel_mult", size,
           f"{', '.join(map(str, known))}"
           + ("" if upscaler else ", or an image_size with a channel_mult"))  # fmt: skip
    return known[size]


def refuse(path: Path, wrong: bool, name: str, value: Any, supported: str) -> None:  # noqa: FBT001
    """Raise where something is wrong.

    Raises:
        UnsupportedModel: naming the file, the flag, its value and what is supported.
    """
    if wrong:
        raise UnsupportedModel(
            f"{path}: {name} is {value!r}; supported: {supported}", field=f"{path}:{name}"
        )
