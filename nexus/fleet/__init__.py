"""What Nexus knows about the backends: which there are, which models they have, and which can answer.

==============  ==================================================================
``fleet``       the whole fleet, as the proxy and the admin pages use it
``sharing``     lets several processes use one fleet: slots, rows, loads
``plan``        validates a new configuration of the fleet
``roster``      applies a new set of members
``added``       backends that were added at runtime
``discovery``   finds servers by mDNS, DNS, files and ports, and asks for approval
``membership``  the registry of backends, and the snapshot that routing reads
``health``      the status of each backend, its circuit breaker, its latency
``loads``       reads what engines report about their own load
``probing``     probes: health, kind and models of a server
``figures``     decodes these reports
``models``      the facts about each model: listed, looked up, guessed or overridden
``kinds``       the kinds of servers, one row each
``fetching``    the HTTP client of probes and discovery
``untrusted``   limits on the models that a server may list
``clock``       wall clock, timers and waits
==============  ==================================================================
"""
