"""`python -m shmbridge`: the command `shmbridge`."""

import sys

from .cli.__main__ import main

if __name__ == "__main__":
    sys.exit(main())
