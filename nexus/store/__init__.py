"""Data that survives a restart, behind one interface.

``store``        what every store offers
``memory``       a store in a dict
``sqlite``       a store in a file, with ``permission`` and ``opened_file`` to watch over that file
``watched``      the store as the running proxy uses it, with its failures counted
``kinds``        the built-in stores by name
"""
