"""The cases of scripts/goldens/make_goldens.py: one module a subject, each with `write(folder)`."""
