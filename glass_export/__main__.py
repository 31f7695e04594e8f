"""``python -m glass_export`` is the command line."""

from glass_export.cli import main

if __name__ == "__main__":
    main()
