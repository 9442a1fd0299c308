"""Image decoders fed with what decoders fear."""

import contextlib

import grpc
import pytest

from protos.cascade.v1 import cascade_pb2 as pb
from tests.faults.decompression_bombs import bombs, costly
from tests.support.asking import CONTEXT, answer, asking, differs
from tests.support.leaks import check_silence
from tests.support.server_process import Victim
from tests.support.serving import Caller, details_of, pixels, results_of, tensor_message

FORMATS = {"png": pb.IMAGE_FORMAT_PNG, "jpeg": pb.IMAGE_FORMAT_JPEG, "webp": pb.IMAGE_FORMAT_WEBP}
GROWTH_MIB = 50


def from_image(server: Victim, format_: str, data: bytes) -> object:
    """A request that starts from those bytes."""
    reference = pb.ContextReference(tensor=tensor_message(CONTEXT))
    image = pb.Image(width=8, height=8, format=FORMATS[format_], data=data)
    return asking(server.bundle, image=pb.ImageStart(context=reference, image=image))


def test_bombs_are_refused_before_they_cost_memory(quick: Victim, quick_caller: Caller) -> None:
    """19. Huge sizes, 224 MiB of text, cut files, formats not offered: refused, memory flat."""
    peak = before = quick.rss_mib
    for name, (format_, data) in bombs().items():
        begun_s = quick.cpu_s
        call = quick_caller.generate(from_image(quick, format_, data))
        with pytest.raises(grpc.RpcError) as refused:
            list(call)
        code, reason, field, _ = details_of(refused.value)
        found = (code, reason, field)
        assert found == ("INVALID_ARGUMENT", "IMAGE_CODEC_ERROR", "image.image.data"), name
        check_silence(refused.value)
        assert quick.cpu_s - begun_s < 1, name
        peak = max(peak, quick.rss_mib)
    assert peak - before < GROWTH_MIB


def test_more_than_the_pixels_is_not_read(quick: Victim, quick_caller: Caller) -> None:
    """19. What follows the pixels, and further frames, cost nothing; the right picture comes."""
    before = quick.rss_mib
    for name, (format_, data) in costly().items():
        begun_s = quick.cpu_s
        # Refused or read: either way at once and without the memory.
        with contextlib.suppress(grpc.RpcError):
            list(quick_caller.generate(from_image(quick, format_, data)))
        assert quick.cpu_s - begun_s < 1, name
    assert quick.rss_mib - before < GROWTH_MIB
    picture = pixels(results_of(quick_caller.generate(asking(quick.bundle)))["sr32"].image)
    assert not differs(picture, answer(quick.bundle))
