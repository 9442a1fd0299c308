"""What a picture is called: the captions of one concept in one style.

Knows words only; no pictures, tokens or embeddings.
"""

STYLES = ("noto", "fluent", "twemoji")
"""The styles of the data set and the words that ask for them."""

CAPTION_TAGS = 2
"""Keywords that a caption takes; the others are left for paraphrases that training never saw."""

WITHOUT_ARTICLE = (
    "cherries", "grapes", "books", "french fries", "jeans", "pancakes", "sunglasses", "scissors",
    "blueberries", "bacon", "bread", "spaghetti", "fire", "sushi", "popcorn",
    "hundred points",
)  # fmt: skip
"""Names that read wrong after "a"."""


def concept_name(icon: str) -> str:
    """`red-apple -> red apple`."""
    return icon.replace("-", " ")


def with_article(name: str) -> str:
    """`red apple -> a red apple`; plural and mass nouns stay as they are."""
    if name in WITHOUT_ARTICLE:
        return name
    return f"an {name}" if name[0] in "aeiou" and not name.startswith("unicorn") else f"a {name}"


def styled_captions(icon: str, style: str, tags: list[str]) -> list[str]:
    """Captions of one picture that name its style: the plain one first, then variations.

    Args:
        icon: icon name, for example `red-apple`.
        style: one of `STYLES`.
        tags: emojibase keywords of the concept, possibly none.
    """
    name = concept_name(icon)
    captions = [f"{with_article(name)}, {style} style", f"{style} style {name}"]
    spare = spare_tags(icon, tags)
    if spare:
        captions.append(f"{name}, {' '.join(spare[:CAPTION_TAGS])}, {style} style")
    return captions


def spare_tags(icon: str, tags: list[str]) -> list[str]:
    """The keywords of a concept that its name does not hold already."""
    return [tag for tag in tags if tag not in concept_name(icon).split()]


def unused_tags(icon: str, tags: list[str]) -> list[str]:
    """The keywords of a concept that no training caption of it has."""
    return spare_tags(icon, tags)[CAPTION_TAGS:]


def plain_caption(icon: str) -> str:
    """The caption that leaves the style open."""
    return with_article(concept_name(icon))
