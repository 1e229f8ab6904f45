"""One stage of the pipeline: its interface for plugins, how it is run, validated, counted and switched off."""
