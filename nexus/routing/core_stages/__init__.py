"""The two built-in stages: ``analyze`` excludes backends that cannot answer, ``schedule`` ranks the rest."""
