"""The errors of backends and of Nexus.

``status``       the HTTP status of an error inside a stream
``context``      recognises an error that says that a prompt is too long
``presentable``  makes a text safe to show
"""
