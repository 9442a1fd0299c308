"""Linear layers side by side, gates, recurrences, stored weights, and paths past the network."""

import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812

from export.weights.weight_grid import choose_grid
from tests.export.foreign_networks.network import (
    FREE,
    MAP,
    TOKENS,
    VECTOR,
    Network,
    conv,
    net,
    weight,
)

IDS = ("batch", 9)


def linears(*widths: int, there: int = 32) -> dict[str, nn.Module]:
    """Linear layers of one input, `a`, `b`, `c` ..."""
    return {name: nn.Linear(there, width) for name, width in zip("abcd", widths, strict=False)}


def on_grid(*shape: int) -> torch.Tensor:
    """Numbers that eight bits hold."""
    return torch.from_numpy(choose_grid(torch.randn(*shape).numpy(), 0).value)


def in_half(*shape: int) -> torch.Tensor:
    """Numbers that half precision holds."""
    return torch.randn(*shape).half().float()


def straight(
    m: nn.Module, x: torch.Tensor, low: torch.Tensor, f: torch.Tensor, b: torch.Tensor
) -> torch.Tensor:
    """A prediction of a picture that is seen through one layer only."""
    seen = (x - low * f) * b
    return (
        x * f + low * (2 * f) + (f + 1) * (m.c(F.silu(m.c(seen))) + m.g(F.silu(m.c(seen))) * seen)
    )


NETWORKS: list[Network] = [
    net(
        "two_linear_nhwc_chunk2",
        {"x": MAP},
        lambda m, x: torch.cat(
            [
                (y := m.a(h := x.permute(0, 2, 3, 1)).chunk(2, 2))[1].flatten(1),
                y[0].flatten(1),
                m.b(h).flatten(1),
            ],
            1,
        ),
        lambda: linears(12, 8, there=8),
    ),
    net(
        "linear_nhwc_silent",
        {"x": ("batch", 8, 8, 8)},
        lambda m, x: torch.cat(
            [
                (y := m.a(h := x.permute(0, 2, 3, 1)).chunk(2, 2))[1].reshape(-1, 256),
                y[0].reshape(-1, 256),
                m.b(h).reshape(-1, 512),
            ],
            1,
        ),
        lambda: linears(8, 8, there=8),
    ),
    net(
        "two_linear_nhwc_chunk_last",
        {"x": MAP},
        lambda m, x: (
            (y := m.a(h := x.permute(0, 2, 3, 1)).chunk(2, 3))[0] * torch.tanh(y[1]) + m.b(h)
        ),
        lambda: linears(16, 8, there=8),
    ),
    net(
        "two_linear_chunk_tokens",
        {"x": ("batch", 32, 32)},
        lambda m, x: torch.cat([(y := m.a(x).chunk(2, 1))[1], y[0] + m.b(x)[:, :16]], 1),
        lambda: linears(32, 32),
    ),
    net(
        "three_outputs",
        {"x": TOKENS},
        lambda m, x: (m.a(x), m.b(x), m.c(x)),
        lambda: linears(32, 16, 8),
    ),
    net(
        "outputs_of_vectors",
        {"x": ("batch", 32)},
        lambda m, x: (m.a(x), m.b(x) * 2),
        lambda: linears(32, 16),
    ),
    net(
        "uneven_chunks",
        {"x": TOKENS},
        lambda m, x: torch.cat([*m.a(x).split([8, 24], 2), m.b(x)], 2),
        lambda: linears(32, 16),
    ),
    net(
        "gated_linear_units",
        {"x": TOKENS},
        lambda m, x: m.b(F.glu(m.a(x), -1)),
        lambda: {"a": nn.Linear(32, 64), "b": nn.Linear(32, 32)},
    ),
    net(
        "swish_gate",
        {"x": TOKENS},
        lambda m, x: m.c(F.silu(m.a(x)) * m.b(x)) + x,
        lambda: linears(32, 32, 32),
    ),
    net(
        "gelu_gate",
        {"x": TOKENS},
        lambda m, x: m.c(F.gelu(m.a(x), approximate="tanh") * m.b(x)) + x,
        lambda: linears(32, 32, 32),
    ),
    net(
        "bias_or_none",
        {"x": TOKENS},
        lambda m, x: m.a(x) + m.n(x),
        lambda: {**linears(32), "n": nn.Linear(32, 32, bias=False)},
    ),
    net(
        "linear_twice",
        {"x": TOKENS},
        lambda m, x: m.a(F.silu(m.a(x))) + m.b(x),
        lambda: linears(32, 32),
    ),
    net(
        "linear_of_two",
        {"x": TOKENS, "y": TOKENS},
        lambda m, x, y: m.a(x) * m.a(y) + m.b(x),
        lambda: linears(32, 32),
    ),
    net(
        "mixer",
        {"x": TOKENS},
        lambda m, x: m.b(y := x + m.t(x.transpose(1, 2)).transpose(1, 2)) + y,
        lambda: {**linears(32, 32), "t": nn.Linear(16, 16)},
    ),
    net(
        "low_rank",
        {"x": TOKENS},
        lambda m, x: m.a(x) + x @ m.u @ m.w,
        lambda: {**linears(32), "u": weight(32, 4), "w": weight(4, 32)},
    ),
    net(
        "einsum",
        {"x": TOKENS, "y": TOKENS},
        lambda m, x, y: torch.einsum("bnc,cd,bmd->bnm", x, m.w, y),
        lambda: {"w": weight(32, 32)},
    ),
    net(
        "bilinear",
        {"x": VECTOR, "y": VECTOR},
        lambda m, x, y: m.b(x, y),
        lambda: {"b": nn.Bilinear(6, 6, 16)},
    ),
    net(
        "weight_tying",
        {"ids": IDS},
        lambda m, ids: F.linear(m.e(ids), m.e.weight),
        lambda: {"e": nn.Embedding(20, 32)},
        ids=("ids",),
    ),
    net(
        "transposed_tying",
        {"x": TOKENS},
        lambda m, x: F.linear(F.silu(F.linear(x, m.w)), m.w.t()),
        lambda: {"w": weight(48, 32)},
    ),
    net(
        "kernel_tying",
        {"x": MAP},
        lambda m, x: (
            m.c(x) + F.linear(x.mean((2, 3)), m.c.weight.flatten(1)[:, :8])[:, :, None, None]
        ),
        lambda: {"c": conv(8, 8)},
    ),
    net(
        "embedding_bag_mean",
        {"ids": IDS},
        lambda m, ids: m.e(ids).mean(1),
        lambda: {"e": nn.Embedding(20, 32)},
        ids=("ids",),
    ),
    net(
        "recurrent_gru",
        {"x": TOKENS},
        lambda m, x: m.r(x)[0],
        lambda: {"r": nn.GRU(32, 16, batch_first=True)},
    ),
    net(
        "recurrent_lstm",
        {"x": TOKENS},
        lambda m, x: m.r(x)[0],
        lambda: {"r": nn.LSTM(32, 16, batch_first=True, bidirectional=True)},
    ),
    net(
        "top_k",
        {"x": TOKENS},
        lambda m, x: m.a(torch.gather(x, 1, (x @ m.w).topk(4, 1).indices.expand(-1, -1, 32))),
        lambda: {**linears(32), "w": weight(32, 1)},
    ),
    net(
        "experts",
        {"x": TOKENS},
        lambda m, x: sum(
            f(x) * g
            for f, g in zip((m.a, m.b, m.c), torch.softmax(m.gate(x), -1).split(1, -1), strict=True)
        ),
        lambda: {**linears(32, 32, 32), "gate": nn.Linear(32, 3)},
    ),
    net(
        "cumulative",
        {"x": TOKENS},
        lambda m, x: m.a(x.cumsum(1) / 16) + m.b(x.sort(1).values),
        lambda: linears(32, 32),
    ),
    net(
        "rms_norm",
        {"x": TOKENS},
        lambda m, x: m.b(F.silu(m.a(m.n(x)))) + x,
        lambda: {**linears(32, 32), "n": nn.RMSNorm(32)},
    ),
    net(
        "sines",
        {"t": ("batch",)},
        lambda m, t: m.b(
            F.silu(m.a(torch.cat([(t[:, None] * m.f).sin(), (t[:, None] * m.f).cos()], 1)))
        ),
        lambda: {**linears(64, there=32), "b": nn.Linear(64, 32), "f": torch.logspace(0, 2, 16)},
    ),
    net(
        "log_sum_exp",
        {"x": TOKENS},
        lambda m, x: torch.logsumexp(m.a(x), 1) + m.b(x).amin(1),
        lambda: linears(32, 32),
    ),
    net(
        "scatter_rows",
        {"x": TOKENS},
        lambda m, x: torch.index_select(m.a(x), 1, m.order) + m.b(x),
        lambda: {**linears(32, 32), "order": torch.arange(15, -1, -1)},
    ),
    # Names that a storage pass would like to take, and the pair of int8 and fp8 checkpoints.
    net(
        "weight_f16_name",
        {"x": TOKENS},
        lambda m, x: x @ m.weight + m.weight_f16,
        lambda: {"weight": nn.Parameter(in_half(32, 32)), "weight_f16": weight(32)},
    ),
    net(
        "weight_i8_name",
        {"x": TOKENS},
        lambda m, x: x @ m.weight + m.weight_i8,
        lambda: {"weight": nn.Parameter(on_grid(32, 32)), "weight_i8": weight(32)},
    ),
    net(
        "weight_wide_name",
        {"x": TOKENS},
        lambda m, x: x @ m.weight + m.weight_wide,
        lambda: {"weight": nn.Parameter(on_grid(32, 32)), "weight_wide": weight(32)},
    ),
    net(
        "fake_quant_buffer",
        {"x": TOKENS},
        lambda m, x: (x @ m.weight) * m.weight_scale,
        lambda: {"weight": nn.Parameter(on_grid(32, 16)), "weight_scale": torch.rand(16)},
    ),
    net(
        "emb_scale_table",
        {"ids": IDS},
        lambda m, ids: m.table[ids] * m.table_scale[ids],
        lambda: {"table": weight(40, 32), "table_scale": weight(40, 1)},
        ids=("ids",),
    ),
    net(
        "emb_on_grid",
        {"ids": IDS},
        lambda m, ids: m.table[ids] * m.table_scale[ids],
        lambda: {"table": nn.Parameter(on_grid(40, 32)), "table_scale": weight(40, 1)},
        ids=("ids",),
    ),
    net(
        "emb_in_half",
        {"ids": IDS},
        lambda m, ids: m.e(ids) + m.e(ids).mean(1, keepdim=True),
        lambda: {"e": nn.Embedding(40, 32)},
        ids=("ids",),
    ),
    # A picture past the network, as residual predictions have it.
    net(
        "straight_b0",
        {"x": FREE, "low": FREE, "t": ("batch",)},
        lambda m, x, low, t: straight(m, x, low, (f := t[:, None, None, None]), f - f),
        lambda: {"c": conv(8, 8), "g": conv(8, 8)},
    ),
    net(
        "straight_b1",
        {"x": FREE, "low": FREE, "t": ("batch",)},
        lambda m, x, low, t: straight(m, x, low, (f := t[:, None, None, None]), f + 1.5),
        lambda: {"c": conv(8, 8), "g": conv(8, 8)},
    ),
    net(
        "straight_of_one",
        {"x": FREE, "low": FREE, "t": (1,)},
        lambda m, x, low, t: straight(m, x, low, (f := t[:, None, None, None]), f + 1.5),
        lambda: {"c": conv(8, 8), "g": conv(8, 8)},
    ),
    net(
        "sample_factors",
        {"x": FREE, "t": ("batch",)},
        lambda m, x, t: m.c(x * (f := t[:, None, None, None]) * (1 + f)) / (1 + f * f) + x,
        lambda: {"c": conv(8, 8)},
    ),
    net(
        "sample_factors_maps",
        {"x": FREE, "f": ("batch", 1, "height", 1)},
        lambda m, x, f: m.c(x * f * (1 + f)) * f + x * f,
        lambda: {"c": conv(8, 8)},
    ),
]
