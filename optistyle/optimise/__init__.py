"""The optimisation: the objective, its tiles, the solvers, and one scale of steps."""
