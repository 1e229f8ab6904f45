"""The two stages that the pipeline cannot do without: which backends can answer, and which of them gets the request."""
