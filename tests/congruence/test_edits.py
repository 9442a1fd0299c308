"""Pictures made of the caller's own, and of other sizes: the same pixels at every cut."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cascade.bundle.bundle import Bundle
from cascade.commands.cli import main
from cascade.diffusion.request_options import DiffusionOptions
from cascade.edit import Edit, resized
from cascade.errors import InvalidRequest, VersionMismatch
from cascade.events import FellBack
from cascade.request import GenerateRequest
from cascade.types import ImageU8
from runtime_client.client import Client
from runtime_client.deadline import Deadline
from runtime_client.placement import THERE
from runtime_client.remote.call_start import new_field
from runtime_client.remote.remote_run import check_knows_edits
from runtime_client.request_checks import check_request
from tests.congruence.children import LocalAnswers
from tests.support.pixel_bundle import write_pixel_bundle
from tests.support.tiny_bundle import write_tiny_bundle
from tests.support.wordless_bundle import write_wordless_bundle

PLAIN = GenerateRequest(prompt="a red cat", seed=3)


def drawn(width: int, height: int) -> ImageU8:
    """A picture of two slopes and an edge."""
    y, x = np.mgrid[0:height, 0:width]
    planes = (x * 250 // width, y * 250 // height, (x > y) * 200)
    return np.stack(planes, -1).astype(np.uint8)


def masked(width: int, height: int) -> np.ndarray:
    """A hole in the middle."""
    mask = np.zeros((height, width), np.uint8)
    mask[height // 4 : height // 2, width // 3 : 2 * width // 3] = 255
    return mask


OWN, HOLE = drawn(40, 32), masked(40, 32)
REQUESTS = {
    "image-to-image": replace(PLAIN, edit=Edit(picture=OWN, strength=0.7)),
    "nothing of it": replace(PLAIN, edit=Edit(picture=OWN, strength=0.0)),
    "inpainting": replace(PLAIN, edit=Edit(picture=OWN, mask=HOLE, resample=2)),
    "a wide one": replace(PLAIN, size=(32, 16), edit=Edit(picture=OWN, mask=HOLE, strength=0.7)),
}


def made_at(bundle: Bundle, server: str, request: GenerateRequest, cut: int) -> dict[str, ImageU8]:
    """Every stage's picture at one cut."""
    where = {} if cut == 4 else {"server": server}
    with Client(bundle, cut=cut, threads=1, **where) as client:
        return dict(client.run(request).images)


@pytest.mark.parametrize("name", REQUESTS)
def test_every_cut_makes_the_same_pixels(bundle: Bundle, unix_server: str, name: str) -> None:
    """Begun from the picture, with a part of it kept, taken again, and wider than high."""
    found = [made_at(bundle, unix_server, REQUESTS[name], cut) for cut in (4, 0, 1, 2, 3)]
    for other in found[1:]:
        assert other.keys() <= found[0].keys()
        for stage, image in other.items():
            np.testing.assert_array_equal(image, found[0][stage])
        np.testing.assert_array_equal(other["sr32"], found[0]["sr32"])


def test_a_placement_that_is_no_cut_makes_the_same_pixels(bundle: Bundle, unix_server: str) -> None:
    """The stage in the middle alone on a server: it gets the picture at its own size."""
    expected = made_at(bundle, unix_server, REQUESTS["inpainting"], 4)["sr32"]
    placed = {"sr16": "there", "*": "here"}
    with Client(bundle, server=unix_server, placement=placed, threads=1) as client:
        np.testing.assert_array_equal(client.run(REQUESTS["inpainting"]).image, expected)


def test_the_ends_of_strength_are_the_picture_and_plain_generation(
    bundle: Bundle, answers: LocalAnswers
) -> None:
    """To the byte: 0 takes no step, 1 begins from noise alone; between them lies something else."""
    plain = answers.images(PLAIN)
    ends = [replace(PLAIN, edit=Edit(picture=OWN, strength=s)) for s in (0.0, 1.0, 0.4)]
    checked = [check_request(bundle.manifest, request).request for request in ends]
    assert [request.plans["base"].evaluations for request in checked] == [0, 3, 1]
    with Client(bundle, cut=4, threads=1) as client:
        none, all_of_it, some = (client.run(request).images for request in ends)
    # The middle of 40x32 is 32x32.
    np.testing.assert_array_equal(none["base"], resized(OWN[:, 4:36], (8, 8)))
    for stage, image in plain.items():
        np.testing.assert_array_equal(all_of_it[stage], image)
    assert (some["base"] != none["base"]).any()
    assert (some["base"] != plain["base"]).any()


def test_what_is_kept_is_kept_to_the_byte_at_every_size(bundle: Bundle) -> None:
    """As far as the own picture has pixels: of 32x32 at all stages, of 20x20 at two of them."""
    square, hole = OWN[:, 4:36], HOLE[:, 4:36]
    with Client(bundle, cut=4, threads=1) as client:
        full = client.run(replace(PLAIN, edit=Edit(picture=square, mask=hole))).images
        small = client.generate(
            "a red cat", seed=3, edit=Edit(picture=square[:20, :20], mask=hole[:20, :20])
        ).images
        other = client.run(replace(PLAIN, seed=4, edit=Edit(picture=square, mask=hole))).images
    kept = hole == 0
    np.testing.assert_array_equal(full["sr32"][kept], square[kept])
    half = resized(square, (16, 16))
    kept16 = ~hole.reshape(16, 2, 16, 2).any(axis=(1, 3))
    np.testing.assert_array_equal(full["sr16"][kept16], half[kept16])
    kept8 = ~hole.reshape(8, 4, 8, 4).any(axis=(1, 3))
    np.testing.assert_array_equal(full["base"][kept8], resized(half, (8, 8))[kept8])
    assert (full["sr32"][~kept] != other["sr32"][~kept]).any()
    assert (full["base"][~kept8] != resized(half, (8, 8))[~kept8]).any()
    assert (small["sr16"] == resized(square[:20, :20], (16, 16))).all(axis=2).mean() > 0.5
    assert (small["sr32"] == full["sr32"]).all(axis=2).mean() < 0.5


def test_a_cascade_without_words_is_edited_by_another_sampler(tmp_path: Path) -> None:
    """DDIM from noise alone, 6 wide and 4 high: the middle of a picture of that shape."""
    edit = Edit(picture=drawn(24, 12), mask=masked(24, 12), strength=0.7)
    with Client(write_wordless_bundle(tmp_path / "b"), cut=2, threads=1) as client:
        images = client.run(GenerateRequest(edit=edit)).images
        wide = client.run(GenerateRequest(size=(8, 6))).images
    assert images["base"].shape == (4, 6, 3)
    middle = resized(drawn(24, 12)[:, 3:21], (12, 8))
    same = (images["sr"] == middle).all(axis=2)
    assert 0.5 < same.mean() < 1
    assert (wide["base"].shape, wide["sr"].shape) == ((3, 4, 3), (6, 8, 3))


def test_what_no_stage_can_make_is_refused(bundle: Bundle, tmp_path: Path) -> None:
    """By name of field and stage, before any work."""
    wrong = {
        "size: sr32 makes multiples of 4 pixels": (30, 32),
        "base would sample 16x16, more pixels than the 8x8": (64, 64),
    }
    with Client(bundle, cut=4) as client:
        for words, size in wrong.items():
            with pytest.raises(InvalidRequest, match=words):
                client.run(replace(PLAIN, size=size))
    with pytest.raises(InvalidRequest, match="size: expected 1 to 32768"):
        replace(PLAIN, size=(0, 8))
    beside = {"picture": OWN, "own_picture": True, "prompt": "a cat"}
    for name, value in (("edit", Edit(picture=OWN)), ("size", (32, 32))):
        with pytest.raises(InvalidRequest, match=f"{name}: it is for pictures from noise"):
            GenerateRequest(**beside, **{name: value})  # type: ignore[arg-type]
    pixels = write_pixel_bundle(tmp_path / "pixels")
    with Client(pixels, cut=len(pixels.manifest.components)) as client:
        with pytest.raises(InvalidRequest, match="draws pixels by groups"):
            client.generate("a", edit=Edit(picture=OWN))
        last = pixels.manifest.components[-1].makes
        with pytest.raises(InvalidRequest, match="makes pixels in the order of one size"):
            client.run(GenerateRequest(prompt="a", size=(last.width, last.height * 2)))  # type: ignore[union-attr]


def test_a_graph_of_fixed_sides_is_named(tmp_path: Path) -> None:
    """The stage whose graph it is, and its size; the declared size is no other."""
    fixed = write_tiny_bundle(tmp_path / "b").folder / "manifest.json"
    manifest = json.loads(fixed.read_text())
    (graph,) = manifest["components"][1]["graphs"].values()
    for tensor in (*graph["inputs"], *graph["outputs"]):
        tensor["shape"] = [{"height": 8, "width": 8}.get(axis, axis) for axis in tensor["shape"]]
    fixed.write_text(json.dumps(manifest))
    with Client(fixed.parent, cut=4, threads=1) as client:
        with pytest.raises(InvalidRequest, match=r"size: base would make 8x4, .*8x8 alone"):
            client.run(replace(PLAIN, size=(32, 16)))
        assert client.run(replace(PLAIN, size=(32, 32))).image.shape == (32, 32, 3)


def test_a_lost_server_s_edit_is_made_here(bundle: Bundle, tmp_path: Path) -> None:
    """With the same pixels; the picture never left this machine's memory."""
    request = REQUESTS["inpainting"]
    expected = made_at(bundle, "", request, 4)["sr32"]
    config = {"server": f"unix:{tmp_path}/none", "fallback": "local", "threads": 1}
    with Client(bundle, cut=0, **config) as client:
        events = list(client.events(request))
    assert any(isinstance(event, FellBack) for event in events)
    np.testing.assert_array_equal(events[-1].handoff.image, expected)  # type: ignore[union-attr]


def test_a_wide_one_is_left_to_a_server_and_fetched(bundle: Bundle, unix_server: str) -> None:
    """By an id alone its size is not known here: another shape of no more pixels is taken."""
    expected = made_at(bundle, "", REQUESTS["a wide one"], 4)
    with Client(bundle, server=unix_server, cut=1, threads=1) as client:
        fetched = client.fetch(client.submit(REQUESTS["a wide one"])).images
    assert fetched.keys() == expected.keys()
    for stage, image in fetched.items():
        np.testing.assert_array_equal(image, expected[stage])


def test_an_older_server_is_told_apart(bundle: Bundle, unix_server: str) -> None:
    """It would ignore the fields and send another picture: a typed error names the field."""
    components = bundle.manifest.components
    asked = [
        new_field(components[first:], check_request(bundle.manifest, request).request)
        for first, request in (
            (0, REQUESTS["inpainting"]),
            (3, REQUESTS["inpainting"]),
            (3, REQUESTS["image-to-image"]),
            (1, replace(PLAIN, size=(32, 16))),
            (2, replace(PLAIN, size=(32, 16))),
            (0, PLAIN),
        )
    ]
    assert asked == ["edit", "edit", "", "size", "", ""]
    with Client(bundle, server=unix_server) as client:
        connection = client._resources.connection(THERE)
        peer = connection.link.peer(Deadline.after(60.0))
    check_knows_edits(peer, "edit")
    old = replace(peer, info=replace(peer.info, limits=replace(peer.info.limits, max_resample=0)))
    check_knows_edits(old, "")
    with pytest.raises(VersionMismatch, match=r"edit: the server .* would ignore it"):
        check_knows_edits(old, "edit")


def test_the_command_line_asks_as_python_does(
    bundle: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """`--edit`, `--mask`, `--strength`, `--resample`, `--size`; and what goes with nothing."""
    own, hole, out = (tmp_path / f"{name}.png" for name in ("own", "hole", "out"))
    Image.fromarray(OWN).save(own)
    Image.fromarray(HOLE).save(hole)
    see_through = np.dstack([OWN, HOLE])
    Image.fromarray(see_through).save(tmp_path / "see.png")
    base = ["generate", "a red cat", "--seed", "3", "-o", str(out), "--bundle", str(bundle.folder)]
    base += ["--cut", "4", "--threads", "1", "-q"]

    def made(*flags: str) -> np.ndarray:
        assert main([*base, *flags]) == 0
        with Image.open(out) as picture:
            return np.asarray(picture)

    with Client(bundle, cut=4, threads=1) as client:
        for name, flags in (
            ("image-to-image", ["--edit", str(own), "--strength", "0.7"]),
            ("inpainting", ["--edit", str(own), "--mask", str(hole), "--resample", "2"]),
            ("a wide one", ["--edit", str(own), "--mask", str(hole), "--strength", "0.7",
                            "--size", "32x16"]),
        ):  # fmt: skip
            np.testing.assert_array_equal(made(*flags), client.run(REQUESTS[name]).image)
    assert main(["generate", "--from", str(out), *base[4:-1]]) == 2
    assert "ask with --edit" in capsys.readouterr().err
    wide = made("--size", "32x16")
    assert main(["generate", "--from", str(out), "-o", str(tmp_path / "again.png"), *base[6:]]) == 0
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "again.png")), wide)
    for words, flags in (
        ("mask: it goes with --edit", ["--mask", str(hole)]),
        ("expected WxH", ["--size", "32"]),
        ("it is transparent", ["--edit", str(tmp_path / "see.png")]),
        ("edit.mask: expected 40x32", ["--edit", str(own), "--mask", str(out)]),
        ("edit.strength: expected 0 to 1", ["--edit", str(own), "--strength", "nan"]),
    ):
        assert main([*base, *flags]) == 2
        assert words in capsys.readouterr().err


def test_options_count_as_they_do_without_a_picture(bundle: Bundle) -> None:
    """Other steps, another seed, another guidance: other pictures."""
    edit = Edit(picture=OWN, strength=0.7)
    with Client(bundle, cut=4, threads=1) as client:
        one = client.run(replace(PLAIN, edit=edit)).image
        for other in (
            replace(PLAIN, edit=edit, options={"base": DiffusionOptions(steps=6)}),
            replace(PLAIN, edit=edit, options={"base": DiffusionOptions(guidance=1.0)}),
            replace(PLAIN, edit=edit, seed=4),
        ):
            assert (client.run(other).image != one).any()
