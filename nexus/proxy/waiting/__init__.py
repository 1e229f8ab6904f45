"""The queue in which requests wait while every backend that could answer is at its limit.

===================  ==============================================================================
``request_queue``    the queue as exchanges use it: waits, limits, freed slots, timers; start here
``claim``            what a request waits with, and what an attempt to serve it finds
``fair_queue``       the order of the requests that wait, without any I/O
``turns``            which client is next at one backend
``crowd``            which client has the most requests waiting
``sharing``          what other workers leave of the limits
``service_rate``     how fast a backend takes requests from the queue
``forecast``         how long a request will wait, and the errors that say so
``counts``           what became of the requests that have waited
===================  ==============================================================================
"""
