"""Addresses, TLS, health and reflection of a server in this process."""

import asyncio
import shutil
import socket
import subprocess
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import (
    ProtoReflectionDescriptorDatabase,
)

from cascade.bundle.bundle import Bundle
from cascade.errors import InvalidRequest, TransportError
from runtime_server.app.server import CascadeServer, clear_stale_socket
from runtime_server.config.config import ServerConfig
from runtime_server.core import load_core
from tests.support.serving import Caller, RunningServer, connect, running


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A self-signed certificate for 127.0.0.1, and its key."""
    if shutil.which("openssl") is None:
        pytest.skip("TLS is not tested here: the openssl command is missing")
    folder = tmp_path_factory.mktemp("tls")
    cert, key = folder / "cert.pem", folder / "key.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
         "-nodes", "-days", "2", "-subj", "/CN=cascade-test", "-addext",
         "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(cert)],
        check=True, capture_output=True,
    )  # fmt: skip
    return cert, key


def test_tls_serves_who_trusts_the_certificate(
    bundle: Bundle, certificate: tuple[Path, Path]
) -> None:
    """The right root works; plaintext and a caller with other roots do not."""
    cert, key = certificate
    with running(bundle, tls_cert=cert, tls_key=key) as server:
        trusted = grpc.ssl_channel_credentials(cert.read_bytes())
        with grpc.secure_channel(server.address, trusted) as channel:
            assert Caller(channel).server_info().bundle_id == bundle.bundle_id
        strangers = grpc.ssl_channel_credentials()
        with grpc.secure_channel(server.address, strangers) as channel:
            assert failure(Caller(channel)) == grpc.StatusCode.UNAVAILABLE
        with connect(server.address) as plain:
            assert failure(plain) == grpc.StatusCode.UNAVAILABLE


def failure(caller: Caller) -> Any:
    """The code that GetServerInfo fails with."""
    with pytest.raises(grpc.RpcError) as failed:
        caller.server_info(timeout_s=60)
    return failed.value.code()


def test_unreadable_tls_files_are_named(bundle: Bundle, tmp_path: Path) -> None:
    """Before anything listens."""
    missing = tmp_path / "no.pem"
    with pytest.raises(InvalidRequest, match=r"no\.pem"):
        start_and_stop(bundle, tls_cert=missing, tls_key=missing)


def test_tls_files_that_do_not_belong_together_are_refused(
    bundle: Bundle, certificate: tuple[Path, Path]
) -> None:
    """A key in the certificate's place cannot serve."""
    _, key = certificate
    with pytest.raises(InvalidRequest, match="belong together"):
        start_and_stop(bundle, tls_cert=key, tls_key=key)


def test_an_encrypted_key_is_refused_without_asking_for_its_password(
    bundle: Bundle, certificate: tuple[Path, Path], tmp_path: Path
) -> None:
    """Nobody sits at the server's terminal."""
    cert, key = certificate
    locked = tmp_path / "locked.pem"
    command = ["openssl", "pkcs8", "-topk8", "-in", str(key), "-passout", "pass:x", "-out"]
    subprocess.run([*command, str(locked)], check=True, capture_output=True)
    with pytest.raises(InvalidRequest, match="unencrypted"):
        start_and_stop(bundle, tls_cert=cert, tls_key=locked)


def start_and_stop(bundle: Bundle, **settings: Any) -> None:
    """Load, listen, and close again."""
    config = ServerConfig(bundle=bundle.folder, **{"listen": "127.0.0.1:0", **settings})
    core = load_core(config)

    async def scenario() -> None:
        server = CascadeServer(config, core)
        await server.start()
        await server.stop(0)

    try:
        asyncio.run(scenario())
    finally:
        core.close()


def test_a_taken_port_is_refused(bundle: Bundle, server: RunningServer) -> None:
    """Two servers never share one port."""
    with pytest.raises(TransportError, match="cannot listen on"):
        start_and_stop(bundle, listen=server.address)


def test_a_stale_socket_is_replaced_and_a_live_one_is_not(tmp_path: Path) -> None:
    """Nor is any other file touched."""
    path = tmp_path / "s.sock"
    clear_stale_socket(path)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        with pytest.raises(TransportError, match="another server"):
            clear_stale_socket(path)
    clear_stale_socket(path)
    assert not path.exists()
    path.write_text("precious")
    with pytest.raises(TransportError, match="a file of that name"):
        clear_stale_socket(path)
    assert path.read_text() == "precious"


def test_health_turns_when_the_server_drains(bundle: Bundle) -> None:
    """SERVING for the whole and the service, NOT_SERVING after; others are unknown."""
    with running(bundle) as server, connect(server.address) as caller:
        stub = health_pb2_grpc.HealthStub(caller.channel)

        def states() -> list[int]:
            names = ("", "cascade.v1.CascadeService")
            return [
                stub.Check(health_pb2.HealthCheckRequest(service=name), timeout=60).status
                for name in names
            ]

        assert states() == [health_pb2.HealthCheckResponse.SERVING] * 2
        with pytest.raises(grpc.RpcError) as unknown:
            stub.Check(health_pb2.HealthCheckRequest(service="other"), timeout=60)
        assert unknown.value.code() == grpc.StatusCode.NOT_FOUND
        assert server.run(server.server.drain())
        assert states() == [health_pb2.HealthCheckResponse.NOT_SERVING] * 2


def test_reflection_is_there_only_when_asked_for(bundle: Bundle, server: RunningServer) -> None:
    """Off by default; on, it lists the services."""
    with running(bundle, reflection=True) as reflecting, connect(reflecting.address) as caller:
        services = ProtoReflectionDescriptorDatabase(caller.channel).get_services()
        assert {"cascade.v1.CascadeService", "grpc.health.v1.Health"} <= set(services)
    with connect(server.address) as caller, pytest.raises(grpc.RpcError) as absent:
        ProtoReflectionDescriptorDatabase(caller.channel).get_services()
    assert absent.value.code() == grpc.StatusCode.UNIMPLEMENTED
