"""The same law over TLS, and nothing at all without the right authority."""

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from cascade.bundle.bundle import Bundle
from cascade.errors import TransportError
from cascade.request import GenerateRequest
from runtime_client.client import Client
from tests.congruence.children import LocalAnswers, serving
from tests.support.reserved_port import reserved_address

REQUEST = GenerateRequest(prompt="a red apple", seed=2)

pytestmark = pytest.mark.skipif(
    shutil.which("openssl") is None, reason="openssl IS MISSING: TLS was not checked"
)


def make_certificate(folder: Path, name: str) -> tuple[Path, Path]:
    """A key and a certificate of its own authority for 127.0.0.1."""
    key, certificate = folder / f"{name}.key", folder / f"{name}.pem"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]
    command += ["-nodes", "-days", "2", "-subj", f"/CN={name}"]
    command += ["-addext", "subjectAltName=IP:127.0.0.1"]
    command += ["-keyout", str(key), "-out", str(certificate)]
    subprocess.run(command, check=True, capture_output=True)
    return key, certificate


def test_tls_makes_the_same_picture(bundle: Bundle, answers: LocalAnswers, tmp_path: Path) -> None:
    """With the server's authority; another one, or plaintext, is refused with a typed error."""
    key, certificate = make_certificate(tmp_path, "server")
    _, stranger = make_certificate(tmp_path, "stranger")
    options = ["--tls-cert", str(certificate), "--tls-key", str(key)]
    with reserved_address() as address, serving(bundle, address, options=options):
        with Client(bundle, server=address, tls=True, ca_file=certificate, threads=1) as client:
            result = client.run(REQUEST)
        np.testing.assert_array_equal(result.image, answers.images(REQUEST)["sr32"])
        for client in (
            Client(bundle, server=address, tls=True, ca_file=stranger, threads=1),
            Client(bundle, server=address, threads=1),
        ):
            with client, pytest.raises(TransportError):
                client.run(REQUEST)
