"""Find plugins, check them, configure them, order them by name, and say who is to blame.

=================  ==================================================================
``finding``        what is installed or named on the command line, without importing it
``choosing``       which of these are loaded; required, disabled, two of one name, too old
``loading``        import, and the check of every hook before any is called
``plugin``         one loaded plugin: what it implements, and the blame when a hook of it fails
``observer``       one plugin's ``nexus_exchange_finished``, called with every outcome
``contributions``  each plugin's table decoded, its hooks called, what they gave checked
=================  ==================================================================
"""

from nexus.plugin_manager.contributions import Contributions
from nexus.plugin_manager.finding import Candidate, find_plugins
from nexus.plugin_manager.loading import PluginManager
from nexus.plugin_manager.plugin import Plugin

__all__ = ["Candidate", "Contributions", "Plugin", "PluginManager", "find_plugins"]
