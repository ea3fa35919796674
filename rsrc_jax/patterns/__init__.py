"""Arrow diagrams of roles, each make(context, **settings) -> Pattern.

No config, no files, no meshes; no pattern imports what another one owns,
but ccv, which plays cdv. probes.py is no pattern: it is the role Q of qa.
"""
