"""`python -m benchmarks`."""

import os
import sys


def main() -> int:
    """Set the environment that NumPy reads when it is imported, then run."""
    # More BLAS threads would only take the children's cores.
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
