"""containerd's registry configuration: its hosts.toml files, read and written, and which of them it reads.

Decisions on texts (pure): `mirror` what to add, `part` what is ours in a file, `merge` the new text,
`hostsfile` what a file says, `plan` the changes to a directory, `registry` which directory containerd reads,
`advice` what is missing, `dropin`, `flavours`, `shown`, `toml`. I/O: `node` what is found on a node,
`tree` its paths, `nodeconfig`, `directory`, `replace`, `dropinfile`; `named` is the probe's reading.
"""
