"""Rules that the types of the schema cannot express.

===============  ==================================================================
``checks``       rules between keys, and the spelling of names
``unused``       keys that are set and have no effect
``urls``         the canonical spelling of backend URLs
``proxies``      the HTTP proxy on the way to a backend
``scan_places``  entries of ``[[discovery.hosts]]``
===============  ==================================================================
"""
