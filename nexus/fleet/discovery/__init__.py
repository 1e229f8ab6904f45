"""Finds servers that are not configured, and decides which of them join the fleet.

==============  ==================================================================
``discoverer``  the interface of everything that finds servers
``configured``  builds the discoverers that the configuration asks for
``mdns``        servers that announce themselves on the local network
``dns``         servers in the records of DNS names
``files``       backends in files that other programs write
``ports``       servers at the ports of this machine, of hosts and of subnets
``search``      runs the discoverers
``sightings``   what each discoverer sees now, and what has been missing since when
``approval``    asks for approval of servers that announced themselves
``admission``   decides which found servers join the fleet
``names``       gives each found server a unique name
``origins``     when each backend joined, and when it was last seen
``tcp_check``   whether a server accepts connections
==============  ==================================================================
"""
