"""`make fuzz`: many damaged files and requests for everything that reads untrusted ones.

Each reader runs in a process of its own; a crash, a hang, an unknown exception or too much memory
is reported with the file that did it, in out/fuzz.
"""

import argparse
import faulthandler
import resource
import signal
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
from pathlib import Path

import numpy as np

from fuzz.labels import HDF5_NAMES
from fuzz.mutate import mutate
from fuzz.target import close
from fuzz.targets import ALLOWED, TARGETS

# For one file: of work, which a busy machine does not lengthen, and of waiting too.
CPU_SECONDS = 5
SECONDS = 60
MEGABYTES = 1500


def attack(name: str, count: int, seed: int, failures: Path) -> tuple[int, float]:
    """How many defects `count` damaged files show, and the most CPU seconds that one took.

    Each file with a defect is kept, and that at which the process ended as `NAME-last`.
    """
    rng = np.random.default_rng(seed)
    defects, longest = 0, 0.0
    failures.mkdir(parents=True, exist_ok=True)
    last = failures / f"{name}-last"
    with tempfile.TemporaryDirectory() as folder:
        seeds, read = TARGETS[name](Path(folder))
        for number in range(count):
            data = mutate(rng, seeds)
            last.write_bytes(data)
            faulthandler.dump_traceback_later(SECONDS, exit=True)
            signal.setitimer(signal.ITIMER_PROF, CPU_SECONDS)  # ends the process
            start = time.process_time()
            try:
                read(data)
            except ALLOWED:
                pass
            except BaseException:
                defects += 1
                (failures / f"{name}-{seed}-{number}").write_bytes(data)
                traceback.print_exc(limit=-4)
            finally:
                signal.setitimer(signal.ITIMER_PROF, 0)
                faulthandler.cancel_dump_traceback_later()
                longest = max(longest, time.process_time() - start)
        close(read)
    last.unlink()
    return defects, longest


def main() -> int:
    """Attack all readers, or one in this process; the exit code is 1 where one has a defect."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=100_000, help="files, over all readers")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", choices=TARGETS)
    parser.add_argument("--out", type=Path, default=Path("out/fuzz"))
    given = parser.parse_args()
    if given.only:
        warnings.simplefilter("ignore")
        faulthandler.enable()
        defects, longest = attack(given.only, given.count, given.seed, given.out)
        used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
        most = max(usage.ru_maxrss for usage in used) / 1000
        print(
            f"{given.only}: {given.count} files, {defects} defects, at most {longest:.2f} CPU "
            f"seconds for one and {most:.0f} MB"
        )
        return int(defects > 0 or most > MEGABYTES)
    quick = len(TARGETS) - len(HDF5_NAMES)
    slow = max(given.count // 1000, 1)
    failed = []
    for name in TARGETS:
        share = slow if name in HDF5_NAMES else -(-(given.count - len(HDF5_NAMES) * slow) // quick)
        command = [sys.executable, "-m", "fuzz", "--only", name, "--count", str(share)]
        command += ["--seed", str(given.seed), "--out", str(given.out)]
        if subprocess.run(command).returncode:
            failed.append(name)
    print(f"defects: {', '.join(failed) or 'none'}")
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
