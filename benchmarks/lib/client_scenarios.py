"""What one client sees of a server, as JSON: run as a script with the code of any version.

Uses only the face of `runtime_client` that every version has, so that an old client and the
present one can be compared line by line. Its standard input and output are the comparison's.
"""

import hashlib
import json
import sys
from collections.abc import Callable, Iterator
from typing import Any

import runtime_client as face

PROMPTS = ("a red apple, noto style", "a smiling cat")
CUTS = range(4)
"""Of a bundle of four components; at the next one all of them run at the client."""
TIMEOUT_S = 300.0
TOO_SHORT_S = 0.25
"""For a picture of a whole cascade."""


def digest(image: Any) -> str:
    """Sha256 of a picture's pixels."""
    return hashlib.sha256(image.tobytes()).hexdigest()


class Scenarios:
    """Every scenario against one server."""

    def __init__(self, bundle: str, other_bundle: str, server: str, breakable: str) -> None:
        """Nothing asked yet.

        Args:
            bundle: what client and server hold.
            other_bundle: one that the server does not hold.
            server: its address.
            breakable: an address on the way to it that the parent process can break.
        """
        self._bundle = bundle
        self._other = other_bundle
        self._server = server
        self._breakable = breakable

    def client(self, **choices: Any) -> face.Client:
        """A client of that server."""
        given = {"server": self._server, "timeout_s": TIMEOUT_S, "threads": 1, **choices}
        return face.Client(given.pop("bundle", self._bundle), **given)

    def pictures(self) -> dict[str, Any]:
        """By cut and prompt, the hash of every stage's picture."""
        found = {}
        for cut in CUTS:
            with self.client(cut=cut) as client:
                for seed, prompt in enumerate(PROMPTS):
                    result = client.generate(prompt, seed=seed)
                    found[f"cut {cut}, {prompt}"] = {
                        name: digest(image) for name, image in result.images.items()
                    }
        return found

    def local(self) -> dict[str, Any]:
        """By prompt, the hash of every stage's picture, made without a server."""
        with self.client(server=None, cut=len(CUTS)) as client:
            return {
                prompt: {
                    name: digest(image)
                    for name, image in client.generate(prompt, seed=seed).images.items()
                }
                for seed, prompt in enumerate(PROMPTS)
            }

    def errors(self) -> dict[str, list[str]]:
        """Class, field and code of what is refused."""
        return {
            "another bundle": self.refused(bundle=self._other),
            "another precision": self.refused(precision="sr256=int8"),
            "too little time": self.refused(timeout_s=TOO_SHORT_S),
            "unknown request": refusal(lambda: self.fetched("nobody-knows-it")),
            "nobody there": self.refused(server="127.0.0.1:9", timeout_s=3.0),
        }

    def refused(self, **choices: Any) -> list[str]:
        """How one picture at cut 1 is refused."""

        def ask() -> None:
            with self.client(cut=1, **choices) as client:
                client.generate(PROMPTS[0])

        return refusal(ask)

    def fetched(self, request_id: str) -> dict[str, str]:
        """The pictures of a request that the server has."""
        with self.client(cut=1) as client:
            result = client.fetch(request_id)
        return {name: digest(image) for name, image in result.images.items()}

    def resume(self) -> dict[str, Any]:
        """A connection that breaks between two results: what is told, and what comes."""
        told: list[str] = []
        broken = False

        def watch(event: Any) -> None:
            nonlocal broken
            told.append(type(event).__name__)
            # The base stage runs on the server at this cut: its picture has come.
            if isinstance(event, face.StageFinished) and event.stage == "base" and not broken:
                broken = True
                ask_parent("break")

        with self.client(cut=1, server=self._breakable, linger_s=30.0) as client:
            result = client.generate(PROMPTS[0], on_event=watch)
        pictures = {name: digest(image) for name, image in result.images.items()}
        return {
            "resumed": "Resumed" in told,
            "finished": told.count("StageFinished"),
            "pictures": pictures,
        }

    def detached(self) -> dict[str, Any]:
        """Left to the server and fetched; cancelled twice; asked for after that."""
        with self.client(cut=1) as client:
            request_id = client.submit(face.GenerateRequest(prompt=PROMPTS[0]))
        pictures = self.fetched(request_id)
        with self.client(cut=1) as client:
            cancelled = [client.cancel(request_id), client.cancel(request_id)]
        after = refusal(lambda: self.fetched(request_id))
        return {"pictures": pictures, "cancelled": cancelled, "after": after}

    def cancel(self) -> dict[str, Any]:
        """An iterator that is closed in the middle: the parent says whether the server stopped."""
        with self.client(cut=0) as client:
            events = client.events(face.GenerateRequest(prompt=PROMPTS[0]))
            for event in events:
                if isinstance(event, face.Progress):
                    break
            close(events)
            return {"server": ask_parent("idle?")}


def close(events: Iterator[Any]) -> None:
    """Close a generator that is typed as an iterator."""
    getattr(events, "close")()  # noqa: B009


def refusal(ask: Callable[[], Any]) -> list[str]:
    """Class, field and code of what a call is refused with."""
    try:
        ask()
    except face.CascadeError as exc:
        return [type(exc).__name__, exc.field, exc.code]
    return ["nothing"]


def ask_parent(word: str) -> str:
    """Say a word to the comparing process, and wait for its answer."""
    sys.stdout.write(word + "\n")
    sys.stdout.flush()
    return sys.stdin.readline().strip()


def main() -> None:
    """Run every scenario; the last line of standard output is the JSON object."""
    scenarios = Scenarios(*sys.argv[1:])
    found = {
        "local": scenarios.local(),
        "pictures": scenarios.pictures(),
        "errors": scenarios.errors(),
        "resume": scenarios.resume(),
        "detached": scenarios.detached(),
        "cancel": scenarios.cancel(),
    }
    sys.stdout.write(json.dumps(found) + "\n")


if __name__ == "__main__":
    main()
