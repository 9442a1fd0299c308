"""What each flag of the subcommands about bundles does, shown by doing it."""

from collections.abc import Mapping

from tests.flags.client_effects import Effect
from tests.flags.trial import Trial


def inspect_bundle(t: Trial) -> None:
    """That bundle's id."""
    assert t.bundle.bundle_id in t.ok("inspect", t.bundle.folder).out
    assert t.other.bundle_id in t.ok("inspect", t.other.folder).out


def inspect_json(t: Trial) -> None:
    """The manifest."""
    assert t.ok("inspect", "--json", t.bundle.folder).json["name"] == "tiny"


def verify_bundle(t: Trial) -> None:
    """A changed file of that bundle is found."""
    t.ok("verify", t.bundle.folder)
    (t.other.folder / "tokenizer.json").write_bytes(b"{}")
    t.refused("verify", t.other.folder)
    t.ok("verify", t.bundle.folder)


def verify_signature(t: Trial) -> None:
    """Refused before it is signed, said after."""
    key = ("--require-signature", f"{t.key}.pub")
    t.refused("verify", t.bundle.folder, *key)
    t.ok("sign", t.bundle.folder, "--key", t.key)
    assert "signature" in t.ok("verify", t.bundle.folder, *key).out


def sign(t: Trial) -> None:
    """The signature lies in that bundle; two keys are one too many."""
    t.ok("sign", t.bundle.folder, "--key", t.key)
    assert (t.bundle.folder / "manifest.sig").exists()
    two = ("--key", t.key, "--make-key", t.folder / "new.pem")
    assert "not both" in t.refused("sign", t.bundle.folder, *two)
    assert not (t.folder / "new.pem").exists()


def make_key(t: Trial) -> None:
    """A pair of keys."""
    t.ok("sign", "--make-key", t.folder / "new.pem")
    assert (t.folder / "new.pem.pub").exists()


def tune(*flags: object, says: str) -> Effect:
    """What is printed and kept."""

    def effect(t: Trial) -> None:
        base = ("tune", t.bundle.folder, "--seconds", 0, "--component", "base", "--threads", 1)
        done = t.run(*base, *flags)
        assert says in done.out + done.err

    return effect


def tune_components(t: Trial) -> None:
    """Only those; one that is not there is refused."""
    out = t.ok("tune", t.bundle.folder, "--seconds", 0, "--component", "sr16", "--threads", 1).out
    assert "sr16" in out
    assert "sr32" not in out


def tune_threads(t: Trial) -> None:
    """The record is that of so many threads."""
    from cascade.system.user_cache import required_cache_folder
    from cascade.tuning.records import read_tuning, tuning_key

    def record() -> object:
        key = tuning_key(t.bundle.bundle_id, 3)
        return read_tuning(required_cache_folder() / "tuning", key)

    assert record() is None
    t.ok("tune", t.bundle.folder, "--seconds", 0, "--component", "base", "--threads", 3)
    assert record() is not None


def token(t: Trial) -> None:
    """The caller's name stands in the line for the server."""
    assert '"bob" = "' in t.ok("token", "bob").out + t.ok("token", "bob").err


def card(t: Trial) -> None:
    """The card lies in that bundle, and has those figures."""
    import json

    from cascade.bundle.bundle import open_bundle
    from tests.support.synthetic_quality import figures

    quality = t.folder / "q.json"
    quality.write_text(json.dumps(figures(t.bundle)))
    t.refused("card", t.other.folder, "--quality", quality)
    t.ok("card", t.bundle.folder, "--quality", quality)
    assert "83.1 %" in open_bundle(t.bundle.folder).read("MODEL_CARD.md").decode()


def version(t: Trial) -> None:
    """The version."""
    from cascade import __version__

    assert __version__ in t.ok("--version").out


def completion(t: Trial) -> None:
    """Another text for each shell."""
    bash, zsh = t.ok("completion", "bash").out, t.ok("completion", "zsh").out
    assert "generate" in bash
    assert bash != zsh


BUILT = "tests/cascade/commands/test_build_engines.py"
UPGRADE = "tests/cascade/test_upgrade.py"
OPTIONS = "tests/cascade/engines/test_trt_options.py"
EFFECTS: Mapping[str, Effect | str] = {
    "cascade --version": version,
    "completion shell": completion,
    "inspect bundle": inspect_bundle,
    "upgrade bundle": f"{UPGRADE}::test_the_command_rewrites_the_manifest_alone",
    "inspect --json": inspect_json,
    "verify bundle": verify_bundle,
    "verify --require-signature": verify_signature,
    "sign bundle": sign,
    "sign --key": sign,
    "sign --make-key": make_key,
    "tune bundle": tune(says="kept in "),
    "tune --threads": tune_threads,
    "tune --seconds": tune("--seconds", "x", says="invalid float"),
    "tune --component": tune_components,
    "token name": token,
    "card bundle": card,
    "card --quality": card,
}
