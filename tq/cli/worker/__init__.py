"""`tq worker`: one process that runs tasks, or a supervisor over several.

command ─┬─▶ target (MODULE:OBJECT becomes a handler) ─▶ handler.run()
         └─▶ supervisor ─▶ children, each `tq worker` of one process      restarted, signalled and ended by their pid
             sources (what has changed on disk)
"""
