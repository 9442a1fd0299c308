"""`cascade doctor`: each finding provoked for real, each remedy a command that a shell accepts."""

import base64
import json
import socket
import subprocess
from collections.abc import Iterator
from concurrent import futures
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import pytest

from cascade.bundle.bundle import Bundle
from cascade.bundle.signature import make_key
from cascade.commands.cli import main
from cascade.diagnosis.findings import TOPICS, Level
from runtime_client.cli.doctor_server import of_claims
from runtime_server.auth.static_keys import hash_token
from tests.support.certificates import Authority, Pair
from tests.support.command_line import cascade, lacking
from tests.support.serving import running
from tests.support.tiny_bundle import write_tiny_bundle
from wire.server_info import ServerInfo, decode_info, encode_info
from wire.service import GET_SERVER_INFO

TOKEN = "x" * 40
KEYS = {"topic", "name", "level", "text", "remedy", "transient", "facts"}
HEALTH = "/grpc.health.v1.Health/Check"


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """Stages with an 8-bit file."""
    return write_tiny_bundle(tmp_path_factory.mktemp("doctor") / "bundle", int8=True)


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """Who signs the certificates."""
    return Authority(tmp_path_factory.mktemp("authority"), "authority")


@pytest.fixture(scope="module")
def pair(authority: Authority) -> Pair:
    """A certificate for 127.0.0.1 and for a client."""
    return authority.issue("alice")


class Report:
    """What one run of the command found."""

    def __init__(self, code: int, out: str) -> None:
        self.code = code
        self.whole: dict[str, Any] = json.loads(out)
        self.findings: list[dict[str, Any]] = self.whole["findings"]
        assert self.whole["exit_code"] == code
        for finding in self.findings:
            check_finding(finding)

    def of(self, topic: str, name: str) -> dict[str, Any]:
        """One finding."""
        (found,) = [f for f in self.findings if (f["topic"], f["name"]) == (topic, name)]
        return found

    @property
    def server(self) -> dict[str, str]:
        """The levels of what was found of the server, by name."""
        return {f["name"]: f["level"] for f in self.findings if f["topic"] == "server"}


def check_finding(finding: dict[str, Any]) -> None:
    """What is true of every finding: known keys, and a remedy where one is needed."""
    assert finding.keys() == KEYS
    assert finding["topic"] in TOPICS
    assert (finding["remedy"] is None) is (finding["level"] == "ok"), finding
    if finding["remedy"] is not None:
        subprocess.run(["sh", "-n", "-c", finding["remedy"]], check=True)
        assert (
            finding["remedy"].startswith(("cascade ", "# "))
            or finding["topic"] != "server"
            or (finding["remedy"].split()[0] in ("openssl", "timedatectl", "ls"))
        )


def doctor(capsys: pytest.CaptureFixture[str], *arguments: object) -> Report:
    """The command in this process."""
    capsys.readouterr()
    code = main(["doctor", *map(str, arguments), "--json"])
    return Report(code, capsys.readouterr().out)


def test_a_machine_on_which_all_is_well(bundle: Bundle, capsys: pytest.CaptureFixture[str]) -> None:
    """Every topic has a finding, and nothing is an error."""
    report = doctor(capsys, bundle.folder)
    assert report.code == 0
    assert report.whole["errors"] == 0
    topics = list(dict.fromkeys(finding["topic"] for finding in report.findings))
    assert topics == [topic for topic in TOPICS if topic != "server"]
    assert {c.name for c in bundle.manifest.components} <= {f["name"] for f in report.findings}


def test_the_report_for_people(bundle: Bundle, capsys: pytest.CaptureFixture[str]) -> None:
    """The same findings in at most 100 columns, without colours where no terminal is."""
    assert main(["doctor", str(bundle.folder)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 100
    assert [line for line in lines if line in TOPICS] == list(TOPICS[:-1])
    assert "\x1b" not in "".join(lines)
    assert lines[-1].startswith("0 errors, ")


def test_no_bundle_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A folder that is none, and a variable that names none: an error of this machine."""
    report = doctor(capsys, tmp_path / "nowhere")
    assert (report.code, report.of("bundle", "manifest")["level"]) == (2, "error")
    monkeypatch.setenv("CASCADE_BUNDLE", str(tmp_path / "nowhere"))
    report = doctor(capsys)
    assert (report.code, report.of("bundle", "folder")["level"]) == (2, "error")


def test_a_signature_is_required(
    bundle: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """--require-signature makes a bundle without one an error."""
    public = tmp_path / "key.pem.pub"
    public.write_bytes(make_key(tmp_path / "key.pem"))
    report = doctor(capsys, bundle.folder, "--require-signature", public)
    assert report.code == 2
    assert "is not signed" in report.of("bundle", "manifest")["text"]


def test_an_environment_without_an_engine(bundle: Bundle) -> None:
    """An error with the command that installs one; nothing is imported that is not there."""
    program = lacking("onnxruntime", "openvino", "pycuda")
    done = cascade("doctor", str(bundle.folder), "--json", program=program)
    report = Report(done.returncode, done.stdout)
    assert report.code == 2
    finding = report.of("engines", "engines")
    assert finding["remedy"].endswith("-m pip install 'edge-cascade[cpu]'")
    assert done.stderr == ""


def test_a_server_that_fits(bundle: Bundle, capsys: pytest.CaptureFixture[str]) -> None:
    """Everything that a request needs is there; only its engines were guessed."""
    with running(bundle, metrics_listen=None) as server:
        report = doctor(capsys, bundle.folder, "--server", server.address)
    assert report.code == 0
    assert report.server.pop("tuned") == "warning"
    others = {name: level for name, level in report.server.items() if name != "tuned"}
    names = ("connection", "tls", "token", "answer", "ready", "wire", "bundle", "components")
    assert others == dict.fromkeys(names, "ok")
    assert report.of("server", "components")["facts"]["least_cut"] == 0


def test_a_server_with_another_bundle(
    bundle: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Both ids are said; it is no fault of this machine, so the exit code is the transient one."""
    other = write_tiny_bundle(tmp_path / "other", steps=2)
    with running(other) as server:
        report = doctor(capsys, bundle.folder, "--server", server.address)
    finding = report.of("server", "bundle")
    assert (report.code, finding["level"], finding["transient"]) == (3, "error", True)
    assert other.bundle_id[:12] in finding["text"]
    assert bundle.bundle_id[:12] in finding["text"]


def test_a_server_that_hosts_less(bundle: Bundle, capsys: pytest.CaptureFixture[str]) -> None:
    """Behind a later cut than the default one the flag is said."""
    with running(bundle, cut=3) as server:
        report = doctor(capsys, bundle.folder, "--server", server.address)
    finding = report.of("server", "cut")
    assert (report.code, finding["level"]) == (0, "warning")
    assert "--cut 3" in finding["remedy"]


def free_address() -> str:
    """Where nothing listens."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return f"127.0.0.1:{listener.getsockname()[1]}"


def test_no_server_there(
    bundle: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A closed port, a name that does not exist, a socket that is not there."""
    for address in (free_address(), "name.invalid:1", f"unix:{tmp_path}/none.sock"):
        report = doctor(capsys, bundle.folder, "--server", address)
        assert report.code == 3
        assert report.server == {"connection": "error"}


def test_a_server_that_says_nothing(bundle: Bundle, capsys: pytest.CaptureFixture[str]) -> None:
    """It accepts connections and is silent: given up after --timeout."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = f"127.0.0.1:{listener.getsockname()[1]}"
        report = doctor(capsys, bundle.folder, "--server", address, "--timeout", 0.5)
    assert (report.code, report.server["answer"]) == (3, "error")


def test_the_steps_of_tls(
    bundle: Bundle, authority: Authority, pair: Pair, tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """From no TLS to all that a guarded server asks for; each remedy names the next flag."""
    keys = tmp_path / "keys.toml"
    keys.write_text(f'alice = "{hash_token(TOKEN)}"\n')
    token = tmp_path / "token.txt"
    token.write_text(TOKEN)
    settings: dict[str, Any] = {
        "tls_cert": pair.certificate, "tls_key": pair.key,
        "tls_client_ca": authority.certificate, "token_keys": keys,
    }  # fmt: skip
    wrong = Authority(tmp_path / "wrong", "wrong").certificate
    with running(bundle, **settings) as server:
        flags: list[object] = [bundle.folder, "--server", server.address]
        report = doctor(capsys, *flags)
        assert (report.code, "--tls" in report.of("server", "answer")["remedy"]) == (3, True)
        report = doctor(capsys, *flags, "--tls")
        assert report.of("server", "tls")["facts"]["trouble"] == "untrusted"
        assert report.of("server", "tls")["remedy"].endswith("--tls --ca AUTHORITY.pem")
        report = doctor(capsys, *flags, "--tls", "--ca", wrong)
        assert report.of("server", "tls")["facts"]["trouble"] == "untrusted"
        flags += ["--tls", "--ca", authority.certificate]
        report = doctor(capsys, *flags)
        assert report.of("server", "tls")["facts"]["trouble"] == "client_certificate"
        flags += ["--client-cert", pair.certificate, "--client-key", pair.key]
        report = doctor(capsys, *flags)
        assert report.of("server", "answer")["facts"]["reason"] == "UNAUTHENTICATED"
        assert report.of("server", "answer")["remedy"].endswith("--token-file TOKEN.txt")
        report = doctor(capsys, *flags, "--token", "y" * 40)
        assert (report.code, report.server["answer"]) == (3, "error")
        report = doctor(capsys, *flags, "--token-file", token)
        assert (report.code, report.server["bundle"]) == (0, "ok")
        assert report.of("server", "tls")["facts"]["version"] == "TLSv1.3"


def test_tls_for_another_name(
    bundle: Bundle, authority: Authority, pair: Pair, capsys: pytest.CaptureFixture[str]
) -> None:
    """A certificate for 127.0.0.1 does not do for localhost; and plaintext is no TLS."""
    tls = ("--tls", "--ca", authority.certificate)
    with running(bundle, tls_cert=pair.certificate, tls_key=pair.key) as server:
        address = server.address.replace("127.0.0.1", "localhost")
        report = doctor(capsys, bundle.folder, "--server", address, *tls)
    assert report.of("server", "tls")["facts"]["trouble"] == "wrong_name"
    with running(bundle) as server:
        report = doctor(capsys, bundle.folder, "--server", server.address, *tls)
    assert report.of("server", "tls")["facts"]["trouble"] == "plaintext"
    assert "--tls" not in report.of("server", "tls")["remedy"]


def jwt(**claims: float) -> str:
    """A token that nobody signed."""
    parts = (json.dumps({"alg": "none"}), json.dumps(claims), "{}")
    return ".".join(base64.urlsafe_b64encode(p.encode()).decode().rstrip("=") for p in parts)


@pytest.mark.parametrize(
    ("claims", "level", "words"),
    [
        ({"exp": 900.0}, Level.ERROR, "it expired 100 s ago by the clock of this machine"),
        ({"exp": 9000.0, "nbf": 1500.0}, Level.ERROR, "it is valid in 500 s only"),
        ({"exp": 9000.0, "iat": 1500.0}, Level.ERROR, "it is valid in 500 s only"),
        ({"exp": 4600.0, "iat": 1005.0}, Level.OK, "valid for 3600 s more by the clock"),
        ({"sub": "alice"}, Level.OK, "a JSON Web Token, valid by the clock of this machine"),
    ],
)
def test_the_times_of_a_token(claims: dict[str, Any], level: Level, words: str) -> None:
    """At 1000 s since 1970; some seconds between two clocks are nothing."""
    finding = of_claims(claims, 1000.0)
    assert (finding.level, words in finding.text) == (level, True), finding.text


def test_an_expired_token(bundle: Bundle, capsys: pytest.CaptureFixture[str]) -> None:
    """Its claims are read without its key, and it is never printed."""
    token = jwt(exp=1000.0)
    with running(bundle) as server:
        report = doctor(capsys, bundle.folder, "--server", server.address, "--token", token)
    finding = report.of("server", "token")
    assert (finding["level"], finding["facts"]["exp"]) == ("error", 1000.0)
    assert token not in json.dumps(report.whole)


def test_a_token_over_plaintext(bundle: Bundle) -> None:
    """Not sent to another machine unencrypted, unless that is asked for."""
    flags = ("doctor", str(bundle.folder), "--server", "192.0.2.1:1", "--token", TOKEN)
    refused = cascade(*flags)
    assert refused.returncode == 2
    assert "is not encrypted" in refused.stderr
    asked = cascade(*flags, "--token-over-plaintext", "--timeout", "0.2")
    assert asked.returncode == 3
    assert "192.0.2.1:1 cannot be reached" in asked.stdout


@contextmanager
def answering(info: ServerInfo, health: bytes) -> Iterator[str]:
    """A server that answers two calls and nothing else; its address."""

    class Handler(grpc.GenericRpcHandler):  # type: ignore[misc]
        def service(self, details: Any) -> Any:
            answers = {GET_SERVER_INFO: encode_info(info), HEALTH: health}
            reply = answers.get(details.method)
            return None if reply is None else grpc.unary_unary_rpc_method_handler(lambda *_: reply)

    server = grpc.server(futures.ThreadPoolExecutor(2), handlers=[Handler()])
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        server.stop(None).wait()


def test_a_server_of_another_version_that_drains(
    bundle: Bundle, capsys: pytest.CaptureFixture[str]
) -> None:
    """The older side is named; a server that is not ready is an error of now."""
    with running(bundle) as server:
        info = decode_info(encode_info(server.core.info()))
    with answering(replace(info, wire_version=2), b"\x08\x02") as address:
        report = doctor(capsys, bundle.folder, "--server", address)
    assert report.code == 3
    assert report.server["ready"] == "error"
    assert report.of("server", "wire")["remedy"].startswith("# update this client")
    with answering(replace(info, wire_version=0), b"\x08\x01") as address:
        report = doctor(capsys, bundle.folder, "--server", address)
    assert report.of("server", "wire")["remedy"].startswith("# update the server")


def test_flags_that_contradict_each_other(capsys: pytest.CaptureFixture[str]) -> None:
    """One line and the exit code of every command, as for `generate`."""
    assert main(["doctor", "--tls"]) == 2
    assert capsys.readouterr().err.startswith("error: tls: ")
