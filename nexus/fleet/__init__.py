"""What Nexus knows about the backends: which there are, which models they have, and which can answer.

==============  ==================================================================
``fleet``       the whole fleet, as the proxy and the admin pages use it
``discovery``   finds servers by mDNS, DNS, files and ports, and asks for approval
``membership``  the registry of backends, and the snapshot that routing reads
``kinds``       the kinds of servers, one row each
``probing``     probes: health, kind and models of a server
``health``      the status of each backend, its circuit breaker, what traffic tells about it
``models``      the facts about each model: listed, looked up, guessed or overridden
``plan``        validates a new configuration of the fleet; ``roster`` applies it
``added``       backends that were added at runtime
==============  ==================================================================
"""
