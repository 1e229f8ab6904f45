"""The errors of backends, and texts that are safe to show.

=================  ==================================================================
``status``         the HTTP status of an error inside a stream
``context``        recognises the error that a prompt is too long
``unknown_path``   recognises the error of a server that does not know the path
``missing_model``  recognises the error that a model is unknown
``presentable``    makes a text safe to show
=================  ==================================================================
"""
