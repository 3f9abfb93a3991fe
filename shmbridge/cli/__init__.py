"""The command `shmbridge`. See docs/cli.md. A file imports only what stands below it here.

__main__.py     errors, exit codes
demo.py, bench.py, doctor.py, stats.py: the commands; what they work with is imported when they run
show.py         tables and bars with rich, which only this file imports
training.py     a small training, on made_up.py's files
exchange.py     the exchange, measured; null_sprint.py and pipe_echo.py are at the other end
machine.py, sprint.py: what can be wrong; sprint_probe.py is what Sprint imports
pools.py        pools that run in other processes
arguments.py    types of arguments
checks.py       what a check says
"""
