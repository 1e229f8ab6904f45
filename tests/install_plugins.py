"""Install what plugins/ holds, or the plugins named, beside the Nexus that this interpreter has."""

import sys
from pathlib import Path

from nexus.testing.installing import install_plugins

PLUGINS = Path(__file__).parents[1] / "plugins"

if __name__ == "__main__":
    names = sys.argv[1:] or [path.parent.name for path in sorted(PLUGINS.glob("*/setup.cfg"))]
    install_plugins(PLUGINS / name for name in names)
