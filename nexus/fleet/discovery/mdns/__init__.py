"""Servers that announce themselves on the local network by mDNS, and the announcement of servers of this machine.

===================  ==================================================================
``discoverer``       browses for services, resolves them and connects to them
``service``          validates what a service announces
``instances``        the known servers, and which must leave when there are too many
``announcer``        announces a server of this machine
``multicast_check``  whether multicast works on this machine
``network``          joins and leaves the network
===================  ==================================================================
"""
