"""The dashboard for people; its script and styles are in ``static``.

==============  ==================================================================
``dashboard``   the routes, and where the figures come from
``front_page``  ``/`` in a browser: a table that needs no script
``overview``    everything that the page shows, as JSON; ``shared_overview`` is that of all workers
``feed``        sends changes to all viewers once a second
``tickets``     lets a browser open the feed without sending a key; ``shared_tickets`` do that at all workers
``spend``       records this month's cost for the chart
``assets``      loads the files in ``static``
==============  ==================================================================
"""
