"""Connects to backends, for traffic and probes alike.

=====================  ==================================================================
``upstream_settings``  what one backend needs: credentials, path, TLS and proxy
``dial``               opens a connection: name, addresses, proxy and TLS handshake
``names``              caches the addresses of host names, and resolves them again
``lookups``            one lookup of a host name
``tunnel``             a connection through an HTTP proxy
``metadata``           metadata addresses of clouds, which are not connected to
``tls``                shared TLS contexts
``certificates``       whether certificates have expired
``age``                for how long a connection may be reused
``connector``          aiohttp's connector on top of ``dial``
=====================  ==================================================================
"""
