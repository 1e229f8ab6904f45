"""Finds, loads, configures and calls plugins, with errors that name the plugin.

=================  ==================================================================
``finding``        lists what is installed or named on the command line, without importing it
``choosing``       decides which of these to load
``loading``        imports them, and checks every hook before any is called
``plugin``         one loaded plugin, and calls of its hooks
``tables``         decodes a plugin's table
``contributions``  what the plugins contribute under one configuration
``observer``       calls an observer of a plugin with every outcome
=================  ==================================================================
"""

from nexus.plugin_manager.contributions import Contributions
from nexus.plugin_manager.finding import Candidate, find_plugins
from nexus.plugin_manager.loading import PluginManager
from nexus.plugin_manager.plugin import Plugin

__all__ = ["Candidate", "Contributions", "Plugin", "PluginManager", "find_plugins"]
