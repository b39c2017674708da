"""``python -m sigfs`` is the command ``sigfs``."""

from sigfs.cli import main

if __name__ == "__main__":
    main()
