"""Several processes that serve together: a parent, which serves no client, and its workers.

``python -m nexus.app.workers`` is the process of a worker.

=================  ==================================================================
The parent
``parent``         owns the port, and starts, reloads and stops the workers as one proxy
``supervisor``     keeps each worker running
``child``          one worker as the parent sees it: its process and the channel to it
``restarts``       when a worker that ended is started again, and when to give up
``sockets``        one listening socket for each worker
``queues``         how much waits in the queues of the others
``balance``        which workers have more requests than their share
The worker
``worker``         runs a proxy and obeys the parent
``adoption``       accepts connections at the sockets of workers that have ended or hang
``inherited``      what a worker has of its parent instead of its own
Both
``messages``       what they send each other
=================  ==================================================================
"""
