"""`tq demo`: one flow over every file of a folder. The shortest whole program on tq, to be read and to be killed.

    command ─▶ run (find the run that was left, or start one) ─▶ steps: measure, one per file ─▶ join: report.json
               files (what is there)                              executors                      report, summary

The database owns the truth about a run: which number it has, which files belong to it, how far it is. The process owns
nothing, so that it may be killed at any instant; the same command then goes on with the very same flow.
"""
