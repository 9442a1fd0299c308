"""Attention in every usual shape: what surrounds the softmax differs from one to the next."""

import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812

from tests.export.foreign_networks.network import MAP, TOKENS, Network, Shape, conv, net, weight

MASK: Shape = ("batch", 16)
IMAGE: Shape = ("batch", 64, 8, 8)
sdpa = F.scaled_dot_product_attention


def qkv(width: int = 32, **more: nn.Module | nn.Parameter | torch.Tensor) -> dict[str, object]:
    """Projections of one width."""
    return {name: nn.Linear(width, width) for name in ("q", "k", "v", "o")} | more


def heads(values: torch.Tensor, count: int = 4) -> torch.Tensor:
    """`[B, N, C]` cut into heads first."""
    return values.unflatten(2, (count, -1)).transpose(1, 2)


def merged(values: torch.Tensor) -> torch.Tensor:
    """Heads put back."""
    return values.transpose(1, 2).flatten(2)


def attend(
    m: nn.Module, x: torch.Tensor, mask: torch.Tensor | None, y: torch.Tensor | None = None
) -> torch.Tensor:
    """Heads first, `[B, heads, N, d]`."""
    y = x if y is None else y
    return sdpa(heads(m.q(x)), heads(m.k(y)), heads(m.v(y)), attn_mask=mask)


def keys(mask: torch.Tensor) -> torch.Tensor:
    """A bias over keys, `[B, 1, 1, M]`."""
    return ((mask - 1) * 4)[:, None, None, :]


def rotated(values: torch.Tensor) -> torch.Tensor:
    """Rotary positions on `[B, h, N, d]`."""
    place = torch.arange(values.shape[2], dtype=torch.float32)[:, None] * torch.linspace(
        1, 0.1, values.shape[3] // 2
    )
    first, second = values.chunk(2, -1)
    return torch.cat(
        [first * place.cos() - second * place.sin(), second * place.cos() + first * place.sin()], -1
    )


def masked(name: str, after: object, **more: torch.Tensor | nn.Module) -> Network:
    """Attention under a key mask whose result goes through `after`."""
    return net(
        name,
        {"x": TOKENS, "mask": MASK},
        lambda m, x, mask: after(m, attend(m, x, keys(mask))),  # type: ignore[operator]
        lambda: qkv(**more),
    )


def grouped(values: torch.Tensor) -> torch.Tensor:
    """Groups of eight tokens in the batch, heads first."""
    return values.reshape(-1, 8, 4, 8).transpose(1, 2)


NETWORKS: list[Network] = [
    masked("sdpa_key_mask", lambda m, y: m.o(merged(y))),
    masked(
        "attn_to_channels_last", lambda m, y: m.o(y.transpose(1, 2).reshape(-1, 4, 4, 32)).mean(1)
    ),
    masked("attn_to_map", lambda _, y: y.transpose(2, 3).reshape(-1, 32, 4, 4)),
    masked(
        "attn_flat_rows", lambda m, y: m.o(y.transpose(1, 2).reshape(-1, 32)).reshape(-1, 16, 32)
    ),
    masked("attn_heads_kept", lambda m, y: m.o(y.transpose(1, 2).reshape(-1, 16, 4, 8).flatten(2))),
    masked(
        "sdpa_head_merge_dim4",
        lambda m, y: m.o(y.transpose(1, 2).reshape(-1, 4, 4, 4, 8).flatten(3)).sum(2),
    ),
    masked("attn_summed_heads", lambda _, y: y.sum(1)),
    masked("attn_swapped_heads", lambda m, y: m.o(y.permute(0, 2, 3, 1).flatten(2))),
    masked("attn_to_one_row", lambda _, y: y.transpose(1, 2).reshape(-1, 512)),
    net(
        "sdpa_unetattn_64ch8x8",
        {"x": IMAGE, "mask": ("batch", 64)},
        lambda m, x, mask: (
            x
            + m.c(
                attend(m, x.flatten(2).transpose(1, 2), keys(mask))
                .transpose(2, 3)
                .reshape(-1, 64, 8, 8)
            )
        ),
        lambda: {**qkv(64), "c": conv(64, 64, 1)},
    ),
    net(
        "sdpa_tokens_equal_channels",
        {"x": ("batch", 32, 32), "mask": ("batch", 32)},
        lambda m, x, mask: m.c(attend(m, x, keys(mask)).transpose(2, 3).reshape(-1, 32, 32)),
        lambda: {**qkv(), "c": nn.Conv1d(32, 32, 1)},
    ),
    net(
        "sdpa_transposed_tokens_equal",
        {"x": ("batch", 32, 32), "mask": ("batch", 32)},
        lambda m, x, mask: m.o(merged(attend(m, x, keys(mask))).transpose(1, 2)),
        qkv,
    ),
    net(
        "attn_from_channels_last",
        {"x": ("batch", 4, 4, 32), "mask": MASK},
        lambda m, x, mask: m.o(
            merged(
                sdpa(
                    *(f(x).reshape(-1, 16, 4, 8).transpose(1, 2) for f in (m.q, m.k, m.v)),
                    attn_mask=keys(mask),
                )
            )
        ),
        qkv,
    ),
    net(
        "sdpa_grouped_tokens",
        {"x": TOKENS, "bias": (8,)},
        lambda m, x, bias: m.o(
            merged(
                sdpa(*(grouped(f(x)) for f in (m.q, m.k, m.v)), attn_mask=bias[None, None, None])
            ).reshape(-1, 16, 32)
        ),
        qkv,
    ),
    net(
        "sdpa_grouped_tokens_pool",
        {"x": TOKENS, "bias": (8,)},
        lambda m, x, bias: m.o(
            merged(
                sdpa(*(grouped(f(x)) for f in (m.q, m.k, m.v)), attn_mask=bias[None, None, None])
            ).mean(1)
        ),
        qkv,
    ),
    net(
        "sdpa_axial_const",
        {"x": ("batch", 8, 8, 32)},
        lambda m, x: m.o(
            merged(
                sdpa(
                    *(f(x).reshape(-1, 8, 4, 8).transpose(1, 2) for f in (m.q, m.k, m.v)),
                    attn_mask=m.bias,
                )
            ).reshape(-1, 8, 8, 32)
        ),
        lambda: qkv(bias=torch.linspace(-1, 1, 8)[None, None, None]),
    ),
    net(
        "heads_minus1",
        {"x": ("batch", "tokens", 32), "mask": ("batch", "tokens")},
        lambda m, x, mask: m.o(
            merged(
                sdpa(
                    *(f(x).view(x.shape[0], -1, 4, 8).transpose(1, 2) for f in (m.q, m.k, m.v)),
                    attn_mask=keys(mask),
                )
            )
        ),
        qkv,
    ),
    net(
        "heads_minus1_width",
        {"x": ("batch", "tokens", 32), "mask": ("batch", "tokens")},
        lambda m, x, mask: m.o(
            merged(
                sdpa(
                    *(
                        f(x).view(x.shape[0], x.shape[1], -1, 8).transpose(1, 2)
                        for f in (m.q, m.k, m.v)
                    ),
                    attn_mask=keys(mask),
                )
            )
        ),
        qkv,
    ),
    net(
        "sdpa_mqa",
        {"x": TOKENS, "mask": MASK},
        lambda m, x, mask: m.o(
            merged(sdpa(heads(m.q(x)), heads(m.k1(x), 1), heads(m.v1(x), 1), attn_mask=keys(mask)))
        ),
        lambda: qkv(k1=nn.Linear(32, 8), v1=nn.Linear(32, 8)),
    ),
    net(
        "sdpa_gqa",
        {"x": TOKENS, "mask": MASK},
        lambda m, x, mask: m.o(
            merged(
                sdpa(
                    heads(m.q(x)),
                    heads(m.k2(x), 2).repeat_interleave(2, 1),
                    heads(m.v2(x), 2).repeat_interleave(2, 1),
                    attn_mask=keys(mask),
                )
            )
        ),
        lambda: qkv(k2=nn.Linear(32, 16), v2=nn.Linear(32, 16)),
    ),
    net(
        "sdpa_query_mask",
        {"x": TOKENS, "mask": MASK},
        lambda m, x, mask: m.o(merged(attend(m, x, mask[:, None, :, None]))),
        qkv,
    ),
    net(
        "sdpa_head_bias",
        {"x": TOKENS},
        lambda m, x: m.o(merged(attend(m, x, m.per_head))),
        lambda: qkv(per_head=weight(4, 1, 1)),
    ),
    net(
        "sdpa_head_gate",
        {"x": TOKENS, "gate": ("batch", 4)},
        lambda m, x, gate: m.o(merged(attend(m, x, gate[:, :, None, None]))),
        qkv,
    ),
    net(
        "sdpa_full_mask",
        {"x": TOKENS, "bias": ("batch", 1, 16, 16)},
        lambda m, x, bias: m.o(merged(attend(m, x, bias))),
        qkv,
    ),
    net(
        "sdpa_bias_of_heads",
        {"x": TOKENS},
        lambda m, x: m.o(merged(attend(m, x, m.bias))),
        lambda: qkv(bias=weight(1, 4, 16, 16)),
    ),
    net(
        "sdpa_bias_rank2",
        {"x": TOKENS},
        lambda m, x: m.o(merged(attend(m, x, m.bias))),
        lambda: qkv(bias=weight(16, 16)),
    ),
    net(
        "sdpa_bias_rank1",
        {"x": TOKENS},
        lambda m, x: m.o(merged(attend(m, x, m.bias))),
        lambda: qkv(bias=weight(1, 16)),
    ),
    net(
        "sdpa_relative_bias",
        {"x": TOKENS},
        lambda m, x: m.o(merged(attend(m, x, m.table(m.places).permute(2, 0, 1)[None]))),
        lambda: qkv(
            table=nn.Embedding(31, 4),
            places=torch.arange(16)[:, None] - torch.arange(16)[None] + 15,
        ),
    ),
    net(
        "sdpa_causal",
        {"x": TOKENS},
        lambda m, x: m.o(merged(sdpa(heads(m.q(x)), heads(m.k(x)), heads(m.v(x)), is_causal=True))),
        qkv,
    ),
    net(
        "sdpa_inf_buffer",
        {"x": TOKENS},
        lambda m, x: m.o(merged(attend(m, x, m.bias))),
        lambda: qkv(bias=torch.full((16, 16), -torch.inf).triu(1)),
    ),
    net(
        "sdpa_least_buffer",
        {"x": TOKENS},
        lambda m, x: m.o(merged(attend(m, x, m.bias))),
        lambda: qkv(bias=torch.full((16, 16), torch.finfo(torch.float32).min).triu(1)),
    ),
    net(
        "sdpa_bool",
        {"x": TOKENS, "mask": MASK},
        lambda m, x, mask: m.o(merged(attend(m, x, ((mask > 0) | m.first)[:, None, None, :]))),
        lambda: qkv(first=torch.arange(16) == 0),
    ),
    net("sdpa_no_mask", {"x": TOKENS}, lambda m, x: m.o(merged(attend(m, x, None))), qkv),
    net(
        "sdpa_alibi",
        {"x": TOKENS},
        lambda m, x: m.o(merged(attend(m, x, m.slope * m.places))),
        lambda: qkv(
            slope=weight(4, 1, 1), places=-(torch.arange(16.0)[:, None] - torch.arange(16.0)).abs()
        ),
    ),
    net(
        "sdpa_rotary",
        {"x": TOKENS, "mask": MASK},
        lambda m, x, mask: m.o(
            merged(
                sdpa(
                    rotated(heads(m.q(x))),
                    rotated(heads(m.k(x))),
                    heads(m.v(x)),
                    attn_mask=keys(mask),
                )
            )
        ),
        qkv,
    ),
    net(
        "sdpa_qk_norm",
        {"x": TOKENS, "mask": MASK},
        lambda m, x, mask: m.o(
            merged(
                sdpa(m.nq(heads(m.q(x))), m.nk(heads(m.k(x))), heads(m.v(x)), attn_mask=keys(mask))
            )
        ),
        lambda: qkv(nq=nn.LayerNorm(8), nk=nn.RMSNorm(8)),
    ),
    net(
        "sdpa_cross",
        {"x": TOKENS, "y": ("batch", "tokens", 32), "mask": ("batch", "tokens")},
        lambda m, x, y, mask: x + m.o(merged(attend(m, x, keys(mask), y))),
        qkv,
    ),
    net(
        "sdpa_cross_of_one_text",
        {"x": TOKENS, "y": (1, 12, 32), "mask": (1, 12)},
        lambda m, x, y, mask: x + m.o(merged(attend(m, x, keys(mask), y))),
        qkv,
    ),
    net(
        "sdpa_joined_keys",
        {"x": TOKENS, "y": ("batch", 12, 32), "mask": ("batch", 28)},
        lambda m, x, y, mask: x + m.o(merged(attend(m, x, keys(mask), torch.cat([x, y], 1)))),
        qkv,
    ),
    net(
        "sdpa_wide_values",
        {"x": TOKENS, "mask": MASK},
        lambda m, x, mask: m.o2(
            merged(sdpa(heads(m.q(x)), heads(m.k(x)), heads(m.v2(x)), attn_mask=keys(mask)))
        ),
        lambda: qkv(v2=nn.Linear(32, 64), o2=nn.Linear(64, 32)),
    ),
    net(
        "sdpa_learned_query",
        {"x": TOKENS, "mask": MASK},
        lambda m, x, mask: m.o(
            merged(attend(m, m.start.expand(x.shape[0], -1, -1), keys(mask), x))
        ),
        lambda: qkv(start=weight(1, 4, 32)),
    ),
    net(
        "written_out",
        {"x": TOKENS, "mask": MASK},
        lambda m, x, mask: m.o(
            merged(
                torch.softmax(
                    heads(m.q(x)) @ heads(m.k(x)).transpose(2, 3) / 8**0.5 + keys(mask), -1
                )
                @ heads(m.v(x))
            )
        ),
        qkv,
    ),
    net(
        "written_out_weights_too",
        {"x": TOKENS, "mask": MASK},
        lambda m, x, mask: (
            (
                w := torch.softmax(
                    heads(m.q(x)) @ heads(m.k(x)).transpose(2, 3) * 0.3 + keys(mask), -1
                )
            ),
            m.o(merged(w @ heads(m.v(x)))),
        ),
        qkv,
    ),
    net(
        "talking_heads",
        {"x": TOKENS, "mask": MASK},
        lambda m, x, mask: m.o(
            merged(
                m.talk(
                    torch.softmax(heads(m.q(x)) @ heads(m.k(x)).transpose(2, 3) + keys(mask), -1)
                )
                @ heads(m.v(x))
            )
        ),
        lambda: qkv(talk=nn.Conv2d(4, 4, 1)),
    ),
    net(
        "linear_attention",
        {"x": TOKENS},
        lambda m, x: m.o(
            merged(
                torch.softmax(heads(m.q(x)), -1)
                @ (torch.softmax(heads(m.k(x)), -2).transpose(2, 3) @ heads(m.v(x)))
            )
        ),
        qkv,
    ),
    net(
        "softmax_over_queries",
        {"x": TOKENS, "mask": MASK},
        lambda m, x, mask: m.o(
            merged(
                torch.softmax(heads(m.q(x)) @ heads(m.k(x)).transpose(2, 3) + keys(mask), 2)
                @ heads(m.v(x))
            )
        ),
        qkv,
    ),
    net(
        "bias_subtracted",
        {"x": TOKENS, "mask": MASK},
        lambda m, x, mask: m.o(
            merged(
                torch.softmax(keys(mask) + heads(m.q(x)) @ heads(m.k(x)).transpose(2, 3), -1)
                @ heads(m.v(x))
            )
        ),
        qkv,
    ),
    net(
        "learned_temperature",
        {"x": TOKENS, "mask": MASK},
        lambda m, x, mask: m.o(
            merged(
                torch.softmax(
                    m.scale * heads(m.q(x)) @ heads(m.k(x)).transpose(2, 3) + keys(mask), -1
                )
                @ heads(m.v(x))
            )
        ),
        lambda: qkv(scale=weight(4, 1, 1)),
    ),
    net(
        "packed_projection",
        {"x": TOKENS, "mask": MASK},
        lambda m, x, mask: m.o(
            merged(
                sdpa(*m.all(x).unflatten(2, (3, 4, 8)).permute(2, 0, 3, 1, 4), attn_mask=keys(mask))
            )
        ),
        lambda: qkv(all=nn.Linear(32, 96)),
    ),
    net(
        "multihead_module",
        {"x": TOKENS},
        lambda m, x: m.att(x, x, x, need_weights=False)[0],
        lambda: {"att": nn.MultiheadAttention(32, 4, batch_first=True)},
    ),
    net(
        "encoder_layer",
        {"x": TOKENS},
        lambda m, x: m.layer(x),
        lambda: {"layer": nn.TransformerEncoderLayer(32, 4, 64, batch_first=True, norm_first=True)},
    ),
    net(
        "map_attention",
        {"x": MAP},
        lambda m, x: (
            x
            + m.o(
                merged(
                    sdpa(
                        *(heads(f(m.g(x).flatten(2).transpose(1, 2)), 2) for f in (m.q, m.k, m.v)),
                        attn_mask=m.bias,
                    )
                )
            )
            .transpose(1, 2)
            .reshape(x.shape)
        ),
        lambda: {
            **qkv(8),
            "g": nn.GroupNorm(2, 8),
            "bias": torch.linspace(-1, 1, 256)[None, None, None],
        },
    ),
]
