"""Data that survives a restart, behind one interface.

===============  ==================================================================
``store``        the interface of all stores, and its guarantees
``memory``       a store in a dict
``sqlite``       a store in a file
``permission``   whether the process may keep that file
``opened_file``  whether that file is still the one that was opened
``watched``      counts and logs failures of the store in the running proxy
``kinds``        the built-in stores by name
===============  ==================================================================
"""
