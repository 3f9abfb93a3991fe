"""`python -m examples.demo`."""

import os
import sys


def main() -> int:
    """Limit numpy to one thread, which must happen before its import, and run."""
    # The matrices are small, and the children need the other cores.
    for variable in ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OMP_NUM_THREADS"):
        os.environ.setdefault(variable, "1")
    try:
        from . import cli
    except ModuleNotFoundError as error:
        print(f"{error.name} is not installed; run pip install -e '.[demo]', or make demo", file=sys.stderr)
        return 1
    return cli.main()


if __name__ == "__main__":
    sys.exit(main())
