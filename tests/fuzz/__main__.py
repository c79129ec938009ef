"""`make fuzz`: many damaged files into everything that reads files of strangers.

Each reader runs in a process of its own; a crash, a hang, an unknown exception or too much memory
is reported with the file that did it, in out/fuzz.
"""

import argparse
import faulthandler
import resource
import subprocess
import sys
import tempfile
import traceback
import warnings
from pathlib import Path

import numpy as np

from fuzz.mutate import mutate
from fuzz.targets import ALLOWED, TARGETS

SECONDS = 5
MEGABYTES = 1500


def attack(name: str, count: int, seed: int, failures: Path) -> int:
    """The number of defects that `count` damaged files show; each file is kept."""
    rng = np.random.default_rng(seed)
    defects = 0
    failures.mkdir(parents=True, exist_ok=True)
    last = failures / f"{name}-last"
    with tempfile.TemporaryDirectory() as folder:
        seeds, read = TARGETS[name](Path(folder))
        for number in range(count):
            data = mutate(rng, seeds)
            last.write_bytes(data)
            faulthandler.dump_traceback_later(SECONDS, exit=True)
            try:
                read(data)
            except ALLOWED:
                pass
            except BaseException:
                defects += 1
                (failures / f"{name}-{seed}-{number}").write_bytes(data)
                traceback.print_exc(limit=-4)
            finally:
                faulthandler.cancel_dump_traceback_later()
    last.unlink()
    return defects


def main() -> int:
    """Attack all readers, or one in this process; the exit code says whether any gave way."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=100_000, help="files, over all readers")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", choices=TARGETS)
    parser.add_argument("--out", type=Path, default=Path("out/fuzz"))
    given = parser.parse_args()
    if given.only:
        warnings.simplefilter("ignore")
        faulthandler.enable()
        defects = attack(given.only, given.count, given.seed, given.out)
        most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000
        print(f"{given.only}: {given.count} files, {defects} defects, at most {most:.0f} MB")
        return int(defects > 0 or most > MEGABYTES)
    share = given.count // len(TARGETS)
    failed = []
    for name in TARGETS:
        command = [sys.executable, "-m", "fuzz", "--only", name, "--count", str(share)]
        command += ["--seed", str(given.seed), "--out", str(given.out)]
        if subprocess.run(command).returncode:
            failed.append(name)
    print(f"gave way: {', '.join(failed) or 'none'}")
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
