"""The command `shmbridge`, described in docs/cli.md. Each file imports only files listed below it.

__main__.py     parses arguments, reports errors, sets exit codes
demo.py, bench.py, doctor.py, stats.py: the commands; each imports its tools only when it runs
show.py         tables and progress bars; the only file that imports rich
plain.py        what doctor and stats print without rich
training.py     a small training on the corpus of synthetic.py
exchange.py     measures the exchange; null_sprint.py and pipe_echo.py are the processes at the other end
machine.py, sprint.py: the doctor's checks; sprint_probe.py runs inside the Sprint that is checked
pools.py        finds and queries pools of other processes
arguments.py    argument types
checks.py       the result of a check
"""
