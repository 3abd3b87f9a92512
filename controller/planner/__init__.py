"""Planners turn what is known into advice (`Plan`). They import the core and, at most, a solver."""
