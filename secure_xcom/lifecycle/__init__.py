"""Rows and objects over their life: what counts, reclaims, deletes, rewraps and migrates them.

Everything here works on rows of the metadata database as texts, and knows Airflow by what it is
handed: an engine, and the tables that `airflow/versions.py` names. A command gets both by
`airflow/metadata.py`, and then reads, and changes, row by row::

    rows = metadata.rows()
    for row in rows.stream():                     # live tables first, then the archives
        content = read(row, legacy_prefixes)      # what it holds: state, reference, preamble
        if content.state == "offloaded":
            rows.change(row, content.rewritten(new_row))   # False: somebody was faster; read again

A row that is gone or changed meanwhile is never written over: `change` and `delete` compare the
text that the database has now with the text that was read, in one statement.
"""
