"""Data that survives a restart, behind one interface.

===============  ==================================================================
``store``        the interface of all stores, and its guarantees
``memory``       a store in a dict
``sqlite``       a store in a file
``permission``   whether the process may keep that file
``opened_file``  whether that file is still the one that was opened
``channel``      the store of another process, by way of a channel to it
``shared``       what a store of several replicas can do besides
``watched``      counts and logs failures of the store in the running proxy
``kinds``        the built-in stores by name
===============  ==================================================================
"""
