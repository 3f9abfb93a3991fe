"""`python -m examples.demo`."""

import os
import sys


def main() -> int:
    """Set what must be set before numpy is imported, then run."""
    # The matrices are small: more threads would only take the cores that the Sprint children need.
    for variable in ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OMP_NUM_THREADS"):
        os.environ.setdefault(variable, "1")
    try:
        from . import cli
    except ModuleNotFoundError as error:
        print(f"{error.name} is not installed: pip install -e '.[demo]' (or make demo)", file=sys.stderr)
        return 1
    return cli.main()


if __name__ == "__main__":
    sys.exit(main())
