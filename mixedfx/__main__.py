"""``python -m mixedfx``: the command line."""

import sys

from mixedfx.cli import main

if __name__ == "__main__":
    sys.exit(main())
