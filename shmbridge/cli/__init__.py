"""The command `shmbridge`: one file for each of its commands. See docs/cli.md.

__main__.py     arguments, errors, exit codes
demo.py         a small training, through made_up.py's files
bench.py        the exchange, measured; null_sprint.py and pipe_echo.py are at the other end
doctor.py       what can be wrong; machine.py and sprint.py look, sprint_probe.py is what Sprint imports
stats.py        pools that run in other processes
show.py         tables and bars with rich, which only this file imports
"""
