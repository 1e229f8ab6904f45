"""``python -m nexus`` is ``nexus-proxy``."""

from nexus.cli.main import main

if __name__ == "__main__":
    main()
