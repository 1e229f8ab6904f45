"""The composition root: configuration, plugins, fleet, pipeline and server put together; what knows all."""
