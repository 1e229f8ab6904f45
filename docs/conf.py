"""How Sphinx builds these pages."""

import sys
from pathlib import Path

from nexus import __version__

sys.path.insert(0, str(Path(__file__).parent))

project = "Nexus"
author = "the Nexus contributors"
copyright = author  # noqa: A001 - Sphinx names it so
version = release = __version__

extensions = ["sphinx.ext.autodoc", "generated"]
exclude_patterns = ["_build"]
nitpicky = False
html_theme = "alabaster"
html_theme_options = {"description": "An HTTP proxy in front of a fleet of LLM servers", "fixed_sidebar": True}
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
