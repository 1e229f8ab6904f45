"""The backend's side of the proxy.

===================  ==================================================================
``backends``         the pool and the prepared header lines of each backend; removes its keys from its errors
``pool``             opens connections to one backend, reuses idle ones, closes expired ones
``rotation``         takes the addresses of one backend in turn
``connection``       writes one request, and passes on its response
``response_parser``  parses responses, limits their heads, and drops interim responses and trailers
===================  ==================================================================

Connecting, with the connect timeout and TLS, is :mod:`nexus.dialing`; the timeouts of a response are in
:mod:`nexus.proxy.exchange`.
"""
