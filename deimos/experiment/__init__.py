"""One run, from its settings to its last batch (§5, App. D).

    runs             settings, members, slices of a fleet, and named random streams
    methods          every acquisition function by name, and what it is shown
    iteration        one step: label, fit, evaluate, acquire
    loop             a fleet of runs, step by step to the end
    settings_check   every problem of the settings, told before any work starts

A run depends on its settings, method and repeat alone, never on the fleet around it.
"""
