"""The contract as tables: what a `.proto` declares, with the comment above each declaration.

Reads the file as text, for compiled descriptors have no comments. Knows the syntax that
protos/cascade/v1/cascade.proto uses; no code of any language.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from tests.reference_pages.markdown import ROOT, cell, table

SOURCE = ROOT / "protos" / "cascade" / "v1" / "cascade.proto"
OPENED = re.compile(r"^(service|message|enum|oneof) (\w+) \{(\})?$")
CALL = re.compile(r"^rpc (\w+)\((stream )?(\w+)\) returns \((stream )?(\w+)\);$")
FIELD = re.compile(r"^((?:repeated |optional )?(?:map<[^>]+>|[\w.]+)) (\w+) = (\d+);$")
VALUE = re.compile(r"^(\w+) = (\d+);$")


@dataclass(kw_only=True)
class Declaration:
    """One thing that the file declares."""

    kind: str
    name: str
    words: str
    type: str = ""
    number: str = ""
    oneof: str = ""
    members: list["Declaration"] = field(default_factory=list)


def declarations(text: str) -> list[Declaration]:
    """Services, messages and enumerations in order.

    Raises:
        ValueError: a line that this reader does not know.
    """
    found: list[Declaration] = []
    path: list[Declaration] = []
    words: list[str] = []
    for line in (each.strip() for each in text.partition("package cascade.v1;")[2].splitlines()):
        if line.startswith("//"):
            words.append(line.removeprefix("//").strip())
            continue
        if line and not line.startswith("option "):
            take(line, " ".join(words), path, found)
        words = []
    return found


def take(line: str, words: str, path: list[Declaration], found: list[Declaration]) -> None:
    """One line that is neither empty nor a comment."""
    if line == "}":
        path.pop()
        return
    declared = declared_in(line, words)
    inside = path[-1] if path else None
    if inside is not None and inside.kind == "oneof":
        declared.oneof = inside.name
    holder = path[-2] if inside is not None and inside.kind == "oneof" else inside
    if declared.kind == "oneof":
        declared.oneof = declared.name
    (found if holder is None else holder.members).append(declared)
    if OPENED.match(line) and not line.endswith("}"):
        path.append(declared)


def declared_in(line: str, words: str) -> Declaration:
    """What a line declares."""
    if opened := OPENED.match(line):
        return Declaration(kind=opened[1], name=opened[2], words=words)
    if call := CALL.match(line):
        type_ = f"{call[2] or ''}{call[3]} -> {call[4] or ''}{call[5]}"
        return Declaration(kind="rpc", name=call[1], words=words, type=type_)
    if value := VALUE.match(line):
        return Declaration(kind="value", name=value[1], words=words, number=value[2])
    if got := FIELD.match(line):
        return Declaration(kind="field", name=got[2], words=words, type=got[1], number=got[3])
    raise ValueError(f"{SOURCE.name}: not understood: {line!r}")


def calls() -> str:
    """The calls of the service."""
    (service,) = [d for d in declarations(SOURCE.read_text()) if d.kind == "service"]
    rows = [(f"`{call.name}`", f"`{call.type}`", call.words) for call in service.members]
    return table(("call", "message", "what it does"), rows)


def messages() -> str:
    """Every message and enumeration, a heading each."""
    kinds = ("message", "enum")
    found = [d for d in declarations(SOURCE.read_text()) if d.kind in kinds]
    return "\n\n".join("\n\n".join(section(each)) for each in found)


def section(declared: Declaration) -> Iterator[str]:
    """One message."""
    yield f"### {declared.name}"
    yield cell(declared.words)
    if declared.kind == "enum":
        rows = [(f"`{v.name}`", v.number, v.words) for v in declared.members]
        yield table(("value", "number", "meaning"), rows)
    elif declared.members:
        fields = [member for member in declared.members if member.kind == "field"]
        rows = [(f"`{f.name}`", f"`{f.type}`", f.number, worded(f)) for f in fields]
        yield table(("field", "type", "number", "meaning"), rows)
    else:
        yield "No fields."


def worded(member: Declaration) -> str:
    """A field's comment, and the alternatives that it belongs to."""
    return f"(one of `{member.oneof}`) {member.words}" if member.oneof else member.words
