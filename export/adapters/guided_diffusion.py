"""guided-diffusion checkpoints as a described cascade: a class-conditional network and upscalers.

One folder for each network: its weights, the flags of its sampling script, and the names of its
classes where there are any. Knows these folders; not how a bundle is written.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from cascade.diffusion.spec import AugmentationSpec, ThresholdSpec
from cascade.errors import UnsupportedModel
from export.adapters.guided_arguments import GuidedArguments, is_upscaler, read_arguments
from export.adapters.guided_networks import GuidedNetwork, OneHotClasses
from export.adapters.weights_folder import read_weights
from export.description import CascadeDescription, LabelEncoderDescription, StageDescription
from export.layouts.guided_unet import GuidedUNet
from export.layouts.state_dict import filled

CLASS_NAMES = "classes.txt"
CLASS_TABLE = "label_emb.weight"
MOST_CLASSES = 2048
"""A context holds one number for each."""


@dataclass(frozen=True, slots=True)
class GuidedStage:
    """One folder, read."""

    arguments: GuidedArguments
    classes: int | None
    """None of a network without classes."""
    described: StageDescription


def describe_guided(folder: Path, upscalers: Sequence[Path]) -> CascadeDescription:
    """A cascade from folders of guided-diffusion.

    Args:
        folder: of the network that starts from noise, or of an upscaler without classes alone.
        upscalers: folders of super-resolution networks, the smallest first.

    Raises:
        UnsupportedModel: naming the file and the flag.
    """
    stages = [read_stage(folder, None, upscaler=is_upscaler(folder))]
    for upscaler in upscalers:
        stages.append(read_stage(upscaler, stages[-1], upscaler=True))
    return CascadeDescription(
        stages=tuple(stage.described for stage in stages),
        licence="the model's own: see where its weights come from",
        provenance=f"guided-diffusion folders {', '.join(p.name for p in (folder, *upscalers))}",
        label_encoder=label_encoder(folder, stages),
    )


def label_encoder(folder: Path, stages: Sequence[GuidedStage]) -> LabelEncoderDescription | None:
    """What tells the networks the class; None where none of them reads one.

    Raises:
        UnsupportedModel: the first network reads none and a later one does, their classes are not
            as many, or the names of classes are.
    """
    first = stages[0].classes
    for stage in stages[1:]:
        if stage.classes not in (None, first):
            path = stage.arguments.path
            raise UnsupportedModel(
                f"{path}: class_cond is True with {stage.classes} classes, and the first network "
                f"has {first or 'none'}; supported: as many as the first network's",
                field=f"{path}:class_cond",
            )
    if first is None:
        return None
    if stages[0].arguments.small_size is not None:
        path = stages[0].arguments.path
        raise UnsupportedModel(
            f"{path}: class_cond is True of an upscaler that stands alone, which would begin with "
            "a class and a picture; supported: behind the network that makes its pictures",
            field=f"{path}:class_cond",
        )
    return LabelEncoderDescription(
        network=OneHotClasses(first).eval(),
        classes=first,
        context_width=first,
        class_names=class_names(folder / CLASS_NAMES, first),
        provenance=f"one-hot vectors of {first} classes",
    )


def class_names(path: Path, classes: int) -> tuple[str, ...]:
    """Names of the classes in order, one a line; none where there is no such file.

    Raises:
        UnsupportedModel: they are not as many as the classes, empty, too long or not unlike.
    """
    if not path.is_file():
        return ()
    try:
        names = tuple(line.strip() for line in path.read_text("utf-8").splitlines())
    except ValueError as exc:
        raise UnsupportedModel(f"{path}: no text: {exc}", field=str(path)) from exc
    fits = len(names) == classes == len(set(names))
    if not fits or not all(0 < len(name) <= 100 for name in names):
        raise UnsupportedModel(
            f"{path}: expected {classes} lines, each another name of 1 to 100 characters, got "
            f"{len(names)}",
            field=str(path),
        )
    return names


def read_stage(folder: Path, before: GuidedStage | None, *, upscaler: bool) -> GuidedStage:
    """One folder.

    Args:
        folder: of the network.
        before: the stage whose pictures it enlarges, if there is one.
        upscaler: whether it enlarges pictures.

    Raises:
        UnsupportedModel: naming the file and the flag.
    """
    path, tensors = read_weights(folder)
    arguments = read_arguments(folder, upscaler=upscaler)
    check_sizes(arguments, before)
    classes = None
    if arguments.is_class_conditional:
        classes = len(tensors[CLASS_TABLE]) if CLASS_TABLE in tensors else 1
        if classes > MOST_CLASSES:
            raise UnsupportedModel(
                f"{path}: {CLASS_TABLE} has {classes} classes; supported: up to {MOST_CLASSES}",
                field=f"{path}:{CLASS_TABLE}",
            )
    unet = filled(GuidedUNet(replace(arguments.shape, classes=classes)), tensors, path)
    return GuidedStage(arguments, classes, described_stage(arguments, unet, classes))


def described_stage(
    arguments: GuidedArguments, unet: GuidedUNet, classes: int | None
) -> StageDescription:
    """A network with its flags, as a stage."""
    values = arguments.values
    is_ddim = values.get("use_ddim", False)
    learned = values["learn_sigma"] and not is_ddim
    steps = (arguments.schedule.train_steps, arguments.unit)
    low = arguments.small_size
    return StageDescription(
        name="base" if low is None else f"sr{arguments.size}",
        network=GuidedNetwork(unet, steps, learned=learned).eval(),
        output_resolution=arguments.size,
        input_resolution=low,
        steps=arguments.steps,
        timesteps=arguments.timesteps,
        schedule=arguments.schedule,
        prediction="x0" if values["predict_xstart"] else "epsilon",
        learned_variance=learned,
        sampler="ddim" if is_ddim else "ddpm",
        # Without a learned variance the scripts take the upper bound.
        gamma=0.0 if learned or is_ddim else 1.0,
        threshold=ThresholdSpec(kind="static" if values["clip_denoised"] else "none"),
        enlarge="bilinear",
        augmentation=None
        if low is None
        else AugmentationSpec(lowest=0.0, highest=0.0, default=0.0),
        uses_context=classes is not None,
        uses_mask=False,
        uses_level=False,
        training={"parameters": float(sum(p.numel() for p in unet.parameters()))},
    )


def check_sizes(arguments: GuidedArguments, before: GuidedStage | None) -> None:
    """Refuse pictures that an upscaler does not start from, or cannot make by a whole factor.

    Raises:
        UnsupportedModel: naming the flag.
    """
    path, small = arguments.path, arguments.small_size
    if small is None:
        return
    made = None if before is None else before.arguments.size
    if made not in (None, small):
        raise UnsupportedModel(
            f"{path}: small_size is {small}; supported: the {made} that the network before makes",
            field=f"{path}:small_size",
        )
    if arguments.size % small:
        raise UnsupportedModel(
            f"{path}: large_size is {arguments.size}; supported: multiples of small_size {small}",
            field=f"{path}:large_size",
        )
