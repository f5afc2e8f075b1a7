"""`python -m zoojax`: the command line."""

import sys

from zoojax.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
