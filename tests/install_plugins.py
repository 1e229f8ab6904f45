"""Install what plugins/ holds beside the Nexus that this interpreter has; ``--oldest NAME``: one, on its oldest ground.

The oldest ground of a plugin is the lowest release of each distribution that its setup.cfg says it takes. ``--oldest``
without a name installs all of them at once, which goes as long as they agree on their lowest releases.
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
        case ["--oldest", *names]:
            folders = [PLUGINS / name for name in names] or [
                path.parent for path in sorted(PLUGINS.glob("*/setup.cfg"))
            ]
            install_plugins(folders)
            pinned = sorted({pin for folder in folders for pin in lowest(folder)})
            subprocess.run([sys.executable, "-m", "pip", "install", "-q", *pinned], check=True)
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
