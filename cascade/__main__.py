"""`python -m cascade`: the `cascade` command."""

import sys

from cascade.commands.cli import main

if __name__ == "__main__":
    sys.exit(main())
