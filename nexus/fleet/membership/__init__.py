"""The members of the fleet and the registry that publishes them.

===============  ==================================================================
``member``       one backend as configured or found
``identity``     makes the id of a backend from its name
``locations``    derives from a backend's URL where it is
``settings``     builds the upstream settings of a backend from its configuration
``registry``     publishes one immutable snapshot per change
``publication``  derives the next snapshot from the last one
===============  ==================================================================
"""
