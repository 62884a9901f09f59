"""containerd's registry configuration: its hosts.toml files, read and written, and which of them it reads.

Pure: `mirror` (what to add), `part` (what is ours in a file), `merge` (the new text), `hostsfile` (what a
file says), `plan` (the changes to a directory), `registry` (which directory containerd reads), `advice`,
`dropin`, `flavours`. I/O: `named` (the probe's reading), `tree` (the node's files), `directory`, `replace`,
`nodeconfig`.
"""
