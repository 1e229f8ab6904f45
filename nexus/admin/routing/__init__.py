"""The decisions about requests, and the reasons for them.

=============  ==================================================================
``decisions``  ``/v1/route/decisions``: lists the last ones, shows one
``explain``    ``/v1/route/explain``: routes a request without sending it
=============  ==================================================================
"""
