"""Install the plugins into this interpreter's environment; ``--oldest NAME``: one, with its oldest requirements.

What a plugin requires beside Nexus comes from the index.

The oldest ground of a plugin is the lowest release of each distribution that its setup.cfg says it takes. ``--oldest``
without a name installs all of them at once, which goes as long as they agree on their lowest releases.
"""

import configparser
import re
import subprocess
import sys
from pathlib import Path

from support.installing import install_plugins, installer

PLUGINS = Path(__file__).parents[1] / "plugins"


def main(words):
    match words:
        case []:
            folders = [path.parent for path in sorted(PLUGINS.glob("*/setup.cfg"))]
            install_plugins(folders)
            fetch({line for folder in folders for line in required(folder) if not line.startswith("nexus-proxy")})
        case ["--oldest", *names]:
            folders = [PLUGINS / name for name in names] or [
                path.parent for path in sorted(PLUGINS.glob("*/setup.cfg"))
            ]
            install_plugins(folders)
            fetch({pin for folder in folders for pin in lowest(folder)})
        case _:
            sys.exit(__doc__)
    subprocess.run(installer("check"), check=True)


def fetch(requirements):
    """Install requirements from the index."""
    subprocess.run([*installer("install"), "-q", *sorted(requirements)], check=True)


def lowest(folder):
    """Return each requirement pinned to its lower bound, which is mandatory."""
    return [re.sub(r"^([\w-]+)>=([\d.]+).*$", r"\1==\2", line) for line in required(folder)]


def required(folder):
    """Return the requirements of a plugin."""
    setup = configparser.ConfigParser()
    setup.read(folder / "setup.cfg")
    return [line for line in setup["options"]["install_requires"].splitlines() if line]


if __name__ == "__main__":
    main(sys.argv[1:])
