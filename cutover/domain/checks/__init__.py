"""The checks that gates are made of: a pure function each, from `Evidence` to one `Check`.

`service`: is the daemon itself in order. `plugin`: is the plugin fit to be written to. `copying`: has everything
arrived. `proof`: do the sweeps say so. Which gate asks for which is in `gate.py`.
"""
