"""What each flag of `generate`, `fetch` and `cancel` does, shown by doing it.

An effect is tried against its absence: with the flag something else comes out than without it.
"""

from collections.abc import Callable, Mapping

import numpy as np
from PIL import Image

from tests.flags.trial import PROMPT, TOKEN, Trial

Effect = Callable[[Trial], None]
DEAD = "127.0.0.1:1"
"""Nobody listens there."""


def differs(*flags: object) -> Effect:
    """Another picture than without the flag."""

    def effect(t: Trial) -> None:
        assert not np.array_equal(t.picture(), t.picture(*flags))

    return effect


def account(t: Trial, *flags: object) -> dict[str, object]:
    """The JSON object of one run with everything here."""
    done = t.ok(
        "generate", PROMPT, "-o", t.folder / "p.png", "--json", "--bundle", t.bundle.folder, *flags
    )
    return done.json  # type: ignore[no-any-return]


def here(t: Trial, *flags: object) -> dict[str, object]:
    """The same with `--cut 4`."""
    return account(t, "--cut", 4, *flags)


def prompt(t: Trial) -> None:
    """Another prompt, another picture."""
    one = t.picture()
    output = t.folder / "p.png"
    t.ok("generate", "a green cat", "-o", output, "--cut", 4, "--bundle", t.bundle.folder)

    with Image.open(output) as image:
        assert not np.array_equal(one, np.asarray(image))


def output(t: Trial) -> None:
    """The picture lies where it was asked for, and nowhere else."""
    where = t.folder / "x" / "y.png"
    where.parent.mkdir()
    t.ok("generate", PROMPT, "-o", where, "--cut", 4, "--bundle", t.bundle.folder)
    assert [p.name for p in where.parent.iterdir()] == ["y.png"]


def cut(t: Trial) -> None:
    """What is before the cut goes up no wire."""
    server = ("--server", t.server.address)
    up = [account(t, "--cut", n, *server)["bytes_up"] for n in (0, 1, 3)]
    assert len(set(up)) == 3
    assert "server: with --cut 4" in t.refused(
        "generate",
        PROMPT,
        "-o",
        t.folder / "p.png",
        "--cut",
        4,
        "--bundle",
        t.bundle.folder,
        *server,
    )


def placed(*flags: str) -> Effect:
    """The component that is named runs on the server, the others here; not beside a cut."""

    def effect(t: Trial) -> None:
        said = [flag.replace("SERVER", t.server.address) for flag in flags]
        hops = account(t, *said)["hops"]
        assert [hop["side"] for hop in hops] == ["here", "server", "here"]  # type: ignore[attr-defined]
        command = ("generate", PROMPT, "-o", t.folder / "p.png", "--bundle", t.bundle.folder)
        assert "--cut says already" in t.refused(*command, "--cut", 1, *said)
        idle = t.refused(*command, *said, "--server", DEAD)
        assert "no component is placed on it" in idle

    return effect


def last_stage(t: Trial) -> None:
    """A picture of that stage's size."""
    assert here(t, "--last-stage", "sr16")["width"] == 16


def preview(t: Trial) -> None:
    """A picture of every step and stage."""
    here(t, "--preview", t.folder / "steps")
    assert {"base.png", "sr16.png"} <= {p.name for p in (t.folder / "steps").iterdir()}
    assert "preview: with --detach" in t.refused(
        "generate", PROMPT, "--detach", "--server", DEAD, "--preview", t.folder / "s",
        "--bundle", t.bundle.folder,
    )  # fmt: skip


def previews(t: Trial) -> None:
    """Pictures on the way: none of them, or at most so many of each stage, beside its result."""
    counts = []
    for number in (0, 2):
        folder = t.folder / f"previews {number}"
        here(t, "--preview", folder, "--previews", number)
        counts.append(len(list(folder.iterdir())))
    assert 0 < counts[0] < counts[1]


def fallback(t: Trial) -> None:
    """Without a server: an error, or the rest here."""
    flags = ("generate", PROMPT, "-o", t.folder / "p.png", "--server", DEAD, "--timeout", 30)
    assert t.run(*flags, "--bundle", t.bundle.folder).code == 3
    t.ok(*flags, "--bundle", t.bundle.folder, "--fallback", "local")
    assert "fallback: with --detach" in t.refused(
        "generate", PROMPT, "--detach", "--server", DEAD, "--fallback", "local",
        "--bundle", t.bundle.folder,
    )  # fmt: skip


def threads(t: Trial) -> None:
    """As many as the session is told."""
    from cascade.engines import ort

    told = []

    class Watched(ort.OrtEngine):
        def __init__(self, graph: bytes, *, threads: int = 0, **more: object) -> None:
            told.append(threads)
            super().__init__(graph, threads=threads, **more)  # type: ignore[arg-type]

    kept, ort.OrtEngine = ort.OrtEngine, Watched  # type: ignore[misc]
    try:
        here(t, "--engine", "ort", "--threads", 3)
    finally:
        ort.OrtEngine = kept  # type: ignore[misc]
    assert told
    assert set(told) == {3}


def engine(t: Trial) -> None:
    """What the account says of each component; one that is not there is refused."""
    computed = here(t, "--engine", "ort")["computed"]
    assert {c["engine"] for c in computed.values()} == {"ort"}  # type: ignore[attr-defined]
    t.refused("generate", PROMPT, "-o", t.folder / "p.png", "--engine", "no",
              "--bundle", t.bundle.folder)  # fmt: skip


def precision(t: Trial) -> None:
    """Of the stages that have such a file."""
    computed = here(t, "--precision", "int8")["computed"]
    assert computed["base"]["precision"] == "int8"  # type: ignore[index]


def as_json(t: Trial) -> None:
    """One object instead of the table."""
    assert here(t)["width"] == 32
    plain = t.ok("generate", PROMPT, "-o", t.folder / "p.png", "--cut", 4,
                 "--bundle", t.bundle.folder)  # fmt: skip
    assert "{" not in plain.out


def linger(t: Trial) -> None:
    """The server goes on so long for a caller who vanished; no private server does."""
    from runtime_client.cli.cli import config_of
    from tests.flags.walk import parsed

    assert config_of(parsed("generate", PROMPT, "--server", DEAD, "--linger", "7")).linger_s == 7
    assert "linger: the private server" in t.refused(
        "generate", PROMPT, "-o", t.folder / "p.png", "--linger", 1, "--bundle", t.bundle.folder
    )


def detach(t: Trial) -> None:
    """An id, no picture; the server has the request."""
    assert t.ok("cancel", t.left(), "--server", t.server.address, "--bundle", t.bundle.folder)


def call(t: Trial, command: str, *flags: object) -> tuple[object, ...]:
    """A command line of one of the three that reaches the server of `flags`."""
    if command == "generate":
        return ("generate", PROMPT, "-o", t.folder / "p.png", "--threads", 1, *flags)
    if command == "upscale":
        Image.new("RGB", (5, 4)).save(t.folder / "own.png")
        return ("upscale", t.folder / "own.png", "-o", t.folder / "big.png", *flags)
    if command == "fetch":
        return ("fetch", "r-1", "-o", t.folder / "p.png", *flags)
    return ("cancel", "r-1", *flags)


def quiet(command: str) -> Effect:
    """Neither bars nor a table; the picture all the same."""

    def effect(t: Trial) -> None:
        where = ("--server", t.server.address, "--bundle", t.bundle.folder)
        words = (command, t.left() if command == "fetch" else PROMPT, "-o", t.folder / "q.png")
        loud = t.ok(*words, *where)
        done = t.ok(*words, *where, "--quiet")
        assert loud.out
        assert (done.out, done.err) == ("", "")
        assert (t.folder / "q.png").exists()

    return effect


def again(t: Trial) -> None:
    """The same pixels, from the picture alone."""
    one = t.picture("--seed", 5)
    (t.folder / "p.png").rename(t.folder / "first.png")
    flags = ("--from", t.folder / "first.png", "-o", t.folder / "again.png", "--cut", 4)
    t.ok("generate", *flags, "--bundle", t.bundle.folder, "--threads", 1)
    with Image.open(t.folder / "again.png") as image:
        assert np.array_equal(one, np.asarray(image))


def cancel_json(t: Trial) -> None:
    """One object instead of the words."""
    where = ("--server", t.server.address, "--bundle", t.bundle.folder)
    assert t.ok("cancel", "nobody-s", "--json", *where).json["cancelled"] is False
    assert "{" not in t.ok("cancel", "nobody-s", *where).out


REACHED = {"generate": "", "upscale": "", "fetch": "request_id: r-1 is neither", "cancel": ""}
"""What standard error holds when the server was reached and let the caller in."""


def reaches(t: Trial, command: str, *flags: object) -> bool:
    """Whether the server answered as it answers a caller whom it knows."""
    done = t.run(*call(t, command, *flags, "--bundle", t.bundle.folder, "--timeout", 30))
    said = REACHED[command]
    return said in done.err if said else done.code == 0


def words_of(given: Mapping[str, list[str]]) -> list[str]:
    """All the words of flags by name."""
    return [word for words in given.values() for word in words]


def guarded(command: str, left_out: str) -> Effect:
    """The server that wants everything lets in who has everything, and nobody without this one."""

    def effect(t: Trial) -> None:
        given = t.credentials
        assert reaches(t, command, *words_of(given))
        less = [flag for name, words in given.items() for flag in words if name != left_out]
        assert not reaches(t, command, *less)

    return effect


def token_file(command: str) -> Effect:
    """The token from a file instead; both together are refused."""

    def effect(t: Trial) -> None:
        file = t.folder / "token"
        file.write_text(TOKEN)
        given = {**t.credentials, "--token": ["--token-file", str(file)]}
        assert reaches(t, command, *words_of(given))
        given["--tls"] += ["--token", TOKEN]
        assert not reaches(t, command, *words_of(given))

    return effect


def token_over_plaintext(command: str) -> Effect:
    """Without it nothing is sent to another machine; it needs a token."""

    def effect(t: Trial) -> None:
        far = ("--server", "no-such-host.invalid:1", "--timeout", 5, "--bundle", t.bundle.folder)
        assert "not encrypted" in t.run(*call(t, command, *far, "--token", TOKEN)).err
        sent = t.run(*call(t, command, *far, "--token", TOKEN, "--token-over-plaintext"))
        assert sent.code == 3
        assert "not encrypted" not in sent.err
        assert "there is no token" in t.run(*call(t, command, *far, "--token-over-plaintext")).err

    return effect


def bundle(command: str) -> Effect:
    """A server of another bundle is refused, or the very bundle is used."""

    def effect(t: Trial) -> None:
        server = ("--server", t.server.address)
        assert reaches(t, command, *server)
        done = t.run(*call(t, command, *server, "--bundle", t.folder / "none"))
        assert "none is not a folder" in done.err
        assert t.other.bundle_id != t.bundle.bundle_id

    return effect


def require_signature(command: str) -> Effect:
    """An unsigned bundle is not opened; a signed one is."""

    def effect(t: Trial) -> None:
        server = ("--server", t.server.address)
        key = ("--require-signature", f"{t.key}.pub")
        assert not reaches(t, command, *server, *key)
        t.ok("sign", t.bundle.folder, "--key", t.key)
        assert reaches(t, command, *server, *key)

    return effect


def server(command: str) -> Effect:
    """The named one is asked, and no other."""

    def effect(t: Trial) -> None:
        assert reaches(t, command, "--server", t.server.address)
        assert not reaches(t, command, "--server", DEAD)

    return effect


def timeout(command: str) -> Effect:
    """After so long the command ends with the server's exit code."""

    def effect(t: Trial) -> None:
        flags = ("--server", t.server.address, "--bundle", t.bundle.folder)
        assert "timeout" in t.run(*call(t, command, *flags, "--timeout", -1)).err
        if command in ("generate", "upscale"):
            assert t.run(*call(t, command, *flags, "--timeout", 1e-6)).code == 3

    return effect


def request_id(command: str) -> Effect:
    """The request of that id, and no other."""

    def effect(t: Trial) -> None:
        where = ("--server", t.server.address, "--bundle", t.bundle.folder)
        mine = t.left()
        more = ("-o", t.folder / "f.png") if command == "fetch" else ()
        t.ok(command, mine, *more, *where)
        other = t.run(command, "nobody-s", *more, *where)
        assert "nobody-s" in other.err or "knows nothing" in other.out

    return effect


def fetched(t: Trial, *flags: object) -> object:
    """What `fetch` printed."""
    where = ("--server", t.server.address, "--bundle", t.bundle.folder)
    return t.ok("fetch", t.left(), *flags, *where).out


def fetch_output(t: Trial) -> None:
    """The picture lies there."""
    fetched(t, "-o", t.folder / "f.png")
    assert (t.folder / "f.png").exists()


def fetch_preview(t: Trial) -> None:
    """Every stage's picture."""
    fetched(t, "-o", t.folder / "f.png", "--preview", t.folder / "s")
    assert (t.folder / "s" / "sr32.png").exists()


def fetch_json(t: Trial) -> None:
    """One object."""
    assert str(fetched(t, "-o", t.folder / "f.png", "--json")).startswith("{")


def upscale_cut(t: Trial) -> None:
    """Here where everything is, on the server where nothing is; never more than there are."""
    where = ("--bundle", t.bundle.folder, "--json")
    assert t.ok(*call(t, "upscale", *where)).json["cut"] == 4
    there = t.ok(*call(t, "upscale", *where, "--server", t.server.address, "--cut", 0)).json
    assert there["computed"]["sr32"]["side"] == "server"
    assert "cut" in t.refused(*call(t, "upscale", *where, "--cut", 9))


def upscale_takes(flag: str, good: object, bad: object) -> Effect:
    """One value does its work, another is refused."""

    def effect(t: Trial) -> None:
        where = ("--bundle", t.bundle.folder)
        t.ok(*call(t, "upscale", *where, flag, good))
        assert flag.strip("-") in t.refused(*call(t, "upscale", *where, flag, bad))

    return effect


def upscale_json(t: Trial) -> None:
    """One object, with the size."""
    said = t.ok(*call(t, "upscale", "--bundle", t.bundle.folder, "--json")).json
    assert (said["width"], said["height"]) == (10, 8)


def upscale_quiet(t: Trial) -> None:
    """Neither bars nor a table."""
    done = t.ok(*call(t, "upscale", "--bundle", t.bundle.folder, "--quiet"))
    assert (done.out, done.err) == ("", "")


def connection(command: str) -> dict[str, Effect]:
    """The flags that the three commands share."""
    return {
        f"{command} --bundle": bundle(command),
        f"{command} --require-signature": require_signature(command),
        f"{command} --server": server(command),
        f"{command} --tls": guarded(command, "--tls"),
        f"{command} --ca": guarded(command, "--ca"),
        f"{command} --client-cert": guarded(command, "--client-cert"),
        f"{command} --client-key": guarded(command, "--client-key"),
        f"{command} --token": guarded(command, "--token"),
        f"{command} --token-file": token_file(command),
        f"{command} --token-over-plaintext": token_over_plaintext(command),
        f"{command} --timeout": timeout(command),
    }


EFFECTS: Mapping[str, Effect] = {
    "generate prompt": prompt,
    "generate --output": output,
    "generate --cut": cut,
    "generate --here": placed("--here", "text_encoder,base,sr32", "--there", "sr16=SERVER"),
    "generate --there": placed("--there", "sr16=SERVER"),
    "generate --placement": placed("--placement", "sr16=SERVER,*=here"),
    "generate --seed": differs("--seed", 9),
    "generate --image-index": differs("--image-index", 9),
    "generate --steps": differs("--steps", "base=5"),
    "generate --set": differs("--set", "base.steps=5"),
    "generate --guidance": differs("--guidance", "base=9"),
    "generate --augmentation": differs("--augmentation", "sr16=0.4"),
    "generate --last-stage": last_stage,
    "generate --preview": preview,
    "generate --previews": previews,
    "generate --fallback": fallback,
    "generate --threads": threads,
    "generate --engine": engine,
    "generate --precision": precision,
    "generate --json": as_json,
    "generate --quiet": quiet("generate"),
    "generate --from": again,
    "generate --format": "tests/congruence/test_cuts.py::"
    "test_a_format_that_loses_is_near_the_picture_and_says_so",
    "generate --linger": linger,
    "generate --detach": detach,
    **connection("generate"),
    "upscale --cut": upscale_cut,
    "upscale --threads": upscale_takes("--threads", 0, -1),
    "upscale --engine": upscale_takes("--engine", "ort", "abacus"),
    "upscale --precision": upscale_takes("--precision", "int8", "int3"),
    "upscale --json": upscale_json,
    "upscale --quiet": upscale_quiet,
    **connection("upscale"),
    "fetch request_id": request_id("fetch"),
    "fetch --output": fetch_output,
    "fetch --preview": fetch_preview,
    "fetch --json": fetch_json,
    "fetch --quiet": quiet("fetch"),
    **connection("fetch"),
    "cancel request_id": request_id("cancel"),
    "cancel --json": cancel_json,
    **connection("cancel"),
}
