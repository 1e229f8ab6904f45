"""Which backends belong to the fleet: ``registry`` publishes a new snapshot (``publication``) at every change.

``member`` is one backend as it was configured or found, ``identity`` its id, ``locations`` whether its address is
public, and ``upstream_settings`` how it is reached.
"""
