"""The cases of scripts/make_goldens.py: one module a subject, each with `write(folder)`."""
