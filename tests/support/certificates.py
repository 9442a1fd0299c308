"""Certificates for tests: an authority in memory, and what it signs as PEM files."""

import datetime
import ipaddress
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

DAY = datetime.timedelta(days=1)


@dataclass(frozen=True)
class Pair:
    """A certificate and its key as files."""

    certificate: Path
    key: Path

    def replace_by(self, other: "Pair") -> None:
        """Put another pair's content in these files, each as a whole."""
        for mine, theirs in ((self.key, other.key), (self.certificate, other.certificate)):
            staged = mine.with_suffix(".new")
            staged.write_bytes(theirs.read_bytes())
            staged.replace(mine)


class Authority:
    """One certificate authority; its own certificate lies in `certificate`."""

    def __init__(self, folder: Path, name: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._name = named(name)
        self._key = ec.generate_private_key(ec.SECP256R1())
        builder = certificate_builder(self._name, self._name, self._key.public_key(), 1)
        self._certificate = builder.add_extension(
            x509.BasicConstraints(ca=True, path_length=0), critical=True
        ).sign(self._key, hashes.SHA256())
        self.certificate = folder / f"{name}.pem"
        self.certificate.write_bytes(pem(self._certificate))

    def issue(
        self,
        name: str,
        *,
        hosts: tuple[str, ...] = ("127.0.0.1",),
        common_name: str | None = None,
        days_left: int = 1,
    ) -> Pair:
        """A certificate for hosts or, with none, for a common name alone.

        Args:
            name: of the files.
            hosts: alternative names: addresses, or names of hosts.
            common_name: in its subject; `name` when None, no subject when empty.
            days_left: until it expires; negative for one that has.
        """
        key = ec.generate_private_key(ec.SECP256R1())
        subject = named(name if common_name is None else common_name)
        builder = certificate_builder(subject, self._name, key.public_key(), days_left)
        if hosts:
            names = [alternative_name(host) for host in hosts]
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        certificate = builder.sign(self._key, hashes.SHA256())
        pair = Pair(self._folder / f"{name}.pem", self._folder / f"{name}.key")
        pair.certificate.write_bytes(pem(certificate))
        pair.key.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )
        return pair


def certificate_builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, days_left: int
) -> x509.CertificateBuilder:
    """What every certificate here has."""
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - 30 * DAY)
        .not_valid_after(now + days_left * DAY)
    )


def named(name: str) -> x509.Name:
    """A subject of one common name; none when it is empty."""
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)] if name else [])


def alternative_name(host: str) -> x509.GeneralName:
    """An address or a name of a host."""
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def pem(certificate: x509.Certificate) -> bytes:
    """A certificate as PEM."""
    return certificate.public_bytes(serialization.Encoding.PEM)
