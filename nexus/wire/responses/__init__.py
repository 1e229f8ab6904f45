"""The answers of backends, streamed or not.

``nature``      tells streams, documents, errors and web pages apart
``model_name``  restores the model's name that the client asked for
"""
