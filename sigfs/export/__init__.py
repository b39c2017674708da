"""A view of a project as plain directories: links to the jobs, copies of them, or an archive.

Owned here: what stands in an exported tree and what becomes of it when it is exported again. Where a job stands is what
the mount would show, since the same `sigfs.tree.Tree` says it.
"""
