"""``python -m graphrt``: the command line."""

import sys

from graphrt.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
