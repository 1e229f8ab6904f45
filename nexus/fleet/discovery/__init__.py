"""Finds backends that are not configured: ``mdns``, ``dns``, ``files`` and ``ports`` each have a ``discoverer``.

``search`` runs the discoverers and collects their ``sightings``; ``approval`` decides about servers that announce
themselves, ``admission`` which servers join the fleet, and ``names`` how they are called.
"""
