"""The command `mbvision export`; --help shows its keys."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from mbvision.commands import main

if __name__ == "__main__":
    main(["export", *sys.argv[1:]])
