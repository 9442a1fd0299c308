"""The quality figures of a bundle as Markdown tables: on the screen and in the model card alike.

From what `benchmarks/quality.py` writes to text; nothing is measured, rounded or left out here.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

Figures = Mapping[str, Any]
ASKED_AS = {
    "captions": "captions as trained",
    "trained_keywords": "keywords as trained",
    "keywords": "keywords that no caption uses",
    "reworded": "the name in other words",
}
ON_REAL = {
    "learnt, moved anew": "real renderings, learnt by the probe, moved anew",
    "kept": "real renderings kept from the probe",
    "kept, moved": "the same, moved",
}
METHODS = {
    "ours": "ours",
    "ours_default": "ours, default augmentation",
    "lanczos": "Lanczos",
    "regression": "regression",
}
NOTHING = "-"


def quality_tables(figures: Figures) -> str:
    """All tables, a heading over each."""
    parts = [
        ("The base stage, named by the probe", probe_table(figures)),
        ("Colours that no caption gives the concept", colour_table(figures["base"]["colours"])),
        ("The look of its pictures", looks_table(figures["base"]["looks"])),
        ("Variety, as distances", distance_table(figures["base"])),
        ("Super-resolution of held-out concepts", held_out_table(figures)),
        ("After the base stage's own pictures", continued_table(figures["continued"])),
    ]
    return "\n".join(f"### {title}\n\n{text}\n" for title, text in parts)


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """One Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines) + "\n"


def percent(share: float) -> str:
    """`0.831 -> 83.1 %`."""
    return f"{100 * share:.1f} %"


def probe_table(figures: Figures) -> str:
    """How often the probe names what was asked; last, how often it names real renderings.

    Drawn in style: of the true renderings of the concept, nearest to that in the style asked for.
    """
    rows = [(ASKED_AS[name], found) for name, found in figures["base"]["named"].items()]
    real = figures["probe"]["on_real_renderings"]
    rows += [(ON_REAL.get(name, name), found) for name, found in real.items()]
    cells = [
        (
            name,
            f["pictures"],
            *(percent(f[kind]) for kind in ("top1", "top5")),
            percent(f["drawn_in_style"]) if "drawn_in_style" in f else NOTHING,
            percent(f["style"]),
        )
        for name, f in rows
    ]
    probe = figures["probe"]
    unseen = (percent(probe["style_of_unseen_concepts"]), probe["unseen_renderings"])
    cells.append(("real renderings of concepts never shown", unseen[1], *[NOTHING] * 3, unseen[0]))
    head = ("asked as", "pictures", "top-1", "top-5", "drawn in style", "style by palette")
    return table(head, cells)


def colour_table(found: Figures | None) -> str:
    """How often colour and concept are right where training kept the pair apart."""
    if found is None:
        return "Not asked: no picture of the data is of one hue.\n"
    shares = [percent(found[name]) for name in ("colour", "top1", "top5")]
    head = ("pictures", "main hue is the one asked for", "concept top-1", "concept top-5")
    return table(head, [(found["pictures"], *shares)])


def looks_table(looks: Figures) -> str:
    """Generated beside the true renderings of the same captions, levels of 255."""
    names = {
        "sharpness": "sharpness (RMS step between neighbours)",
        "chroma": "colour (strongest less weakest channel)",
        "off_white": "border, distance from white",
    }
    return table(
        ("levels of 255", "generated", "true"),
        ((text, looks[name], looks[f"{name}_true"]) for name, text in names.items()),
    )


def distance_table(base: Figures) -> str:
    """RMS distances in levels of 255."""
    variety, near = base["variety"], base["nearest"]
    seeds = f"{variety['seeds']:.0f} seeds of a prompt, {variety['prompts']:.0f} prompts"
    share = percent(near["captions_nearest_is_asked"])
    return table(
        ("RMS, levels of 255", "distance"),
        (
            (f"between {seeds}", variety["over_seeds"]),
            ("true: between the styles of a concept", variety["over_styles_of_a_concept_true"]),
            ("true: between two concepts", variety["over_neighbouring_concepts_true"]),
            ("to the nearest training picture: new combinations of words", near["combinations"]),
            (f"... trained captions (it shows what was asked in {share})", near["captions"]),
            ("... true pictures of concepts never shown", near["real_unseen_concepts"]),
        ),
    )


def held_out_table(figures: Figures) -> str:
    """PSNR and SSIM by task and style, every method that there is."""
    rows = figures["held_out"]
    methods = [m for m in METHODS if any(m in row["methods"] for row in rows)]
    head = ["task", "style", "pictures"]
    head += [f"{METHODS[m]}, dB" for m in methods] + [f"{METHODS[m]}, SSIM" for m in methods]
    text = table(
        head,
        (
            [row["task"], row["style"], row["pictures"]]
            + [
                row["methods"].get(method, {}).get(key, NOTHING)
                for key in ("psnr_db", "ssim")
                for method in methods
            ]
            for row in rows
        ),
    )
    missing = figures["regression_not_trained"]
    if missing:
        text += f"\nPlain regression not trained: {', '.join(missing)}.\n"
    return text


def continued_table(continued: Figures) -> str:
    """Sharpness and consistency, which need no ground truth."""
    rows = [(name, value) for name, value in continued.items() if name != "pictures"]
    return table((f"mean of {continued['pictures']} pictures", "value"), rows)
