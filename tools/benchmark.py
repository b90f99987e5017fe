"""The command `mbvision benchmark`; --help shows its keys."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from mbvision.commands import benchmark, run

if __name__ == "__main__":
    sys.exit(run(benchmark.main, sys.argv[1:]))
