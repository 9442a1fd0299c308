"""Folders of guided-diffusion in many configurations, and what its library makes of each.

The library itself is only imported where it is given (`benchmarks.foreign_grid`); CI has pictures
that it made, kept in `tests/export/known_answers`.
"""

import random
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from cascade.types import ImageU8
from export.adapters.guided_arguments import read_arguments
from export.adapters.guided_diffusion import describe_guided
from export.layouts.guided_unet import GuidedUNet
from stages.safetensors_file import save_safetensors
from tests.support.described import CascadeStart, described_pictures, one_hot, picture_of
from tests.support.known_weights import write_known

CLASSES = 5
LABEL = 3
BASE_SIZE = 16
RUN = "--timestep_respacing 4"


@dataclass(frozen=True, kw_only=True, slots=True)
class GuidedCase:
    """One configuration: flags of the base, or of an upscaler that stands alone."""

    name: str
    flags: str
    upscaler: str = ""
    """Flags of a second network behind the first."""
    refused: str = ""
    """The flag or weight that is named where it is refused; empty where it is equal."""
    spoiled: str = ""
    """Name of a weight that is left out of the file."""

    @property
    def is_alone(self) -> bool:
        """Whether the first network enlarges a picture."""
        return "--large_size" in self.flags


SMALL = "--num_channels 32 --num_res_blocks 1 --image_size 16 --channel_mult 1,2 "
LARGE = "--num_channels 32 --num_res_blocks 1 --large_size 64 --small_size 16 "
CHOICES = {
    "class_cond": ("True", "False"),
    "learn_sigma": ("True", "False"),
    "noise_schedule": ("linear", "cosine"),
    "timestep_respacing": ("4", "3,2", "ddim5", "1,1,3"),
    "predict_xstart": ("False", "False", "True"),
    "rescale_timesteps": ("False", "True"),
    "diffusion_steps": ("1000", "1000", "250", "4000"),
    "clip_denoised": ("True", "True", "False"),
    "use_scale_shift_norm": ("True", "False"),
    "resblock_updown": ("True", "False"),
    "num_heads": ("1", "2", "4"),
    "num_head_channels": ("-1", "-1", "16"),
    "num_heads_upsample": ("-1", "-1", "2"),
    "attention_resolutions": ("8", "16,8", "16"),
}
OF_BASE = {
    "use_new_attention_order": ("True", "False"),
    "use_ddim": ("False", "False", "True"),
    "channel_mult": ("1,2", "1,2", "2,1,1", "1"),
}
REFUSED = (
    ("too few steps", "--diffusion_steps 10", "diffusion_steps"),
    ("too many steps", "--diffusion_steps 20000", "diffusion_steps"),
    ("run too long", "--diffusion_steps 4000 --timestep_respacing=", "timestep_respacing"),
    ("no whole stride", "--timestep_respacing ddim300", "timestep_respacing"),
    ("sections too full", "--diffusion_steps 30 --timestep_respacing 20,20", "timestep_respacing"),
    ("no respacing", "--timestep_respacing many", "timestep_respacing"),
    ("no schedule", "--noise_schedule sigmoid", "noise_schedule"),
    ("odd width", "--num_channels 48", "num_channels"),
    ("odd heads", "--num_heads 3", "num_heads"),
    ("odd head width", "--num_head_channels 24", "num_head_channels"),
    ("size without levels", "--channel_mult=", "channel_mult"),
    ("size not halved", "--image_size 17", "image_size"),
    ("classifier", "--classifier_scale 1.0", "classifier_scale"),
    ("no truth", "--class_cond maybe", "class_cond"),
    ("other blocks", "--num_res_blocks 0", "num_res_blocks"),
)


def flags_of(base: str, chosen: dict[str, str]) -> str:
    """Flags as they are pasted."""
    return base + " ".join(f"--{name} {value}" for name, value in chosen.items())


def guided_cases() -> Iterator[GuidedCase]:
    """Every configuration, the same ones ever: random ones, named ones, refused ones."""
    draw = random.Random(7)
    for number in range(36):
        chosen = {name: draw.choice(some) for name, some in {**CHOICES, **OF_BASE}.items()}
        yield GuidedCase(name=f"base {number}", flags=flags_of(SMALL, chosen))
    for number in range(10):
        chosen = {name: draw.choice(some) for name, some in CHOICES.items()}
        chosen |= {"class_cond": "False", "attention_resolutions": draw.choice(("16", "32", "8"))}
        small = draw.choice(("16", "32", "64"))
        chosen |= {"small_size": small}
        yield GuidedCase(name=f"upscaler {number}", flags=flags_of(LARGE, chosen))
    for number in range(4):
        both = {"class_cond": str(number < 3), "timestep_respacing": "3", "learn_sigma": "True"}
        yield GuidedCase(
            name=f"cascade {number}",
            flags=flags_of(SMALL, {**both, "noise_schedule": "cosine"}),
            upscaler=flags_of(LARGE, {**both, "class_cond": str(number < 2)}),
        )
    for name, flags, field in REFUSED:
        yield GuidedCase(name=name, flags=f"{SMALL}{RUN} {flags}", refused=field)
    yield from refused_chains()


def refused_chains() -> Iterator[GuidedCase]:
    """Networks that do not fit together, or weights that do not fit their flags."""
    plain = f"{SMALL}{RUN}"
    upscaler = f"{LARGE}{RUN}"
    yield GuidedCase(name="late class", flags=plain, upscaler=f"{upscaler} --class_cond True",
                     refused="class_cond")  # fmt: skip
    yield GuidedCase(name="class and picture", flags=f"{upscaler} --class_cond True",
                     refused="class_cond")  # fmt: skip
    yield GuidedCase(name="other small size", flags=plain,
                     upscaler=upscaler.replace("small_size 16", "small_size 32"),
                     refused="small_size")  # fmt: skip
    yield GuidedCase(name="no whole factor", flags=upscaler.replace("small_size 16",
                     "small_size 24"), refused="large_size")  # fmt: skip
    yield GuidedCase(name="unknown large size", flags=upscaler.replace("large_size 64",
                     "large_size 96"), refused="large_size")  # fmt: skip
    yield GuidedCase(name="weight missing", flags=plain, spoiled="out.2.bias",
                     refused="out.2.bias")  # fmt: skip


def write_case(case: GuidedCase, root: Path) -> tuple[Path, ...]:
    """The folders of a case, weights known by name and shape.

    Weights are those of the flags without what is refused, so that only that is wrong.
    """
    folders = []
    for number, flags in enumerate(filter(None, (case.flags, case.upscaler))):
        folder = root / f"{case.name}-{number}".replace(" ", "_")
        folder.mkdir(parents=True)
        is_upscaler = "--large_size" in flags
        sound = flags
        if case.refused and not case.spoiled:
            sound = f"{LARGE if is_upscaler else SMALL}{RUN}"
            sound += " --class_cond True" if "--class_cond True" in flags else ""
        (folder / "arguments.txt").write_text(sound)
        arguments = read_arguments(folder, upscaler=is_upscaler)
        classes = CLASSES if arguments.is_class_conditional else None
        network = GuidedUNet(replace(arguments.shape, classes=classes))
        tensors = write_known(network, folder, seed=number)
        if case.spoiled:
            kept = {name: value for name, value in tensors.items() if name != case.spoiled}
            save_safetensors(folder / "model.safetensors", kept)
        (folder / "arguments.txt").write_text(flags)
        folders.append(folder)
    return tuple(folders)


def start_of(case: GuidedCase) -> CascadeStart:
    """What a case's networks start from."""
    if case.is_alone:
        size = int(case.flags.split("--small_size ")[-1].split()[0])
        return CascadeStart(image=picture_of(size))
    has_class = "--class_cond True" in case.flags
    return CascadeStart(context=one_hot(LABEL, CLASSES) if has_class else None)


def our_pictures(case: GuidedCase, folders: tuple[Path, ...]) -> dict[str, ImageU8]:
    """The picture of every stage as this project makes it."""
    described = describe_guided(folders[0], folders[1:])
    return described_pictures(described, start_of(case))
