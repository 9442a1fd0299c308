"""What an effect of a flag is tried with: a folder, tiny bundles, a server, the command itself."""

import contextlib
import io
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from cascade.bundle.bundle import Bundle
from cascade.bundle.signature import make_key
from cascade.commands.cli import main
from runtime_server.auth.static_keys import hash_token
from tests.support.certificates import Authority, Pair
from tests.support.serving import RunningServer, running
from tests.support.tiny_bundle import write_tiny_bundle

PROMPT = "a red apple, noto style"
TOKEN = "x" * 40


@dataclass(frozen=True, slots=True)
class Done:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """What it printed, as JSON."""
        return json.loads(self.out)


@dataclass(slots=True, eq=False)
class Trial:
    """One test's surroundings; what costs time is made when it is asked for."""

    folder: Path
    stack: contextlib.ExitStack
    made: dict[str, Any] = field(default_factory=dict)

    def once(self, name: str, make: Callable[[], Any]) -> Any:
        """What was made under a name, made now if it was not."""
        if name not in self.made:
            self.made[name] = make()
        return self.made[name]

    @property
    def bundle(self) -> Bundle:
        """Stages with an 8-bit file."""
        return self.once("bundle", lambda: write_tiny_bundle(self.folder / "b", int8=True))  # type: ignore[no-any-return]

    @property
    def other(self) -> Bundle:
        """Another bundle."""
        return self.once("other", lambda: write_tiny_bundle(self.folder / "other", steps=2))  # type: ignore[no-any-return]

    @property
    def server(self) -> RunningServer:
        """A server of the bundle."""
        return self.once("server", lambda: self.stack.enter_context(running(self.bundle)))  # type: ignore[no-any-return]

    @property
    def key(self) -> Path:
        """A private key's file; the public one lies beside it."""

        def make() -> Path:
            path = self.folder / "key.pem"
            path.with_name("key.pem.pub").write_bytes(make_key(path))
            return path

        return self.once("key", make)  # type: ignore[no-any-return]

    @property
    def pair(self) -> tuple[Authority, Pair]:
        """An authority, and a certificate of its own for the server and for a client."""

        def make() -> tuple[Authority, Pair]:
            authority = Authority(self.folder / "tls", "authority")
            return authority, authority.issue("alice")

        return self.once("pair", make)  # type: ignore[no-any-return]

    @property
    def guarded(self) -> RunningServer:
        """A server that wants TLS, a client's certificate and a token."""

        def make() -> RunningServer:
            authority, pair = self.pair
            keys = self.folder / "keys.toml"
            keys.write_text(f'alice = "{hash_token(TOKEN)}"\n')
            return self.stack.enter_context(
                running(
                    self.bundle, tls_cert=pair.certificate, tls_key=pair.key,
                    tls_client_ca=authority.certificate, token_keys=keys,
                )
            )  # fmt: skip

        return self.once("guarded", make)  # type: ignore[no-any-return]

    @property
    def credentials(self) -> dict[str, list[str]]:
        """The flags by which that server is reached, each with its value."""
        authority, pair = self.pair
        return {
            "--server": ["--server", self.guarded.address],
            "--tls": ["--tls"],
            "--ca": ["--ca", str(authority.certificate)],
            "--client-cert": ["--client-cert", str(pair.certificate)],
            "--client-key": ["--client-key", str(pair.key)],
            "--token": ["--token", TOKEN],
        }

    def run(self, *arguments: object) -> Done:
        """A command in this process; what escapes it is a traceback that a user would see."""
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            try:
                code = main([str(a) for a in arguments])
            except SystemExit as exc:
                code = exc.code if isinstance(exc.code, int) else 2
        return Done(code, out.getvalue(), err.getvalue())

    def ok(self, *arguments: object) -> Done:
        """A command that must end well."""
        done = self.run(*arguments)
        assert done.code == 0, done.err
        return done

    def refused(self, *arguments: object) -> str:
        """A command that must be refused in one line; the line."""
        done = self.run(*arguments)
        assert done.code in (2, 3), done
        return done.err

    def picture(self, *arguments: object) -> np.ndarray:
        """The pixels of `generate` with everything here."""
        output = self.folder / "p.png"
        flags = ("--bundle", self.bundle.folder, "--threads", 1, *arguments)
        if "--cut" not in flags and "--server" not in flags:
            flags = (*flags, "--cut", 4)
        self.ok("generate", PROMPT, "-o", output, *flags)
        with Image.open(output) as image:
            return np.asarray(image)

    def left(self) -> str:
        """The id of a request left to the server."""
        return self.ok(
            "generate", PROMPT, "--detach", "--server", self.server.address, "--bundle",
            self.bundle.folder, "--threads", 1,
        ).out.strip()  # fmt: skip


@contextlib.contextmanager
def trial(folder: Path) -> Iterator[Trial]:
    """Surroundings in a folder."""
    with contextlib.ExitStack() as stack:
        yield Trial(folder, stack)
