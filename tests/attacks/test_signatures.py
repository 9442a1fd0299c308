"""Signed bundles: only the owner of the key can have made what is loaded, on both halves."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from cascade.bundle.bundle import Bundle, open_bundle
from cascade.commands.cli import main
from cascade.errors import CascadeError, InvalidRequest, ManifestError, MissingExtra
from runtime_client.client import Client
from runtime_server import ServerConfig
from runtime_server.core import load_core
from tests.support.certificates import Authority
from tests.support.serving import ask, child_server
from tests.support.tiny_bundle import write_tiny_bundle


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Private keys of two people; the public ones lie beside them."""
    folder = tmp_path_factory.mktemp("keys")
    found = {name: folder / name for name in ("ours", "theirs")}
    for path in found.values():
        assert main(["sign", "--make-key", str(path)]) == 0
        assert path.stat().st_mode & 0o777 == 0o600
    return found


def public(key: Path) -> Path:
    """The public key that belongs to a private one."""
    return key.with_name(key.name + ".pub")


@pytest.fixture
def signed(keys: dict[str, Path], tmp_path: Path) -> Bundle:
    """A bundle with our signature."""
    bundle = write_tiny_bundle(tmp_path / "bundle")
    assert main(["sign", str(bundle.folder), "--key", str(keys["ours"])]) == 0
    return bundle


def test_a_signed_bundle_opens_with_and_without_the_key(
    signed: Bundle, keys: dict[str, Path]
) -> None:
    """It stays the same bundle, and the signature is no file too many."""
    for key in (None, public(keys["ours"])):
        opened = open_bundle(signed.folder, key)
        opened.verify_files()
        assert opened.bundle_id == signed.bundle_id
    assert main(["sign", str(signed.folder), "--key", str(keys["ours"])]) == 0
    assert sorted(path.name for path in signed.folder.parent.iterdir()) == ["bundle"]


def unsigned(folder: Path, keys: dict[str, Path]) -> None:
    """No signature at all."""
    (folder / "manifest.sig").unlink()


def by_somebody_else(folder: Path, keys: dict[str, Path]) -> None:
    """A good signature of another key."""
    assert main(["sign", str(folder), "--key", str(keys["theirs"])]) == 0


def altered_manifest(folder: Path, keys: dict[str, Path]) -> None:
    """Another value in the manifest."""
    path = folder / "manifest.json"
    value = json.loads(path.read_text())
    value["licence"] = "none"
    path.write_text(json.dumps(value))


def reformatted_manifest(folder: Path, keys: dict[str, Path]) -> None:
    """The same values, one space more: the bytes are signed, not what they mean."""
    path = folder / "manifest.json"
    path.write_bytes(path.read_bytes() + b" ")


def manifest_that_is_none(folder: Path, keys: dict[str, Path]) -> None:
    """Bytes that the parser of manifests would refuse: they never reach it."""
    (folder / "manifest.json").write_bytes(b"{")


def truncated(folder: Path, keys: dict[str, Path]) -> None:
    """One byte short."""
    path = folder / "manifest.sig"
    path.write_bytes(path.read_bytes()[:-1])


def lengthened(folder: Path, keys: dict[str, Path]) -> None:
    """One byte too many."""
    path = folder / "manifest.sig"
    path.write_bytes(path.read_bytes() + b"\0")


def empty(folder: Path, keys: dict[str, Path]) -> None:
    """A file without a byte."""
    (folder / "manifest.sig").write_bytes(b"")


def garbage(folder: Path, keys: dict[str, Path]) -> None:
    """As long as a signature, and none."""
    (folder / "manifest.sig").write_bytes(bytes(range(64)))


def huge(folder: Path, keys: dict[str, Path]) -> None:
    """A megabyte where 64 bytes belong."""
    (folder / "manifest.sig").write_bytes(bytes(1 << 20))


def of_another_bundle(folder: Path, keys: dict[str, Path]) -> None:
    """Our own signature, of something else."""
    other = write_tiny_bundle(folder.parent / "other", steps=7)
    assert main(["sign", str(other.folder), "--key", str(keys["ours"])]) == 0
    shutil.copy(other.folder / "manifest.sig", folder / "manifest.sig")


def linked(folder: Path, keys: dict[str, Path]) -> None:
    """The right signature through a link."""
    path = folder / "manifest.sig"
    path.rename(folder.parent / "outside.sig")
    path.symlink_to(folder.parent / "outside.sig")


ATTACKS: list[tuple[Callable[[Path, dict[str, Path]], None], str]] = [
    (unsigned, "not signed"),
    (by_somebody_else, "signed by somebody else"),
    (altered_manifest, "altered"),
    (reformatted_manifest, "altered"),
    (manifest_that_is_none, "altered"),
    (truncated, "63 bytes"),
    (lengthened, "65 bytes"),
    (empty, "0 bytes"),
    (garbage, "altered"),
    (huge, "longer than"),
    (of_another_bundle, "altered"),
    (linked, "manifest.sig"),
]


@pytest.mark.parametrize(("attack", "says"), ATTACKS, ids=[a.__name__ for a, _ in ATTACKS])
def test_what_is_not_signed_by_the_key_is_not_loaded(
    attack: Callable[[Path, dict[str, Path]], None],
    says: str,
    signed: Bundle,
    keys: dict[str, Path],
    capsys: pytest.CaptureFixture[str],
) -> None:
    """By the vocabulary, the client, the server and `cascade verify` alike."""
    attack(signed.folder, keys)
    key = public(keys["ours"])
    config = ServerConfig(bundle=signed.folder, require_signature=key)
    for load in (
        lambda: open_bundle(signed.folder, key),
        lambda: Client(signed.folder, require_signature=key),
        lambda: load_core(config),
    ):
        with pytest.raises(ManifestError, match=says):
            load()
    capsys.readouterr()
    assert main(["verify", str(signed.folder), "--require-signature", str(key)]) == 2
    assert says in capsys.readouterr().err


def test_an_altered_file_of_a_signed_bundle_is_not_loaded(
    signed: Bundle, keys: dict[str, Path]
) -> None:
    """The signature covers the manifest, and the manifest every other byte."""
    path = signed.folder / "base.onnx"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(ManifestError, match="sha256"):
        load_core(ServerConfig(bundle=signed.folder, require_signature=public(keys["ours"])))
    assert main(["sign", str(signed.folder), "--key", str(keys["ours"])]) == 2


def test_an_opened_bundle_is_checked_again(signed: Bundle, keys: dict[str, Path]) -> None:
    """Whoever opened it without the key proved nothing."""
    with pytest.raises(ManifestError, match="somebody else"):
        Client(signed, require_signature=public(keys["theirs"]))


def test_the_true_path_with_a_signature(signed: Bundle, keys: dict[str, Path]) -> None:
    """`generate` and its private server both want the key, and both find it good."""
    out, key = signed.folder.parent / "out.png", str(public(keys["ours"]))
    command = ["generate", "a red apple", "-o", str(out), "--threads", "1", "--cut", "2"]
    command += ["--bundle", str(signed.folder)]
    assert main([*command, "--require-signature", key]) == 0
    assert out.stat().st_size
    assert main([*command, "--require-signature", str(public(keys["theirs"]))]) == 2
    assert main(["verify", str(signed.folder), "--require-signature", key]) == 0


def test_an_unsigned_bundle_cannot_be_brought_in_while_the_server_runs(
    signed: Bundle, keys: dict[str, Path], tmp_path: Path
) -> None:
    """Nor one of another key; a signed one can, by the same door."""
    unsigned_one = write_tiny_bundle(tmp_path / "unsigned", steps=2)
    file = tmp_path / "server.toml"

    def write(folder: Path) -> None:
        file.write_text(
            f'bundle = "{folder}"\nlisten = "127.0.0.1:0"\nmetrics_listen = "127.0.0.1:0"\n'
            f'require_signature = "{public(keys["ours"])}"\nthreads = 1\n'
        )

    write(signed.folder)
    with child_server(None, "--config", str(file)) as (child, line):
        url = json.loads(line())["address"]
        assert json.loads(line())["bundle_id"] == signed.bundle_id
        write(unsigned_one.folder)
        assert reloaded(url) == ("refused", signed.bundle_id)
        by_somebody_else(unsigned_one.folder, keys)
        assert reloaded(url) == ("refused", signed.bundle_id)
        assert main(["sign", str(unsigned_one.folder), "--key", str(keys["ours"])]) == 0
        assert reloaded(url) == ("reloaded", unsigned_one.bundle_id)
        child.terminate()
        assert child.wait(timeout=120) == 0


def reloaded(url: str) -> tuple[str, str]:
    """Outcome of a reload, and the bundle that is served after it."""
    _, body = ask(url, "/reload", "POST")
    answer = json.loads(body)
    return answer["outcome"], answer["bundle_id"]


@pytest.mark.parametrize("what", ["missing", "garbage", "private", "elliptic", "huge"])
def test_what_is_no_public_key_is_refused(
    what: str, signed: Bundle, keys: dict[str, Path], tmp_path: Path
) -> None:
    """By name of the setting, and nothing is loaded."""
    files = {
        "missing": tmp_path / "missing.pem",
        "garbage": tmp_path / "garbage.pem",
        "private": keys["ours"],
        "elliptic": tmp_path / "elliptic.pem",
        "huge": tmp_path / "huge.pem",
    }
    files["garbage"].write_text("no key")
    files["huge"].write_bytes(bytes(1 << 20))
    pair = Authority(tmp_path / "tls", "authority").issue("server")
    if shutil.which("openssl") is not None:
        command = ["openssl", "pkey", "-in", str(pair.key), "-pubout", "-out"]
        subprocess.run([*command, str(files["elliptic"])], check=True, capture_output=True)
    with pytest.raises(InvalidRequest):
        open_bundle(signed.folder, files[what])


@pytest.mark.parametrize("what", ["missing", "public", "elliptic"])
def test_what_is_no_private_key_signs_nothing(
    what: str, keys: dict[str, Path], tmp_path: Path
) -> None:
    """And no signature is left behind."""
    bundle = write_tiny_bundle(tmp_path / "bundle")
    pair = Authority(tmp_path / "tls", "authority").issue("server")
    key = {"missing": tmp_path / "no.pem", "public": public(keys["ours"]), "elliptic": pair.key}
    assert main(["sign", str(bundle.folder), "--key", str(key[what])]) == 2
    assert not (bundle.folder / "manifest.sig").exists()


def test_a_key_is_never_overwritten(keys: dict[str, Path]) -> None:
    """Somebody's signatures depend on it."""
    before = keys["ours"].read_bytes()
    assert main(["sign", "--make-key", str(keys["ours"])]) == 2
    assert keys["ours"].read_bytes() == before


def test_nothing_to_do_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    """`cascade sign` alone explains itself."""
    assert main(["sign"]) == 2
    assert "--make-key" in capsys.readouterr().err


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl IS MISSING")
def test_openssl_makes_and_checks_the_same(signed: Bundle, tmp_path: Path) -> None:
    """No tool of ours is needed to sign a bundle or to check one."""
    key, public_key = tmp_path / "key.pem", tmp_path / "key.pub.pem"
    manifest, signature = signed.folder / "manifest.json", signed.folder / "manifest.sig"
    for command in (
        ["genpkey", "-algorithm", "ed25519", "-out", key],
        ["pkey", "-in", key, "-pubout", "-out", public_key],
        ["pkeyutl", "-sign", "-rawin", "-inkey", key, "-in", manifest, "-out", signature],
    ):
        subprocess.run(["openssl", *map(str, command)], check=True, capture_output=True)
    assert open_bundle(signed.folder, public_key).bundle_id == signed.bundle_id
    assert main(["sign", str(signed.folder), "--key", str(key)]) == 0
    check = ["pkeyutl", "-verify", "-rawin", "-pubin", "-inkey", public_key, "-in", manifest]
    subprocess.run(
        ["openssl", *map(str, check), "-sigfile", str(signature)], check=True, capture_output=True
    )


def test_without_the_package_the_remedy_is_named(
    signed: Bundle, keys: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """And an unsigned run needs it not at all."""
    absent: ModuleType | None = None
    monkeypatch.setitem(sys.modules, "cryptography.exceptions", absent)
    monkeypatch.delitem(sys.modules, "cascade.bundle.signature", raising=False)
    assert open_bundle(signed.folder).bundle_id == signed.bundle_id
    with pytest.raises(MissingExtra, match=r"edge-cascade\[sign\]") as missing:
        open_bundle(signed.folder, public(keys["ours"]))
    assert isinstance(missing.value, CascadeError)
