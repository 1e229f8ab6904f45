"""Install what plugins/ holds beside the Nexus that this interpreter has; ``--oldest NAME``: one, on its oldest ground.

The oldest ground of a plugin is the lowest release of each distribution that its setup.cfg says it takes.
"""

import configparser
import re
import subprocess
import sys
from pathlib import Path

from nexus.testing.installing import install_plugins

PLUGINS = Path(__file__).parents[1] / "plugins"


def main(words):
    match words:
        case []:
            install_plugins(path.parent for path in sorted(PLUGINS.glob("*/setup.cfg")))
        case ["--oldest", name]:
            install_plugins([PLUGINS / name])
            subprocess.run([sys.executable, "-m", "pip", "install", "-q", *lowest(PLUGINS / name)], check=True)
        case _:
            sys.exit(__doc__)
    subprocess.run([sys.executable, "-m", "pip", "check"], check=True)


def lowest(folder):
    """Return each requirement pinned to its lower bound, which it must have."""
    setup = configparser.ConfigParser()
    setup.read(folder / "setup.cfg")
    required = [line for line in setup["options"]["install_requires"].splitlines() if line]
    return [re.sub(r"^([\w-]+)>=([\d.]+).*$", r"\1==\2", line) for line in required]


if __name__ == "__main__":
    main(sys.argv[1:])
