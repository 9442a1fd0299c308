"""What a checkpoint tells of its training, as the manifest says it."""

from pathlib import Path

from cascade.errors import InvalidRequest
from stages.networks.efficient_unet import EfficientUNet
from stages.reference import StagePreset
from stages.training.checkpoint import METADATA_FILE, load_metadata

METADATA_NAMES = {
    "steps": "step",
    "samples": "samples",
    "minutes": "minutes",
    "final_loss": "loss",
    "pictures": "pictures",
}
"""Entries of a manifest's `training`, and what a checkpoint calls them."""

STRETCH = "stretch"
"""Entry of a manifest's `training`: `UNetConfig.stretch` of the network, where it is not 1."""


def training_metadata(
    preset: StagePreset, network: EfficientUNet, checkpoint: Path
) -> dict[str, str | float]:
    """What the manifest says of how a stage was trained.

    Raises:
        InvalidRequest: the checkpoint does not say it.
    """
    facts = load_metadata(checkpoint)
    missing = [name for name in METADATA_NAMES.values() if name not in facts]
    if missing:
        raise InvalidRequest(
            f"{checkpoint / METADATA_FILE}: {missing[0]} is missing: train the stage, or "
            "read it back from its bundle again with `cascade weights`",
            field=f"checkpoints.{missing[0]}",
        )
    said = {entry: float(facts[name]) for entry, name in METADATA_NAMES.items()}
    return {
        **said,
        "parameters": float(sum(p.numel() for p in network.parameters())),
        "final_loss": round(said["final_loss"], 4),
        "crop": float(preset.crop),
        **({"teacher": str(facts["teacher"])} if "teacher" in facts else {}),
        **({STRETCH: network.config.stretch} if network.config.stretch != 1 else {}),
    }
