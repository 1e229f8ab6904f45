"""Decides what serves a request: an exchange, a page or a WebSocket.

==================  ==================================================================
``handler``         checks a request, and hands it to what serves it, or refuses it
``pages``           serves the pages and WebSockets of Nexus itself
``websocket``       one WebSocket
``explained_path``  the endpoint of a request that is only to be explained
``refusal_log``     limits the log lines about refused requests
==================  ==================================================================
"""
