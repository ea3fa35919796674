"""Learning: the train step, the curriculum, forced vocabulary, gates, V.

Functions of arrays and roles. No config, no files, no meshes.
"""
