"""The icon sets: fetched from the npm registry, read as SVG, drawn at any size.

Knows the three open-licensed sets and their JSON; not captions, splits or training.
"""

import io
import json
import subprocess
import tarfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import resvg_py
from PIL import Image

from cascade.errors import InvalidRequest, MissingExtra
from cascade.types import ImageU8
from stages.data.dataset import keyword_lookup

RENDER_SIZE = 1024
"""Every picture is drawn at this size; smaller ones are its box averages."""


@dataclass(frozen=True, slots=True)
class IconSet:
    """One npm package of icons and the style word that stands for it."""

    style: str
    package: str
    licence: str


ICON_SETS = (
    IconSet("noto", "@iconify-json/noto@1.2.9", "Apache-2.0"),
    IconSet("fluent", "@iconify-json/fluent-emoji-flat@1.2.6", "MIT"),
    IconSet("twemoji", "@iconify-json/twemoji@1.2.5", "CC-BY-4.0"),
)
KEYWORDS_PACKAGE = "emojibase-data@17.0.0"
SHORTCODES = ("cldr", "emojibase", "github", "joypixels")
"""Its lists of short names that are read."""


def fetch_package(package: str, folder: Path) -> Path:
    """Download one npm package into `folder` unless it is there; returns the archive's path.

    Raises:
        MissingExtra: there is no npm.
        InvalidRequest: npm could not fetch the package.
    """
    archive = folder / (package.lstrip("@").replace("/", "-").replace("@", "-") + ".tgz")
    if not archive.exists():
        folder.mkdir(parents=True, exist_ok=True)
        try:
            subprocess.run(["npm", "pack", "--silent", package], cwd=folder, check=True)
        except FileNotFoundError as exc:
            raise MissingExtra(f"packages: fetching {package} needs npm (Node.js)") from exc
        except subprocess.CalledProcessError as exc:
            raise InvalidRequest(
                f"packages: npm could not fetch {package}: {exc}", field="packages"
            ) from exc
    return archive


def read_json(archive: Path, member: str) -> Any:
    """One JSON file of an npm archive, read without unpacking anything to disk."""
    with tarfile.open(archive) as tar:
        file = tar.extractfile(f"package/{member}")
        if file is None:
            raise FileNotFoundError(f"{archive.name} holds no {member}")
        return json.load(io.TextIOWrapper(file, "utf-8"))


def words_for(packages: Path) -> Callable[[str], list[str]]:
    """Icon name to the words that emojibase has for it.

    Args:
        packages: folder of npm archives; the package is fetched if it is not there.
    """
    archive = fetch_package(KEYWORDS_PACKAGE, packages)
    return keyword_lookup(
        read_json(archive, "en/data.json"),
        [read_json(archive, f"en/shortcodes/{name}.json") for name in SHORTCODES],
    )


def svg_text(icons: Mapping[str, Any], name: str) -> str:
    """The SVG document of one icon; sizes may be given per icon or per set."""
    icon = icons["icons"][name]
    box = [
        icon.get(key, icons.get(key, default))
        for key, default in (("left", 0), ("top", 0), ("width", 16), ("height", 16))
    ]
    view = " ".join(str(number) for number in box)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" '
        f'xmlns:xlink="http://www.w3.org/1999/xlink" viewBox="{view}">{icon["body"]}</svg>'
    )


def draw(svg: str) -> ImageU8:
    """An SVG document drawn on white at `RENDER_SIZE`; `[1024, 1024, 3]` uint8."""
    png = resvg_py.svg_to_bytes(
        svg_string=svg, width=RENDER_SIZE, height=RENDER_SIZE, background="white"
    )
    square = Image.new("RGB", (RENDER_SIZE, RENDER_SIZE), "white")
    with Image.open(io.BytesIO(bytes(png)), formats=["PNG"]) as image:
        # An icon that is not square comes back narrower or lower: centre it.
        corner = ((RENDER_SIZE - image.width) // 2, (RENDER_SIZE - image.height) // 2)
        square.paste(image.convert("RGB"), corner)
    return np.asarray(square)
