"""Frames, windows, patches and heads that are folded into the batch, and maps made of vectors."""

import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812

from tests.export.foreign_networks.network import (
    FREE,
    MAP,
    TOKENS,
    Network,
    Shape,
    conv,
    net,
    weight,
)

FRAMES: Shape = ("batch", 32, 16, 16)
VIDEO: Shape = ("batch", 4, 8, 16, 16)


def two() -> dict[str, nn.Module]:
    """Two convolutions with a norm between."""
    return {"a": conv(8, 8), "g": nn.GroupNorm(4, 8), "c": conv(8, 8)}


NETWORKS: list[Network] = [
    net(
        "reshape_folded_mul",
        {"x": FRAMES, "ref": MAP},
        lambda m, x, ref: (
            m.c(m.a(x.reshape(-1, 8, 16, 16))).reshape(x.shape[0], 4, 8, 16, 16).sum(1) * ref
        ),
        two,
    ),
    net(
        "fold_then_unfold_sum",
        {"x": FRAMES, "ref": MAP},
        lambda m, x, ref: (
            m.c(
                (a := m.a(ref))
                + m.c(m.a(x.reshape(-1, 8, 16, 16))).reshape(x.shape[0], 4, 8, 16, 16).amax(1)
            )
            + a
        ),
        two,
    ),
    net(
        "fold_time_long",
        {"x": VIDEO},
        lambda m, x: m.c(F.silu(m.g(m.a(x.reshape(-1, 8, 16, 16))))).reshape(x.shape),
        two,
    ),
    net(
        "fold_time_flatten",
        {"x": VIDEO},
        lambda m, x: m.c(F.silu(m.g(m.a(x.flatten(0, 1))))).unflatten(0, (-1, 4)) + x,
        two,
    ),
    net(
        "fold_time_skip",
        {"x": FRAMES},
        lambda m, x: ((y := x.reshape(-1, 8, 16, 16)) + m.c(F.silu(m.a(y)))).reshape(x.shape) + x,
        two,
    ),
    net(
        "frames_in_batch_add",
        {"x": FRAMES, "style": MAP},
        lambda m, x, style: m.c(
            F.silu(m.a(x.reshape(-1, 8, 16, 16)) + m.a(style).repeat_interleave(4, 0))
        ).reshape(x.shape),
        two,
    ),
    net(
        "frames_and_steps",
        {"x": VIDEO, "t": ("batch", 6)},
        lambda m, x, t: m.c(
            F.silu(
                m.g(m.a(x.reshape(-1, 8, 16, 16)))
                * (1 + m.f(t).repeat_interleave(4, 0)[:, :, None, None])
            )
        ).reshape(x.shape),
        lambda: {**two(), "f": nn.Linear(6, 8)},
    ),
    net(
        "unfold_patches_two_inputs",
        {"x": MAP, "ref": ("batch", 8, 8, 8)},
        lambda m, x, ref: (
            m.c(
                F.silu(
                    m.a(x.reshape(-1, 8, 2, 8, 2, 8).permute(0, 2, 4, 1, 3, 5).reshape(-1, 8, 8, 8))
                )
            )
            .reshape(-1, 4, 8, 8, 8)
            .sum(1)
            + m.a(ref)
        ),
        two,
    ),
    net(
        "windows_and_back",
        {"x": MAP},
        lambda m, x: (
            m.c(
                F.silu(
                    m.a(x.reshape(-1, 8, 2, 8, 2, 8).permute(0, 2, 4, 1, 3, 5).reshape(-1, 8, 8, 8))
                )
            )
            .reshape(-1, 2, 2, 8, 8, 8)
            .permute(0, 3, 1, 4, 2, 5)
            .reshape(-1, 8, 16, 16)
            + m.a(x)
        ),
        two,
    ),
    net(
        "channels_in_batch",
        {"x": MAP},
        lambda m, x: (
            m.c(m.one(x.reshape(-1, 1, 16, 16)).mean(1, keepdim=True).reshape(-1, 8, 16, 16))
            + m.a(x)
        ),
        lambda: {**two(), "one": conv(1, 4)},
    ),
    net(
        "rows_in_batch",
        {"x": MAP},
        lambda m, x: m.c(
            m.g(
                m.line(x.permute(0, 2, 1, 3).reshape(-1, 8, 16))
                .reshape(-1, 16, 8, 16)
                .permute(0, 2, 1, 3)
            )
        ),
        lambda: {**two(), "line": nn.Conv1d(8, 8, 3, padding=1)},
    ),
    net(
        "vector_generator",
        {"z": ("batch", 6)},
        lambda m, z: m.c(F.silu(m.g(m.a(m.f(z).reshape(-1, 8, 8, 8))))),
        lambda: {**two(), "f": nn.Linear(6, 512)},
    ),
    net(
        "vector_generator_grows",
        {"z": ("batch", 6)},
        lambda m, z: m.c(
            F.interpolate(F.silu(m.g(m.a(m.f(z).unflatten(1, (8, 8, 8))))), scale_factor=2)
        ),
        lambda: {**two(), "f": nn.Linear(6, 512)},
    ),
    net(
        "tokens_only_decoder",
        {"x": ("batch", 64, 8)},
        lambda m, x: m.c(F.silu(m.g(m.a(m.f(x).transpose(1, 2).reshape(-1, 8, 8, 8))))),
        lambda: {**two(), "f": nn.Linear(8, 8)},
    ),
    net(
        "tokens_only_rank4",
        {"x": ("batch", 16, 16)},
        lambda m, x: m.f(x.reshape(x.shape[0], 4, 4, 16)).sum(2),
        lambda: {"f": nn.Linear(16, 16)},
    ),
    net(
        "batch_one_image",
        {"image": (1, 8, 16, 16), "x": TOKENS},
        lambda m, image, x: m.c(F.silu(m.a(x.reshape(-1, 8, 8, 8)))) + F.avg_pool2d(m.a(image), 2),
        two,
    ),
    net(
        "reference_picture",
        {"image": (1, 8, 16, 16), "x": MAP},
        lambda m, image, x: m.c(F.silu(m.g(m.a(x) + m.a(image)))) * m.c(image),
        two,
    ),
    net(
        "heads_map_conv",
        {"x": ("batch", 4, 8, 8)},
        lambda m, x: m.c(F.silu(m.a(x.reshape(-1, 4, 8, 8)))),
        lambda: {"a": conv(4, 8), "c": conv(8, 4)},
    ),
    net(
        "patch_embedding",
        {"x": MAP},
        lambda m, x: m.out(
            m.a(F.silu(m.patch(x)).flatten(2).transpose(1, 2)).transpose(1, 2).reshape(-1, 8, 4, 4)
        ),
        lambda: {
            "patch": conv(8, 8, 4, stride=4, padding=0),
            "a": nn.Linear(8, 8),
            "out": nn.ConvTranspose2d(8, 8, 4, stride=4),
        },
    ),
    net(
        "space_to_tokens_free",
        {"x": FREE},
        lambda m, x: m.c(
            F.silu(m.g(m.f(m.a(x).flatten(2).transpose(1, 2)).transpose(1, 2).reshape(x.shape)))
        ),
        lambda: {**two(), "f": nn.Linear(8, 8)},
    ),
    net(
        "transposed_picture",
        {"x": ("batch", 8, 12, 20)},
        lambda m, x: m.c(F.silu(m.g(m.a(x.transpose(2, 3))))).transpose(2, 3) + x,
        two,
    ),
    net(
        "channels_last_input",
        {"x": ("batch", 16, 16, 8)},
        lambda m, x: m.c(F.silu(m.g(m.a(x.permute(0, 3, 1, 2))))).permute(0, 2, 3, 1) + x,
        two,
    ),
    net(
        "split_channels_to_batch",
        {"x": ("batch", 16, 16, 16)},
        lambda m, x: torch.stack([m.c(F.silu(m.a(part))) for part in x.chunk(2, 1)], 1).mean(1),
        two,
    ),
    net(
        "image_generator_mix",
        {"z": ("batch", 512), "x": MAP},
        lambda m, z, x: m.c(
            F.silu(
                m.g(torch.cat([F.interpolate(m.a(z.reshape(-1, 8, 8, 8)), scale_factor=2), x], 1))
            )
        ),
        lambda: {"a": conv(8, 8), "g": nn.GroupNorm(4, 16), "c": conv(16, 8)},
    ),
    net(
        "learned_queries_map",
        {"x": MAP},
        lambda m, x: m.c(F.silu(m.a(m.start.reshape(-1, 8, 16, 16)))) + m.c(x),
        lambda: {**two(), "start": weight(8, 256)},
    ),
]
