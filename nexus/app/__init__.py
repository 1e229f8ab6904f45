"""The composition root: configuration, plugins, fleet, pipeline and server put together.

=============  ==================================================================
``blueprint``  builds everything from a configuration, and starts nothing
``running``    starts, reloads, drains and stops what was built
``serving``    runs until a signal ends it
``process``    sockets, file descriptors, memory, systemd
``pages``      the paths that Nexus answers itself
``services``   the background services of plugins
``telemetry``  what observes every exchange
=============  ==================================================================
"""
