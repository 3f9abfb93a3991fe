"""Check the model of rings, doorbells and deaths (ring.pml) with spin; `make model` calls this.

First check the protocol within several bounds, where spin must find no error. Then check each mutation, which
breaks the protocol in one place, where spin must find one: otherwise the model would miss such a fault. Uses
spin from the PATH, or Debian's package, unpacked into .tools/ without installing it.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
MODEL = Path(__file__).resolve().with_name("ring.pml")
UNPACKED = ROOT / ".tools" / "spin"
HOW_TO_GET_SPIN = (
    "spin is not on the PATH, and Debian's package cannot be fetched; install spin 6.5 (apt-get install "
    "spin, or https://spinroot.com)"
)

SAFETY = ""  # no LTL claim: assertions, and all processes end
RECEIVED = "received_in_the_end"
ENDS = "ends_after_a_death"
SLEEPS = "sleeps_while_there_is_no_room"

# Bounds. The smallest ring with full doorbell traffic holds one record at a time.
NARROW = ("CAPACITY=1", "MAX_SIZE=1", "RECORDS=2")
WRAPPING = ("CAPACITY=3", "MAX_SIZE=2", "RECORDS=2")  # padding, and records of two sizes
FULL_SIZE = ("CAPACITY=2", "MAX_SIZE=2", "RECORDS=3", "ALTERNATING")  # records that fill the ring, and others
# The user can hold results that leave no room for an answer while another request is in the ring.
HELD = ("CAPACITY=2", "MAX_SIZE=1", "RECORDS=4", "IN_FLIGHT=3", "USER_MAY_HOLD", "STORES_AT_ONCE")


@dataclass(frozen=True)
class Check:
    """One run of spin.

    Attributes:
        name: in the table.
        claim: the LTL property of ring.pml, checked under weak fairness, or SAFETY.
        defines: switches of ring.pml.
        broken: whether this is a mutation, so that spin must find an error.
    """

    name: str
    claim: str
    defines: tuple[str, ...]
    broken: bool = False


def mutation(switch: str, claim: str, *defines: str) -> Check:
    """Return the check of the protocol that the switch breaks."""
    return Check(switch.lower().replace("_", " "), claim, (*defines, switch), broken=True)


CHECKS = [
    Check("both live: one record at a time", SAFETY, NARROW),
    Check("both live: padding at the wrap", SAFETY, WRAPPING),
    Check("both live: records that fill the ring", SAFETY, FULL_SIZE),
    Check("signals interrupt the sleep", SAFETY, (*NARROW, "SIGNALS=2")),
    Check("more than one token", SAFETY, (*NARROW, "TOKENS_MAX=2")),
    Check("a death: one record at a time", SAFETY, (*NARROW, "DEATH")),
    Check("a death: padding at the wrap", SAFETY, (*WRAPPING, "ALTERNATING", "DEATH")),
    Check("committed records are received", RECEIVED, (*NARROW, "DEATH")),
    Check("after a death the other process ends", ENDS, (*NARROW, "DEATH")),
    Check("after a death a hung Sprint ends", ENDS, (*NARROW, "DEATH", "CHILD_MAY_HANG", "STORES_AT_ONCE")),
    Check("a child without room sleeps", SLEEPS, HELD),
    mutation("RING_WITHOUT_FENCE", SAFETY, *NARROW),
    mutation("ANNOUNCE_WITHOUT_FENCE", SAFETY, *NARROW),
    mutation("CHECKS_BEFORE_ANNOUNCING", SAFETY, *NARROW),
    mutation("NO_SECOND_CHECK", SAFETY, *NARROW),
    mutation("NO_SECOND_CHECK", RECEIVED, *NARROW),
    mutation("DISCARDS_TOKEN", SAFETY, *NARROW),
    mutation("SLEEPS_WITHOUT_COMPARING", SAFETY, *NARROW),
    mutation("CLEARS_WITHOUT_POKE", SAFETY, *NARROW),
    mutation("RINGS_FOR_THE_OTHER_POSITION", SAFETY, *NARROW),
    mutation("NO_WAKE", SAFETY, *NARROW),
    mutation("COMMIT_DOES_NOT_RING", SAFETY, *NARROW),
    mutation("RELEASE_DOES_NOT_RING", SAFETY, *NARROW),
    mutation("COMMITS_BEFORE_FILLING", SAFETY, *NARROW),
    mutation("RELEASES_BEFORE_READING", SAFETY, *NARROW),
    mutation("PADDING_IS_NOT_SENT_AHEAD", SAFETY, *FULL_SIZE),
    mutation("ONE_UNIT_TOO_MANY", SAFETY, *FULL_SIZE),
    mutation("PARENTS_WATCHER_DOES_NOT_POKE", SAFETY, *NARROW, "DEATH"),
    mutation("PARENTS_WATCHER_DOES_NOT_POKE", ENDS, *NARROW, "DEATH"),
    mutation("PARENTS_WATCHER_POKES_TOO_EARLY", SAFETY, *NARROW, "DEATH"),
    mutation("SETS_NEWS_TOO_EARLY", SAFETY, *NARROW, "DEATH"),
    mutation("CLEARS_NEWS_AFTER_CHECKING", SAFETY, *NARROW, "DEATH"),
    mutation("CHECKS_DEATH_LAST", SAFETY, *NARROW, "DEATH"),
    mutation("CHILDS_WATCHER_DOES_NOT_POKE", SAFETY, *NARROW, "DEATH"),
    mutation("CHILDS_WATCHER_POKES_TOO_EARLY", SAFETY, *NARROW, "DEATH"),
    mutation("POKES_WHILE_ITS_NEWS_IS_BUFFERED", SAFETY, *NARROW, "DEATH"),
    mutation("STOPS_WATCHING_AT_EXIT", ENDS, *NARROW, "DEATH", "CHILD_MAY_HANG"),
    mutation("WAITS_FOR_ROOM_AND_REQUESTS", SLEEPS, *HELD),
]


class ModelError(Exception):
    """A check could not run. The message contains the command and its output."""


@dataclass(frozen=True)
class Found:
    """The result of one check: pan's figures, and the steps that lead to an unexpected error."""

    states: int
    depth: int
    seconds: float
    error: str
    trail: str

    def is_as_expected(self, check: Check) -> bool:
        """Return whether spin found an error in a mutation, or none in the protocol."""
        return bool(self.error) == check.broken


def run(command: Sequence[str], folder: Path) -> str:
    """Run the command. Returns its output; raises ModelError if it fails."""
    try:
        done = subprocess.run(
            command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
        )
    except OSError as error:
        raise ModelError(f"cannot run {command[0]}: {error.strerror}") from error
    if done.returncode != 0:
        raise ModelError(f"{' '.join(command)} ended with {done.returncode}:\n{done.stdout[-3000:]}")
    return done.stdout


def find_spin() -> str:
    """Return the path of spin, which is fetched from Debian if it is not installed."""
    installed = shutil.which("spin")
    if installed:
        return installed
    spin = UNPACKED / "usr" / "bin" / "spin"
    if not spin.exists():
        UNPACKED.mkdir(parents=True, exist_ok=True)
        print("fetching Debian's package of spin into", UNPACKED.relative_to(ROOT), flush=True)
        try:
            try:
                run(["apt-get", "download", "spin"], UNPACKED)
            except ModelError:  # the package lists may be missing or old
                run(["apt-get", "update"], UNPACKED)
                run(["apt-get", "download", "spin"], UNPACKED)
            package = next(UNPACKED.glob("spin_*.deb"))
            run(["dpkg", "-x", package.name, "."], UNPACKED)
        except (ModelError, StopIteration) as error:
            raise ModelError(f"{HOW_TO_GET_SPIN}\n{error}") from error
    return str(spin)


def check_one(spin: str, check: Check) -> Found:
    """Generate, compile and run the verifier."""
    with tempfile.TemporaryDirectory(prefix="shmbridge-model-") as name:
        folder = Path(name)
        defines = [f"-D{define}" for define in check.defines]
        shutil.copy(MODEL, folder)  # spin reads the trail from the model's folder
        run([spin, *defines, "-a", MODEL.name], folder)
        # No partial order reduction: it does not support `unless`, and the full graph is small enough.
        kind = ["-DNFAIR=3"] if check.claim else ["-DSAFETY", "-DNOCLAIM"]
        compiler = (os.environ.get("CC") or "cc").split()
        speed = "-O0" if check.broken else "-O2"  # spin finds an error faster than -O2 compiles
        run([*compiler, speed, "-w", "-DNOREDUCE", "-DMEMLIM=4096", *kind, "-o", "pan", "pan.c"], folder)
        options = ["-a", "-f", "-N", check.claim] if check.claim else []
        start = time.monotonic()
        out = run([str(folder / "pan"), "-m200000", *options], folder)
        seconds = time.monotonic() - start
        is_unexpected = (folder / f"{MODEL.name}.trail").exists() and not check.broken
        steps = run([spin, *defines, "-t", "-p", "-g", MODEL.name], folder) if is_unexpected else ""
    return read_report(out, seconds, steps)


def read_report(out: str, seconds: float, steps: str) -> Found:
    """Parse pan's output. Its exit status is 0 even if it finds an error."""
    summary = re.search(r"depth reached (\d+).*errors: (\d+)", out)
    states = re.search(r"(\d+) states, stored", out)
    if summary is None or states is None:
        raise ModelError(f"pan printed no result:\n{out[-3000:]}")
    problem = re.search(r"pan:\d+: (.*?) \(at depth", out)
    error = ""
    if summary[2] != "0":
        error = problem[1] if problem else "an error"
    elif "Search not completed" in out or "max search depth too small" in out:
        raise ModelError(f"pan did not search all states:\n{out[-3000:]}")
    return Found(int(states[1]), int(summary[1]), seconds, error, steps)


def main() -> int:
    """Run all checks and print the table. Returns 1 if a result is unexpected."""
    try:
        spin = find_spin()
        failed = []
        print(f"{'states':>10} {'depth':>7} {'s':>6}  check")
        with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as workers:
            for check, found in zip(CHECKS, workers.map(lambda check: check_one(spin, check), CHECKS)):
                is_expected = found.is_as_expected(check)
                what = f"{'broken: ' if check.broken else ''}{check.name} [{check.claim or 'safety'}]"
                outcome = found.error or "no error"
                mark = "" if is_expected else "  <-- UNEXPECTED"
                print(
                    f"{found.states:>10} {found.depth:>7} {found.seconds:>6.1f}  {what}: {outcome}{mark}",
                    flush=True,
                )
                if not is_expected:
                    failed.append((check, found))
    except ModelError as error:
        print(f"model: {error}", file=sys.stderr)
        return 1
    for check, found in failed:
        print(f"\n{check.name} ({' '.join(check.defines)}): ", end="")
        print("spin found no error in the mutation" if check.broken else found.trail[-20000:])
    print(f"{len(failed)} of {len(CHECKS)} checks failed" if failed else f"{len(CHECKS)} checks passed")
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main())
