"""One stage of the pipeline.

============  ===========================================================
``api``       what a plugin's stage implements
``order``     the order of the stages
``runner``    calls a stage, and applies or discards its verdicts
``validate``  checks all verdicts of a stage before any of them counts
``health``    logs, counts and limits the failures of a stage
``counters``  the numbers of all stages, which outlive reloads
============  ===========================================================
"""
