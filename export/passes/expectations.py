"""How often each graph pass should fire, read off the torch network: a missing fusion is an error.

A change of torch, of its exporter or of a block can end a pattern silently; the graph stays right
and becomes slow. Knows the blocks of the Efficient U-Net and what the passes do to each; not
graphs.
"""

from collections.abc import Mapping

from torch import nn

from cascade.errors import ParityError
from export.passes.split_concat import SMALL_MAP
from stages.networks.blocks import Attention, ResNetBlock
from stages.networks.efficient_unet import EfficientUNet

CONDITION_SWISHES = 3
"""In the time, in the pooled text, and over both together."""


def expected_fusions(network: EfficientUNet, resolution: int | None) -> dict[str, int]:
    """What `optimize` should return for this network.

    Args:
        network: the one that was exported.
        resolution: height and width of its pictures; None where the graph leaves them free.
    """
    res_blocks = count(network, ResNetBlock)
    attentions = [m for m in network.modules() if isinstance(m, Attention)]
    over_image = sum(a.image_kv is not None for a in attentions)
    joined_levels = sum(is_large(c, s) for c, s in joined_maps(network, resolution))
    upscales = network.config.upscales
    stem_cut = int(upscales and is_large(6, resolution))
    # A joined map has two readers: the first convolution of its block, and the skip around it.
    cuts = 2 * joined_levels + stem_cut
    spreads = (1 + (network.gate_out is not None)) * (network.config.patch > 1)
    return {
        "swish": 2 * res_blocks + CONDITION_SWISHES + 1,
        "conditioning": res_blocks,
        "pixel_shuffle": spreads,
        # Undoing the augmentation's shrinking, before `alpha` and before the output's weight.
        "sample_factors": 2 * upscales,
        "straight_path": int(upscales and network.gate_out is not None),
        "split_convolutions": cuts,
        "group_norm": count(network, nn.GroupNorm) + joined_levels,
        "attention": len(attentions),
        # Query with image keys and values; and all blocks' text keys and values, if several.
        "projections": 2 * over_image + (len(attentions) if len(attentions) > 1 else 0),
        "named_convolutions": count(network, nn.Conv2d, nn.ConvTranspose2d) + cuts,
    }


def check_fusions(found: Mapping[str, int], expected: Mapping[str, int]) -> None:
    """Compare what happened with what should have.

    Args:
        found: how often each pass fired, by its name.
        expected: how many places the network has for it.

    Raises:
        ParityError: a pass fired more or less often than that.
    """
    wrong = [
        f"{name} {found.get(name, 0)} times, not {times}"
        for name, times in expected.items()
        if found.get(name, 0) != times
    ]
    if wrong:
        raise ParityError(
            f"graph passes fired {', '.join(wrong)}: the exported pattern has changed; see the "
            "pass of that name in export/passes",
            field="fusions",
        )


def count(network: nn.Module, *kinds: type[nn.Module]) -> int:
    """Layers of these kinds."""
    return sum(isinstance(module, kinds) for module in network.modules())


def joined_maps(network: EfficientUNet, resolution: int | None) -> list[tuple[int, int | None]]:
    """Channels and side of every map that a skip connection is joined to."""
    blocks = network.config.blocks
    return [
        (
            2 * block.channels,
            None if resolution is None else resolution // (network.config.patch * 2 ** (level + 1)),
        )
        for level, block in enumerate(blocks[:-1])
    ]


def is_large(channels: int, side: int | None) -> bool:
    """Whether the pass that cuts joined maps takes this one."""
    return side is None or channels * side**2 >= SMALL_MAP
