"""The answers of backends.

==============  ==================================================================
``nature``      distinguishes streams, documents, errors and web pages
``model_name``  restores the model's name that the client asked for
==============  ==================================================================
"""
