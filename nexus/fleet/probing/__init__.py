"""Probes: whether a backend is healthy, of which kind it is, and which models it has.

==============  ==================================================================
``probe``       one probe of one backend
``detection``   finds out the kind of a server
``session``     sends each request of a probe once, however many steps need its response
``completion``  looks up what the list of models leaves open
``result``      what a probe found
``counts``      counts results and latencies for metrics
==============  ==================================================================
"""
