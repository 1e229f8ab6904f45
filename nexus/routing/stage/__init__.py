"""One stage of the pipeline.

============  ==================================================================
``api``       what a plugin's stage implements
``order``     the order of the stages
``runner``    calls a stage, and applies or discards its verdicts
``validate``  checks all verdicts of a stage before any of them counts
``health``    logs and counts failures of a stage, and switches it off after too many
``counters``  the numbers of all stages, which outlive reloads
============  ==================================================================
"""
