"""Whether a backend can be given a request: probes that are scheduled, and failures of real traffic.

====================  ==================================================================
``checker``           runs the watch of each backend, and probes on demand
``watch``             schedules the probes of one backend and applies every result
``state``             the status after each probe: a state machine
``passive``           applies the outcome of each attempt: to breakers, latency, cooling after a Retry-After
``evidence``          what an attempt proves about its backend
``breaker``           the circuit breaker: a state machine, which :mod:`nexus.routing.core_stages` obeys
``tracks``            what is remembered between outcomes
``misconfiguration``  backends that refuse their configured key
====================  ==================================================================
"""
