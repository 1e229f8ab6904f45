"""The pages that Nexus answers itself: each module has the response, the route and the description for OpenAPI.

=================  ==================================================================
``page``           encodes a page as JSON
``openapi``        ``Operation``, the description of a page; ``/openapi.json``
``health``         ``/health`` and ``/ready``
``models``         ``/v1/models``, ``/api/tags`` and the other lists of models
``backends``       ``/admin/backends``: lists, adds, changes, drains and approves
``routing``        ``/v1/route/decisions`` and ``/v1/route/explain``
``stats``          ``/v1/stats``; ``reports`` is what stages add to it, ``workers`` counts processes
``history``        ``/v1/history``: the last exchanges
``parts``          asks all workers for their parts of a page
``queue``          ``/admin/queue``: the requests that wait
``metrics``        ``/metrics``
``configuration``  ``/admin/config``: the configuration in force
``plugins``        ``/admin/plugins``, and the pages that plugins add
=================  ==================================================================
"""
