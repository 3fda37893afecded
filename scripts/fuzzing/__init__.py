"""What `scripts/fuzz.py` is made of: damage of every kind done to the library, and what it answers.

Every kind is a list of cases, each tried in a forked process (`apart`) and judged by what came
back (`outcome`). Nothing here is part of the package.
"""
