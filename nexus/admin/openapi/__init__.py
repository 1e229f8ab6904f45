"""Describes every path that Nexus serves.

=============  ==================================================================
``operation``  the description of one page, and the route that carries it
``document``   builds ``/openapi.json`` from the routes in force
=============  ==================================================================
"""
