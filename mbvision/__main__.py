"""``python -m mbvision COMMAND key=value ...``, where the console script is not on the path."""

from mbvision.commands import main

if __name__ == "__main__":
    main()
