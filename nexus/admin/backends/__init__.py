"""``/admin/backends``: shows the backends, and changes the fleet.

================  ==================================================================
``pages``         the routes, and which function answers which method
``view``          what is shown of a backend: what routing knows about it
``loads``         the figures of several workers together
``applicants``    what is shown of servers that wait for approval
``files``         what is shown of watched files
``changes``       adds, changes and removes backends
``actions``       drains, undrains, approves and rejects
``last_holders``  the models that only one healthy backend has
================  ==================================================================
"""
