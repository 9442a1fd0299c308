"""A bundle's files from a server that offers them: what a side needs, through breaks and gates."""

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import grpc
import pytest

from cascade.bundle.bundle import Bundle
from cascade.bundle.signature import make_key
from cascade.bundle.transfer import Fetched, fetch_bundle
from cascade.commands.cli import main
from cascade.errors import PermissionDenied
from cascade.graph_spec import FileEntry
from protos.cascade.v1 import cascade_pb2 as pb
from runtime_client.client import Client
from runtime_client.remote.bundle_source import ServerSource
from runtime_client.remote.transport import Security, Transport
from runtime_server.auth.static_keys import hash_token
from tests.support.breakable_wire import BreakableWire
from tests.support.certificates import Authority
from tests.support.serving import SERVICE, RunningServer, connect, details_of, running

TOKEN = "x" * 40


@pytest.fixture(scope="module")
def server(bundle: Bundle) -> Iterator[RunningServer]:
    """A server that offers its bundle, one download at a time."""
    with running(bundle, offer_bundle=True, max_bundle_downloads=1) as offering:
        yield offering


def names_in(folder: Path) -> list[str]:
    """What lies in a folder."""
    return [path.name for path in folder.iterdir()]


def pull(server: RunningServer, folder: Path, *flags: str) -> int:
    """`cascade bundle pull`; its exit code."""
    return main(["bundle", "pull", server.address, str(folder), *flags])


def test_a_client_takes_its_half_and_makes_the_picture(
    bundle: Bundle, server: RunningServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The bundle id is the same, and files of components that run elsewhere never come."""
    assert pull(server, tmp_path / "b", "--for", "client", "--cut", "2", "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert told["bundle_id"] == bundle.bundle_id
    assert set(names_in(tmp_path / "b")) == {"manifest.json", *bundle.files_of([0, 1])}
    sizes = {entry.name: entry.size_bytes for entry in bundle.manifest.files}
    assert told["copied_bytes"] == sum(sizes[name] for name in told["files"])
    with (
        Client(tmp_path / "b", server=server.address, threads=1) as client,
        Client(bundle, cut=4, threads=1) as whole,
    ):
        assert client.generate("a cat").image.tobytes() == whole.generate("a cat").image.tobytes()
    there = ("--for", "server", "--there", "text_encoder,sr32")
    assert pull(server, tmp_path / "s", *there) == 0
    assert set(names_in(tmp_path / "s")) == {"manifest.json", *bundle.files_of([0, 3])}


def test_a_client_that_runs_nothing_holds_the_manifest_alone(
    bundle: Bundle, server: RunningServer, tmp_path: Path
) -> None:
    """At cut 0, and its picture is that of a client with every file."""
    assert pull(server, tmp_path / "b", "--for", "client", "--cut", "0") == 0
    assert names_in(tmp_path / "b") == ["manifest.json"]
    pictures = []
    for folder in (tmp_path / "b", bundle):
        with Client(folder, cut=0, server=server.address, threads=1) as client:
            pictures.append(client.generate("a red apple", seed=3).image.tobytes())
    assert pictures[0] == pictures[1]


class CutWire:
    """A source whose connection breaks after the first piece."""

    def __init__(self, source: ServerSource, wire: BreakableWire) -> None:
        self._source, self._wire = source, wire
        self.manifest = source.manifest

    def pieces(self, bundle_id: str, entry: FileEntry, offset: int) -> Iterator[bytes]:
        """The server's own, with one break each."""
        for piece in self._source.pieces(bundle_id, entry, offset):
            self._wire.cut()
            yield piece


def test_a_broken_connection_goes_on_where_it_stopped(
    bundle: Bundle, server: RunningServer, tmp_path: Path
) -> None:
    """Inside one command, without a byte twice."""
    with BreakableWire(server.address) as wire:
        transport = Transport(wire.address, Security())
        source = CutWire(ServerSource(transport, 60.0, 30.0), wire)
        with contextlib.closing(transport):
            fetched: Fetched = fetch_bundle(source, tmp_path / "b", lambda _: None)
        assert wire.connections > 1
    fetched.bundle.verify_files()
    assert fetched.copied_bytes == sum(entry.size_bytes for entry in bundle.manifest.files)


def read_file(server: RunningServer, **fields: object) -> bytes:
    """The bytes that `ReadBundleFile` streams."""
    with connect(server.address) as caller:
        call = caller.channel.unary_stream(
            SERVICE + "ReadBundleFile", response_deserializer=pb.ReadBundleFileResponse.FromString
        )
        message = pb.ReadBundleFileRequest(**{"bundle_id": server.core.bundle_id, **fields})  # type: ignore[arg-type]
        return b"".join(m.data for m in call(message.SerializeToString(), timeout=60))


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"name": "../tiny/base.onnx"}, ("INVALID_ARGUMENT", "INVALID_REQUEST", "name")),
        ({"name": "/etc/passwd"}, ("INVALID_ARGUMENT", "INVALID_REQUEST", "name")),
        ({"name": "manifest.json"}, ("INVALID_ARGUMENT", "INVALID_REQUEST", "name")),
        ({"name": ""}, ("INVALID_ARGUMENT", "INVALID_REQUEST", "name")),
        (
            {"name": "base.onnx", "offset": 2**40},
            ("INVALID_ARGUMENT", "INVALID_REQUEST", "offset"),
        ),
        (
            {"name": "base.onnx", "bundle_id": "0" * 64},
            ("FAILED_PRECONDITION", "BUNDLE_MISMATCH", "bundle_id"),
        ),
    ],
)
def test_only_listed_files_are_read(
    server: RunningServer, fields: dict[str, object], expected: tuple[str, str, str]
) -> None:
    """No path leads out of the bundle, and no offset beyond a file."""
    with pytest.raises(grpc.RpcError) as refused:
        read_file(server, **fields)
    assert details_of(refused.value)[:3] == expected


def test_a_file_is_read_from_an_offset(bundle: Bundle, server: RunningServer) -> None:
    """To its end, which may be at once."""
    data = (bundle.folder / "base.onnx").read_bytes()
    for offset in (0, 100, len(data)):
        assert read_file(server, name="base.onnx", offset=offset) == data[offset:]


def test_more_downloads_than_are_allowed_are_told_when_to_come_back(
    server: RunningServer,
) -> None:
    """The limit is of all callers together."""
    offer = server.server.service._offer
    offer._open += 1
    try:
        with pytest.raises(grpc.RpcError) as refused:
            read_file(server, name="base.onnx")
    finally:
        offer._open -= 1
    code, reason, _, retry_s = details_of(refused.value)
    assert (code, reason) == ("RESOURCE_EXHAUSTED", "SERVER_BUSY")
    assert retry_s


def test_a_download_is_no_faster_than_it_is_set(bundle: Bundle) -> None:
    """Bytes are due at a rate; 0 is no limit."""
    from runtime_server.app.bundle_offer import BundleOffer

    config = SimpleNamespace(bundle_megabytes_per_s=2.0)
    assert BundleOffer(config)._due_s(4_000_000) == 2.0  # type: ignore[arg-type]
    config.bundle_megabytes_per_s = 0.0
    assert BundleOffer(config)._due_s(4_000_000) == 0.0  # type: ignore[arg-type]


def test_a_server_offers_nothing_unless_it_is_told_to(bundle: Bundle, tmp_path: Path) -> None:
    """Both calls are refused, and say which flag it takes."""
    with running(bundle) as closed:
        transport = Transport(closed.address, Security())
        source = ServerSource(transport, 60.0, 1.0)
        with contextlib.closing(transport):
            with pytest.raises(PermissionDenied, match="--offer-bundle"):
                source.manifest()
            with pytest.raises(PermissionDenied, match="--offer-bundle"):
                list(source.pieces(bundle.bundle_id, bundle.manifest.files[0], 0))
    assert not names_in(tmp_path)


def test_a_choice_that_is_none_is_refused(bundle: Bundle, tmp_path: Path) -> None:
    """Before anything is written."""
    for flags in (
        ("--cut", "2"),
        ("--for", "client"),
        ("--for", "client", "--cut", "2", "--components", "base"),
        ("--components", "sr64"),
        ("--for", "other:1", "--cut", "2"),
    ):
        assert main(["bundle", "copy", str(bundle.folder), str(tmp_path / "b"), *flags]) == 2
    assert not names_in(tmp_path)


def test_every_way_to_choose_takes_the_same_files(
    bundle: Bundle, server: RunningServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """By a cut, by lists, by a map or by names; into one destination each."""
    other = "far.example:1"
    ways = (
        ("--for", "server", "--cut", "3"),
        ("--for", "server", "--here", "text_encoder,base,sr16"),
        ("--for", other, "--there", f"sr32={other}"),
        ("--for", other, "--placement", f"sr32={other},*=here"),
        ("--components", "sr32"),
    )
    for number, flags in enumerate(ways):
        sources = (("copy", str(bundle.folder)), ("pull", server.address))
        for command, source in sources if number % 2 else sources[::-1]:
            folder = tmp_path / f"{command}{number}"
            assert main(["bundle", command, source, str(folder), *flags, "--json"]) == 0
            assert json.loads(capsys.readouterr().out)["files"] == bundle.files_of([3])
            assert set(names_in(folder)) == {"manifest.json", *bundle.files_of([3])}


def test_a_signature_is_required(
    bundle: Bundle, server: RunningServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of a bundle that has none, nothing is taken."""
    key = tmp_path / "key.pub"
    key.write_bytes(make_key(tmp_path / "key"))
    for command, source in (("copy", str(bundle.folder)), ("pull", server.address)):
        target = tmp_path / command
        assert main(["bundle", command, source, str(target), "--require-signature", str(key)]) == 2
        assert "signature" in capsys.readouterr().err
        assert not target.exists()


def test_the_gate_is_that_of_every_call(
    bundle: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """TLS, a client's certificate and a token, each of which is missed."""
    authority = Authority(tmp_path / "tls", "authority")
    pair, keys = authority.issue("alice"), tmp_path / "keys.toml"
    token = tmp_path / "token"
    token.write_text(TOKEN)
    keys.write_text(f'alice = "{hash_token(TOKEN)}"\n')
    flags = {
        "--tls": [],
        "--ca": [str(authority.certificate)],
        "--client-cert": [str(pair.certificate)],
        "--client-key": [str(pair.key)],
        "--token": [TOKEN],
    }
    with running(
        bundle, offer_bundle=True, tls_cert=pair.certificate, tls_key=pair.key,
        tls_client_ca=authority.certificate, token_keys=keys,
    ) as server:  # fmt: skip

        def tried(without: str = "", *more: str) -> int:
            given = [w for name, value in flags.items() if name != without for w in (name, *value)]
            return pull(server, tmp_path / "b", *given, *more, "--wait", "0")

        for name in flags:
            assert tried(name) in (2, 3), name
            assert not (tmp_path / "b").exists()
        assert tried("", "--timeout", "0.000001") == 3
        assert tried("--token", "--token-file", str(token)) == 0
        assert tried() == 0
    plain = ("bundle", "pull", "far.example:1", str(tmp_path / "c"), "--token", TOKEN)
    assert main([*plain, "--wait", "0"]) == 2
    assert "not encrypted" in capsys.readouterr().err
    assert main([*plain, "--wait", "0", "--token-over-plaintext", "--timeout", "1"]) == 3
