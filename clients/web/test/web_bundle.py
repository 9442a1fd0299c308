"""A copy of a bundle with forms for browsers: `python test/web_bundle.py BUNDLE COPY`."""

import shutil
import sys
from pathlib import Path

from export.forms.added import add_web_forms


def main(bundle: str, copy: str) -> None:
    """Write the copy and say what the forms weigh."""
    shutil.copytree(bundle, copy)
    manifest = add_web_forms(Path(copy))
    forms = [g.web_form for c in manifest.components for g in c.graphs.values() if g.web_form]
    for form in forms:
        size = (Path(copy) / form.file).stat().st_size
        print(f"{form.file}: {size} bytes, max abs error {form.parity.max_abs_error:.1e}")


if __name__ == "__main__":
    main(*sys.argv[1:])
