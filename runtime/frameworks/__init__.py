"""Source frameworks as judges, each in a process of its own: the ``run_*.py`` here are scripts, never imported."""
