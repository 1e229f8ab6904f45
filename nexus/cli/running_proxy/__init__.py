"""A proxy that is already running, as a client sees it.

===================  ==================================================================
``target``           chooses the proxy that a command talks to
``proxy``            one proxy: its address, the key, requests and errors
``explaining``       asks it how it would route a request
``name_completion``  completes names of backends by asking it
===================  ==================================================================
"""
