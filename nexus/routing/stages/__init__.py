"""The two stages that the pipeline cannot do without."""
