"""Which forms does each adapter's export write, and how far are they from the networks?

    python -m benchmarks.foreign_forms [ADAPTER ...] [--out FILE]

A miniature of every adapter is exported with every precision and every form for GPUs. Prints a row
for each file besides the float32 graph (its largest difference from the torch network, and the
worst picture or embedding against float32), and the reason where a component goes without. Needs
the extras cpu, train, export and foreign.
"""

import argparse
import json
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from cascade.errors import UnsupportedModel
from cascade.precision import Precision
from examples.my_cascade import tokenizer
from export.adapters.command import ForeignSource, describe
from export.adapters.imagen_pytorch import describe_imagen
from export.bundle_writer import write_cascade
from export.components.component import ExportOptions
from export.description import CascadeDescription, TextEncoderDescription

ALL = ExportOptions(
    precisions=frozenset({
        Precision.FP32, Precision.INT8, Precision.INT8_BLOCK, Precision.INT4_BLOCK,
    }),
    gpu_forms=frozenset({Precision.FP16, Precision.FP32}),
)  # fmt: skip


class SevenWords(nn.Module):
    """A row of a table per word."""

    def __init__(self, width: int) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.table = nn.Embedding(7, width)

    def forward(self, token_ids: Tensor, token_mask: Tensor) -> Tensor:
        """`[B, L, width]`."""
        rows: Tensor = self.table(token_ids) * token_mask[:, :, None]
        return rows


def guided(root: Path) -> CascadeDescription:
    """A class-conditional network."""
    from tests.support.guided_grid import RUN, SMALL, GuidedCase, write_case  # noqa: PLC0415

    case = GuidedCase(name="c", flags=f"{SMALL}{RUN} --class_cond True --learn_sigma True")
    (folder,) = write_case(case, root)
    return describe(ForeignSource(kind="guided-diffusion", where=str(folder)))


def sr3(root: Path) -> CascadeDescription:
    """A network that doubles a picture."""
    from tests.support.sr3_grid import Sr3Case, write_sr3  # noqa: PLC0415

    folder = write_sr3(Sr3Case(name="plain", unet={}, schedule={}), root)
    return describe(ForeignSource(kind="sr3", where=str(folder)))


def imagen(root: Path) -> CascadeDescription:
    """Words and one U-Net."""
    from tests.support import imagen_grid  # noqa: PLC0415

    case = imagen_grid.ImagenCase(
        name="c",
        imagen={"image_sizes": [8], "timesteps": 4, "sample": {"cond_scale": 2.0}},
        unets=({"memory_efficient": True},),
    )  # fmt: skip
    encoder = TextEncoderDescription(
        network=SevenWords(imagen_grid.WIDTH).eval(),
        tokenizer=tokenizer(),
        max_tokens=16,
        context_width=imagen_grid.WIDTH,
        provenance="a table of seven words",
    )
    return describe_imagen(imagen_grid.write_imagen(case, root), encoder)


def stable_diffusion(root: Path) -> CascadeDescription:
    """The first pipeline and its x4 upscaler."""
    from tests.support import tiny_sd  # noqa: PLC0415  diffusers: seconds

    tiny_sd.base_pipeline(root / "words").save_pretrained(root / "SD")
    tiny_sd.upscaler_pipeline(root / "words").save_pretrained(root / "x4")
    return describe(
        ForeignSource(kind="diffusers-sd", where=str(root / "SD"), upscalers=(root / "x4",))
    )


def deepfloyd_if(root: Path) -> CascadeDescription:
    """Stages I and II."""
    from tests.support import tiny_if  # noqa: PLC0415  diffusers: seconds

    tiny_if.base_pipeline(root / "words", 16).save_pretrained(root / "I")
    tiny_if.upscaler_pipeline(32).save_pretrained(root / "II")
    return describe(
        ForeignSource(kind="diffusers-if", where=str(root / "I"), upscalers=(root / "II",))
    )


MINIATURES: Mapping[str, Callable[[Path], CascadeDescription]] = {
    "guided-diffusion": guided,
    "imagen-pytorch": imagen,
    "sr3": sr3,
    "diffusers-sd": stable_diffusion,
    "diffusers-if": deepfloyd_if,
}


def rows_of(adapter: str, root: Path) -> list[dict[str, Any]]:
    """Every form that an export wrote, and every one that it went without."""
    said: list[str] = []
    try:
        manifest = write_cascade(
            MINIATURES[adapter](root), root / "out", report=said.append, options=ALL
        )
    except UnsupportedModel as refused:
        return [{"adapter": adapter, "component": "all", "form": "refused", "why": str(refused)}]
    rows: list[dict[str, Any]] = []
    for spec in manifest.components:
        for graph in spec.graphs.values():
            rows += [
                row(adapter, spec.name, f"GPU {form.precision}", form.parity)
                for form in graph.gpu_forms
            ]
            for variant in graph.variants:
                found = row(adapter, spec.name, str(variant.precision), variant.parity)
                rows.append({**found, "quality_db": variant.quality.value})
    for line in said:
        name, _, why = line.partition(" without ")
        if why:
            rows.append(
                {"adapter": adapter, "component": name.strip(), "form": "without", "why": why}
            )
    return rows


def row(adapter: str, component: str, form: str, parity: Any) -> dict[str, Any]:
    """One form that was written."""
    return {
        "adapter": adapter,
        "component": component,
        "form": form,
        "max_abs": parity.max_abs_error,
        "parity_db": round(parity.psnr_db, 1),
    }


def main() -> int:
    """Export, print."""
    parser = argparse.ArgumentParser(allow_abbrev=False, description=__doc__.splitlines()[0])
    parser.add_argument("adapters", nargs="*", help="names (all)")
    parser.add_argument("--out", type=Path, help="file for the table, .json")
    args = parser.parse_args()
    rows = []
    for adapter in args.adapters or MINIATURES:
        with tempfile.TemporaryDirectory() as folder:
            found = rows_of(adapter, Path(folder))
        for one in found:
            print(json.dumps(one), flush=True)
        rows += found
    if args.out is not None:
        args.out.write_text(json.dumps(rows, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
