"""`python -m benchmarks`."""

import os
import sys


def main() -> int:
    """Set what must be set before numpy is imported, then run."""
    # A copy or a criterion is one thread's work here; others would only take the cores of the children.
    for variable in ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OMP_NUM_THREADS"):
        os.environ.setdefault(variable, "1")
    try:
        from . import cli
    except ModuleNotFoundError as error:
        print(f"{error.name} is not installed: pip install -e '.[bench]' (or make bench)", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return cli.main()


if __name__ == "__main__":
    sys.exit(main())
