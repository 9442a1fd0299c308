"""Networks of released models stay right on every engine, or are refused in one line.

`make networks` runs them, ten seconds of a core each.
"""

import pytest

from cascade.errors import CascadeError
from tests.export.foreign_networks.judge import judge
from tests.export.foreign_networks.network import Network
from tests.export.foreign_networks.released import RELEASED
from tests.export.foreign_networks.released_autoencoders import AUTOENCODERS, BY_SHAPE
from tests.export.foreign_networks.released_transformers import MASKED, TRANSFORMERS
from tests.export.foreign_networks.released_unets import UNETS

pytest.importorskip("diffusers", reason="diffusers IS MISSING: none of its networks was tried")

EVERY = [*RELEASED, *TRANSFORMERS, *MASKED, *UNETS, *AUTOENCODERS, *BY_SHAPE]
REFUSED = {
    "pixart_alpha": "node_squeeze",
    "pixart_sigma": "node_squeeze",
    "pixart_masked": "model.transformer_blocks.0.attn2",
    "sana_masked": "model.transformer_blocks.0.attn2",
    "asymmetric_masked_decoder": "model.decoder.up_blocks.0",
    "hunyuan_image_encoder": "model.encoder.mid_block.attentions.0",
    "hunyuan_image_decoder": "model.decoder.mid_block.attentions.0",
    "lumina_next": "aten.repeat",
    "lumina_2": "model.noise_refiner.0",
    "qwen_image": "model.pos_embed",
    "stable_video": "batch",
    "temporal_decoder": "batch",
}
"""What is named where torch cannot export a network, or ONNX Runtime not load torch's own graph."""


@pytest.mark.parametrize(
    "network", [n for n in EVERY if n.name not in REFUSED], ids=lambda network: network.name
)
def test_nothing_breaks_it(network: Network) -> None:
    """Passes, storage, forms for GPUs and int8: right or refused, and no pass is undone."""
    verdict = judge(network, eight_bits=True)
    assert (verdict.faults, verdict.undone) == ([], [])


@pytest.mark.parametrize(
    "network", [n for n in EVERY if n.name in REFUSED], ids=lambda network: network.name
)
def test_what_cannot_be_exported_is_refused_by_name(network: Network) -> None:
    """One line, with the module or operator that torch cannot trace, or the node."""
    with pytest.raises(CascadeError) as refused:
        judge(network, eight_bits=False)
    assert REFUSED[network.name] in str(refused.value)
    assert "\n" not in str(refused.value)
