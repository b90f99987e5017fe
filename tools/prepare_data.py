"""The command `mbvision prepare_data`; --help shows its keys."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from mbvision.commands import prepare_data, run

if __name__ == "__main__":
    sys.exit(run(prepare_data.main, sys.argv[1:]))
