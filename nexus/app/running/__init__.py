"""The running proxy and its parts.

==============  ==================================================================
``nexus``       starts, reloads, drains and stops everything
``opening``     opens the store and the port
``resources``   where the proxy gets its store, its sockets and its fleet
``services``    the background services of plugins
``announcing``  announces the proxy by mDNS
``telemetry``   what observes every exchange
``pages``       collects the pages of one configuration
==============  ==================================================================
"""
