"""The composition root: configuration, plugins, fleet, pipeline and server put together.

===============  ==================================================================
``composition``  builds everything from a configuration, and starts nothing
``checks``       what ``nexus-proxy check`` looks at in addition
``running``      starts, reloads, drains and stops what was built
``workers``      several processes that serve together
``serving``      obeys signals until one ends it; lists the keys that a reload does not change
``process``      sockets, file descriptors, memory, systemd
===============  ==================================================================
"""
